"use strict";
// The browser of rows. All state is in `state` and mirrored in the address; text from data only ever becomes textContent.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const form = byId("filters").elements;
const collator = new Intl.Collator(undefined, { numeric: true });

const defaults = { dataset: "", judge: "", status: "", column: "", value: "", text: "", size: "25",
  sort: "disagreement", order: "desc", page: "1", open: "" };
let state = { ...defaults };

// ---- Rows ----------------------------------------------------------------------------------------------------------

const judgmentsOf = (row) => (state.judge === "" ? row.judgments : [row.judgments[data.judges.indexOf(state.judge)]]).filter(Boolean);
const defined = (values) => values.filter((value) => value !== null && value !== undefined);
const largest = (values) => (values.length ? Math.max(...values) : null);
const smallest = (values) => (values.length ? Math.min(...values) : null);
const error = (row, judgment) => (judgment.expected === null || row.target === null ? null : Math.abs(judgment.expected - row.target));
const show = (value, digits = 2) => (value === null || value === undefined ? "n/a" : String(+value.toFixed(digits)));
const fixed = (value, digits = 2) => (value === null || value === undefined ? "n/a" : value.toFixed(digits));
const textOf = (value) => (typeof value === "string" ? value : JSON.stringify(value));

function statusOf(row) {
  const bad = judgmentsOf(row).filter((judgment) => judgment.status !== "ok").map((judgment) => judgment.status);
  return bad.length ? [...new Set(bad)].join(", ") : "ok";
}

function gap(row) {
  const scores = defined(row.judgments.map((judgment) => judgment && judgment.expected));
  return scores.length > 1 ? Math.max(...scores) - Math.min(...scores) : null;
}

const figureOf = (name, pick) => (row) => pick(defined(judgmentsOf(row).map((judgment) => judgment[name])));

// Columns of the table: key, title, value of a row, whether it is a figure, and what a title's tooltip says
function columns() {
  const shown = state.judge === "" ? data.judges : [state.judge];
  const list = [
    { key: "id", title: "id", value: (row) => row.id, help: "Row" },
    { key: "snippet", title: "text", value: (row) => row.snippet, help: "What its prompt has of its own" },
    { key: "target", title: "true y*", value: (row) => row.target, figure: true, help: "True score" },
    ...shown.map((judge) => ({ key: `score:${judge}`, title: `predicted ŷ, ${judge}`, figure: true, help: `Expected score of ${judge}`,
      value: (row) => { const judgment = row.judgments[data.judges.indexOf(judge)]; return judgment && judgment.expected; } })),
    { key: "disagreement", title: "error |ŷ − y*|", figure: true, help: "Distance of expected and true score",
      value: (row) => largest(defined(judgmentsOf(row).map((judgment) => error(row, judgment)))) },
    { key: "spread", title: "spread", value: figureOf("spread", largest), figure: true, help: "Standard deviation of the score" },
    { key: "mass", title: "mass", value: figureOf("mass", smallest), figure: true, digits: 3, help: "Probability on the labels" },
    { key: "tokens", title: "tokens", value: figureOf("tokens", largest), figure: true, digits: 0, help: "Generated tokens" },
    { key: "status", title: "status", value: statusOf, help: "Whether the answer had a score of its own" },
  ];
  if (Object.keys(data.datasets).length > 1) list.unshift({ key: "dataset", title: "dataset", value: (row) => row.dataset, help: "Dataset" });
  if (data.judges.length > 1) {
    const place = list.findIndex((column) => column.key === "spread");
    list.splice(place, 0, { key: "gap", title: "between judges", value: gap, figure: true, help: "Largest difference between two judges" });
  }
  return list;
}

function matches(row) {
  if (state.dataset !== "" && row.dataset !== state.dataset) return false;
  const judgments = judgmentsOf(row);
  if (!judgments.length) return false;
  if (state.status !== "" && !judgments.some((judgment) => judgment.status === state.status)) return false;
  if (state.column !== "" && state.value !== "" && textOf(row.kept[state.column]) !== state.value) return false;
  return state.text === "" || haystack(row).includes(state.text.toLowerCase());
}

function haystack(row) {
  row.haystack ??= [row.id, ...defined(row.judgments).flatMap((judgment) => [data.prompts[judgment.prompt], judgment.head, judgment.rationale, judgment.tail])]
    .join("\n").toLowerCase();
  return row.haystack;
}

function selected() {
  const column = columns().find((each) => each.key === state.sort) ?? columns()[0];
  const direction = state.order === "asc" ? 1 : -1;
  const keyed = data.rows.map((row, index) => ({ row, index })).filter(({ row }) => matches(row));
  keyed.forEach((item) => { item.key = column.value(item.row); });
  return keyed.sort((a, b) => {
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.index - b.index; // n/a comes last
    const compared = typeof a.key === "number" ? a.key - b.key : collator.compare(a.key, b.key);
    return direction * compared || a.index - b.index;
  });
}

// ---- Drawing -------------------------------------------------------------------------------------------------------

function element(name, attributes = {}, ...children) {
  const svg = ["svg", "rect", "line", "text", "title"].includes(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function drawTable() {
  const list = columns();
  const rows = selected();
  const pages = Math.max(1, Math.ceil(rows.length / +state.size));
  const page = Math.min(Math.max(1, Math.trunc(+state.page) || 1), pages);
  state.page = String(page);

  const header = element("tr");
  for (const column of list) {
    const sorted = column.key === state.sort;
    const mark = sorted ? (state.order === "asc" ? " ▲" : " ▼") : "";
    const button = element("button", { type: "button", title: `${column.help}: sort`, "data-sort": column.key }, column.title + mark);
    const attributes = { scope: "col", ...(column.figure && { class: "figure" }) };
    if (sorted) attributes["aria-sort"] = state.order === "asc" ? "ascending" : "descending";
    header.append(element("th", attributes, button));
  }
  document.querySelector("#rows thead").replaceChildren(header);

  const open = new Set(state.open.split(",").filter(Boolean));
  const body = document.querySelector("#rows tbody");
  body.replaceChildren();
  for (const { row, index } of rows.slice((page - 1) * +state.size, page * +state.size)) {
    const isOpen = open.has(String(index));
    const line = element("tr", { class: "row", "data-index": index });
    for (const column of list) line.append(drawCell(row, index, column, isOpen));
    body.append(line);
    if (isOpen) body.append(element("tr", { class: "detail", id: `detail-${index}` }, element("td", { colspan: list.length }, drawDetail(row))));
  }
  byId("count").textContent = `${rows.length} of ${data.rows.length} rows`;
  byId("page").textContent = `page ${page} of ${pages}`;
  byId("previous").disabled = page <= 1;
  byId("next").disabled = page >= pages;
}

function drawCell(row, index, column, isOpen) {
  const value = column.value(row);
  if (column.key === "id") {
    const button = element("button", { type: "button", "aria-expanded": isOpen, "data-index": index }, `${isOpen ? "▾" : "▸"} ${row.id}`);
    if (isOpen) button.setAttribute("aria-controls", `detail-${index}`);
    return element("td", { class: "id" }, button);
  }
  const bad = column.key === "status" && value !== "ok";
  const attributes = column.figure ? { class: "figure" } : bad ? { class: "bad" } : {};
  if (column.key === "snippet") return element("td", { class: "snippet" }, element("div", {}, value));
  return element("td", attributes, column.figure ? (column.key === "target" ? show(value) : fixed(value, column.digits)) : value);
}

// ---- State ---------------------------------------------------------------------------------------------------------

function fillSelect(select, options, all) {
  const entries = all === null ? [] : [["", all]];
  select.replaceChildren(...[...entries, ...options.map((option) => [option, option])].map(([value, title]) => element("option", { value }, title)));
}

function fillFilters() {
  // A column with many values, such as a text, is for the search
  const kept = [...new Set(data.rows.flatMap((row) => Object.keys(row.kept)))].filter((column) => valuesOf(column).length <= 100);
  fillSelect(form.dataset, Object.keys(data.datasets), "all");
  fillSelect(form.judge, data.judges, "all");
  fillSelect(form.status, [...new Set(data.rows.flatMap((row) => defined(row.judgments).map((judgment) => judgment.status)))].sort(), "any");
  fillSelect(form.column, kept, "none");
  fillSelect(form.size, ["10", "25", "50", "100"], null);
}

const valuesOf = (column) => [...new Set(data.rows.filter((row) => column in row.kept).map((row) => textOf(row.kept[column])))];

function fillValues() {
  fillSelect(form.value, state.column === "" ? [] : valuesOf(state.column).sort(collator.compare), "any");
}

function readAddress() {
  const address = new URLSearchParams(location.hash.slice(1));
  state = { ...defaults };
  for (const key of Object.keys(defaults)) if (address.has(key)) state[key] = address.get(key);
  fillValues();
  for (const name of ["dataset", "judge", "status", "column", "value", "text", "size"]) {
    form[name].value = state[name];
    if (form[name].value !== state[name]) state[name] = form[name].value = defaults[name]; // no such option
  }
  // A link to a row leads to its page, unless the address names one
  const first = state.open.split(",")[0];
  const place = selected().findIndex(({ index }) => String(index) === first);
  if (!address.has("page") && place >= 0) state.page = String(1 + Math.floor(place / +state.size));
}

function update(changes) {
  Object.assign(state, changes);
  drawTable();
  const changed = Object.entries(state).filter(([key, value]) => value !== defaults[key]);
  history.replaceState(null, "", `#${new URLSearchParams(changed)}`);
}

function toggle(index) {
  const open = new Set(state.open.split(",").filter(Boolean));
  if (!open.delete(index)) open.add(index);
  update({ open: [...open].join(",") });
  document.querySelector(`#rows button[data-index="${index}"]`)?.focus({ preventScroll: true });
}

byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("change", ({ target }) => {
  if (target.name === "text") return;
  const changes = { [target.name]: target.value, page: "1" };
  if (target.name === "column") changes.value = "";
  // Sorted by a column that is no longer there: by disagreement again
  Object.assign(state, changes);
  if (!columns().some((column) => column.key === state.sort)) Object.assign(state, { sort: defaults.sort, order: defaults.order });
  if (target.name === "column") fillValues();
  update({});
});
let waiting;
form.text.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => update({ text: form.text.value, page: "1" }), 150);
});
byId("filters").addEventListener("reset", (event) => {
  event.preventDefault();
  history.replaceState(null, "", "#browse");
  readAddress();
  drawTable();
});
byId("rows").addEventListener("click", ({ target }) => {
  const sort = target.closest("button[data-sort]")?.dataset.sort;
  if (sort !== undefined) {
    const first = ["dataset", "id", "snippet", "mass"].includes(sort) ? "asc" : "desc";
    const order = state.sort === sort ? (state.order === "asc" ? "desc" : "asc") : first;
    update({ sort, order, page: "1" });
    document.querySelector("#rows th[aria-sort] button").focus({ preventScroll: true });
    return;
  }
  const line = target.closest("tr.row");
  if (line && getSelection().isCollapsed) toggle(line.dataset.index);
});
byId("previous").addEventListener("click", () => update({ page: String(+state.page - 1) }));
byId("next").addEventListener("click", () => update({ page: String(+state.page + 1) }));
// A link to a section leaves the rows as they are
addEventListener("hashchange", () => { if (location.hash.includes("=")) { readAddress(); drawTable(); } });

fillFilters();
readAddress();
drawTable();
if (location.hash.includes("=")) (document.querySelector("#rows button[aria-expanded=true]") ?? byId("browse")).scrollIntoView();
