// An opened row: prompts, and of each judge the answer with its distribution. Follows page.js in one script.

function drawDetail(row) {
  const box = element("div");
  const kept = Object.entries(row.kept).map(([name, value]) => [name, value === null ? "n/a" : textOf(value)]);
  const isLong = ([, text]) => text.length > 80;
  const facts = [`row ${row.row} of ${row.dataset}`, `group: ${row.group}`];
  if (row.ratings) facts.push(`ratings: ${row.ratings.map((rating) => show(rating)).join(", ")}`);
  facts.push(...kept.filter((each) => !isLong(each)).map(([name, text]) => `${name}: ${text}`));
  box.append(element("p", { class: "facts" }, facts.join(" · ")));

  const shown = data.judges.map((judge, place) => ({ judge, judgment: row.judgments[place] }))
    .filter(({ judge, judgment }) => judgment && (state.judge === "" || judge === state.judge));
  const prompts = new Map(); // index of the prompt → the judges that were given it
  for (const { judge, judgment } of shown) prompts.set(judgment.prompt, [...(prompts.get(judgment.prompt) ?? []), judge]);
  for (const [prompt, judges] of prompts) {
    box.append(element("h4", {}, prompts.size > 1 ? `Prompt (${judges.join(", ")})` : "Prompt"));
    box.append(element("div", { class: "text prompt", tabindex: "0" }, data.prompts[prompt]));
  }
  for (const [name, text] of kept.filter(isLong)) {
    box.append(element("h4", {}, name), element("div", { class: "text prompt", tabindex: "0" }, text));
  }
  const cards = element("div", { class: "cards" });
  for (const { judge, judgment } of shown) cards.append(drawCard(row, judge, judgment));
  box.append(cards);
  return box;
}

function drawCard(row, judge, judgment) {
  const status = element("span", judgment.status === "ok" ? {} : { class: "bad" }, judgment.status);
  const facts = [`predicted ŷ ${show(judgment.expected, 3)}`, `error |ŷ − y*| ${show(error(row, judgment), 3)}`, `sampled ${show(judgment.sampled)}`,
    `most likely ${show(judgment.likely)}`, `spread ${show(judgment.spread, 3)}`, `mass ${show(judgment.mass, 4)}`];
  if (judgment.missing) facts.push(`missing mass ${show(judgment.missing, 4)}`);
  facts.push(`${show(judgment.tokens, 0)} tokens`);
  if (judgment.entropy !== null) facts.push(`entropy ${show(judgment.entropy)} nats`);
  const text = element("div", { class: "text", tabindex: "0" }, element("span", { class: "head" }, judgment.head), judgment.rationale,
    element("span", { class: "tail" }, judgment.tail));
  return element("article", { class: "card" }, element("header", {}, element("h4", {}, judge), status),
    element("p", { class: "facts" }, facts.join(" · ")), ...(judgment.error ? [element("p", { class: "bad" }, judgment.error)] : []),
    drawDistribution(row, judgment), text);
}

function drawDistribution(row, judgment) {
  const { labels, values } = data.datasets[row.dataset];
  if (!judgment.p) return element("p", { class: "facts" }, "No distribution was read.");
  const [width, left, right, top, bottom] = [480, 52, 52, 20, 128];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const sorted = [...values].sort((a, b) => a - b);
  const step = Math.min(...sorted.slice(1).map((value, place) => value - sorted[place]), high - low || 1);
  const half = step / 2;
  const x = (value) => left + ((value - low + half) / (high - low + 2 * half)) * (width - left - right);
  const peak = Math.max(...defined(judgment.p), 1e-9);
  const description = labels.map((label, place) => `${label}: ${judgment.p[place] === null ? "unknown" : show(100 * judgment.p[place], 1) + "%"}`);
  const svg = element("svg", { viewBox: `0 0 ${width} 150`, role: "img",
    "aria-label": `Score distribution, y* ${show(row.target)}, ŷ ${show(judgment.expected)}. ${description.join(", ")}` });
  const bar = Math.max(1, 0.84 * (x(low + step) - x(low)));
  values.forEach((value, place) => {
    const p = judgment.p[place];
    const height = p === null ? bottom - top - 10 : (p / peak) * (bottom - top - 10);
    svg.append(element("rect", { class: p === null ? "unknown" : "p", x: x(value) - bar / 2, y: bottom - height, width: bar, height },
      element("title", {}, description[place])));
  });
  svg.append(element("line", { class: "axis", x1: left, x2: width - right, y1: bottom, y2: bottom }));
  svg.append(element("text", { x: 0, y: top + 14 }, `${show(100 * peak, 0)}%`), element("text", { x: 0, y: bottom }, "0"));
  // As many labels as fit side by side
  const room = Math.max(...labels.map((label) => Math.min(label.length, 12))) * 6.5 + 10;
  const fitting = room / (x(low + step) - x(low)) - 1e-9;
  const every = [1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1000, 10000].find((count) => count >= fitting);
  labels.forEach((label, place) => {
    if (place % every === 0) svg.append(element("text", { x: x(values[place]), y: 144, "text-anchor": "middle" }, label.length > 12 ? `${label.slice(0, 11)}…` : label, element("title", {}, label)));
  });
  const marks = [["true", "y*", row.target], ["predicted", "ŷ", judgment.expected]].filter(([, , value]) => value !== null);
  for (const [name, title, value] of marks) {
    const other = marks.find(([each]) => each !== name)?.[2] ?? -Infinity;
    const isLeft = value < other || (value === other && name === "true"); // so that the two names never overlap
    const place = x(Math.min(Math.max(value, low - half), high + half));
    svg.append(element("line", { class: name, x1: place, x2: place, y1: top - 4, y2: bottom }));
    svg.append(element("text", { class: `${name}-name`, x: place + (isLeft ? -3 : 3), y: top - 8, "text-anchor": isLeft ? "end" : "start" }, `${title} ${show(value)}`));
  }
  return svg;
}
