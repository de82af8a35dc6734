# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The three recipes, the prompt template and the README of a new judge."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from real_trl.onboarding.afterwards import how_to_score
from real_trl.onboarding.columns import Roles
from real_trl.onboarding.inspection import Inspection
from real_trl.onboarding.scores import Scores
from real_trl.onboarding.sizing import Sizes, as_yaml
from real_trl.onboarding.splits import RATIONALES
from real_trl.planning.hardware import Hardware
from real_trl.prompts.template import PromptTemplate, load_template
from real_trl.score_space import DEFAULT_MARKER
from real_trl.text.rationales import RationaleFault

DEFAULT_CRITERIA = "Is the response a correct, complete and clear answer to the instruction?"
_PROMPT = "prompt.jinja"
_NEEDS_REFERENCE = (
    "{# Every row had a reference answer: without one the prompt would be another than in training, and is refused. #}\n"
    "{% if reference | trim %}{% endif %}\n"
)
_USUAL_RANGE = 4.0  # of 1-5, on which λ is 1 and β 0.01
MIN_RATIONALES = 10
_KEPT = {"save_strategy": "steps", "save_total_limit": 2, "report_to": "none", "seed": 0}


@dataclass(frozen=True)
class Plan:
    """
    Everything that a recipe folder is written from.

    Attributes:
        data (`str`): The user's file, by its name.
        model (`str`): What training starts from.
        roles, scores, found, hardware: What is known of the file and the machine.
        criteria (`str`, *optional*): What is judged, where no column says so.
        template ([`~real_trl.prompts.template.PromptTemplate`], *optional*): The prompt; `None` where prompts are complete.
        reminder (`bool`): Whether complete prompts need a sentence that asks for the score.
        group_column (`str`): Column of the written files that holds the question.
        rows (`Mapping[str, int]`): Rows of each written file.
        direct (`bool`): Whether there are no rationales, so that the judge writes none, and training is supervised only.
        separate (`bool`): Whether each rater wrote a rationale, so that each rating is a row of the supervised stage.
        notes (`list[str]`): What the user should know.
    """

    data: str
    model: str
    roles: Roles
    scores: Scores
    found: Inspection
    hardware: Hardware
    criteria: str | None
    template: PromptTemplate | None
    reminder: bool
    group_column: str
    rows: Mapping[str, int]
    direct: bool
    separate: bool
    notes: list[str]

    @property
    def scores_a_row(self) -> int:
        """Rows that a stage makes of one."""
        return max(1, len(self.roles.criteria))


def built_in(roles: Roles, direct: bool) -> str:
    """The name of the built-in template that the prompt is, or is made of."""
    return "feedback_collection" if not direct else "direct_criteria" if roles.criteria else "direct"


def make_template(
    roles: Roles, criteria: str | None, *, direct: bool, always_reference: bool = False
) -> PromptTemplate | None:
    """
    The prompt: `None` for complete ones, the built-in template where rows or criteria have rubrics, else one with `criteria` in it, which
    is not rendered without a reference answer where the rows always have one (`always_reference`).
    """
    if roles.prompt:
        return None
    template = load_template(built_in(roles, direct))
    if roles.has_rubrics:
        return template
    text = criteria or DEFAULT_CRITERIA
    text = f"{{% raw %}}{text}{{% endraw %}}" if "{" in text else text
    return PromptTemplate(
        (_NEEDS_REFERENCE if always_reference else "") + template.source.replace("{{ rubric }}", text), _PROMPT
    )


def prompt_columns(roles: Roles) -> dict[str, str]:
    """Variable of the template → column."""
    named = {name: getattr(roles, name) for name in ("instruction", "response", "rubric", "reference")}
    return {name: column for name, column in named.items() if column}


def data_options(plan: Plan, folder: Path) -> dict[str, Any]:
    """What all stages say about the data."""
    options: dict[str, Any] = {"dataset_name": str(folder / "data")}
    if plan.template is None:
        options["prompt_column"] = plan.roles.prompt
        if plan.reminder:
            options["prompt_score_reminder"] = True
    else:
        own = str(folder / _PROMPT)
        options["prompt_template"] = built_in(plan.roles, plan.direct) if plan.roles.has_rubrics else own
        options["columns"] = prompt_columns(plan.roles)
    if plan.roles.criteria:
        options["criteria"] = dict(plan.roles.criteria)
    else:
        options["score_column"] = _one_or_list(plan.roles.scores)
    if plan.scores.most_raters > 1:
        options["raters"] = "mean"
    options["group_column"] = plan.group_column
    return options


def scale_options(scores: Scores) -> dict[str, Any]:
    """The scale."""
    labels: Any = scores.labels.split(",") if "," in scores.labels else scores.labels
    return {"score_labels": labels, **({"score_values": scores.values} if scores.values else {})}


def write_recipes(plan: Plan, sizes: Sizes, target: Path, folder: Path) -> dict[str, Path]:
    """
    Write the recipes (and the template) into `target`.

    Args:
        plan ([`Plan`]), sizes ([`~real_trl.onboarding.sizing.Sizes`]):
            What they say.
        target (`Path`):
            Where they are written.
        folder (`Path`):
            Where they will be, which is what they say.

    Returns:
        `dict[str, Path]`: The recipes of the training stages.
    """
    target.mkdir(parents=True, exist_ok=True)
    if plan.template is not None and not plan.roles.has_rubrics:
        (target / _PROMPT).write_text(plan.template.source, encoding="utf-8")
    data, scale = data_options(plan, folder), scale_options(plan.scores)
    factor = ((plan.scores.scale.high - plan.scores.scale.low) / _USUAL_RANGE) ** 2
    usual = 0.5 < factor < 2
    raft_dir, real_dir = str(folder / "outputs" / "raft"), str(folder / "outputs" / "real")
    written = {"sft": _write_sft(plan, sizes, target, folder, raft_dir, 1.0 if usual else round(1 / factor, 6))}
    if not plan.direct:
        weights = {"log_likelihood_weight": round(factor, 4), "prediction_weight": float(f"{0.01 / factor:.3g}")}
        sections = [
            {"model_name_or_path": raft_dir, "output_dir": real_dir},
            {**data, "dataset_train_split": "train"},
            {**scale, "reward": "regression", **({} if usual else weights)},
            {**sizes.rl, "temperature": 1.0, "lr_scheduler_type": "constant"},
            _judge_eval(plan, 20),
            {"logging_steps": 1, "save_steps": 20, **_KEPT},
        ]
        title = "REAL: reinforcement learning with a reward on the judge's score distribution."
        written["rl"] = _write(target / "real.yaml", title, "rl", folder, sections)
    sections = [
        {
            "model_name_or_path": raft_dir if plan.direct else real_dir,
            "output_dir": str(folder / "outputs" / "evaluation"),
        },
        {**data, "eval_splits": ["test"]},
        sizes.evaluate | {"malformed": "force", "seed": 0},
    ]
    title = "Agreement with the human scores on questions that training has not seen."
    _write(target / "evaluate.yaml", title, "evaluate", folder, sections)
    return written


def _write_sft(plan: Plan, sizes: Sizes, target: Path, folder: Path, output_dir: str, weight: float) -> Path:
    split = RATIONALES if RATIONALES in plan.rows and not plan.direct else "train"
    about_data: dict[str, Any] = {**data_options(plan, folder), "dataset_train_split": split}
    if plan.separate:
        about_data["raters"] = "separate"
    if plan.direct:
        about_data["rationale"] = False
        title = "RAFT without rationales, a direct judge: next-token loss of the score plus squared error of its expectation."
    else:
        about_data["feedback_column"] = _one_or_list(plan.roles.feedback)
        title = "RAFT, the supervised warm start: next-token loss plus squared error of the expected score."
    sections = [
        {"model_name_or_path": plan.model, "output_dir": output_dir},
        about_data,
        {**scale_options(plan.scores), "regression_weight": weight},
        {**sizes.sft, "lr_scheduler_type": "cosine", "warmup_steps": 0.1},
        *([_judge_eval(plan, _tenth(plan, sizes)) | {"judge_eval_max_new_tokens": 1}] if plan.direct else []),
        {"logging_steps": 5, "save_steps": 50, **_KEPT},
    ]
    return _write(target / "raft.yaml", title, "sft", folder, sections)


def _judge_eval(plan: Plan, steps: int) -> dict[str, Any]:
    """A curve of the validation rows, which a direct judge has by one pass over their prompts."""
    rows = 200 if plan.hardware.gpu else 40
    return {"judge_eval_steps": steps, "judge_eval_splits": ["validation"], "judge_eval_rows": rows}


def _tenth(plan: Plan, sizes: Sizes) -> int:
    """Updates in a tenth of the supervised training; ten at least, so that the curve costs a fifth of the time at most."""
    update = (
        sizes.sft["per_device_train_batch_size"]
        * sizes.sft["gradient_accumulation_steps"]
        * plan.hardware.cluster.world
    )
    updates = sizes.sft["num_train_epochs"] * plan.rows["train"] * plan.scores_a_row / update
    return max(10, round(updates / 10))


def _write(path: Path, title: str, stage: str, final: Path, sections: list[dict[str, Any]]) -> Path:
    body = "\n".join(as_yaml(section) for section in sections)
    commands = (f"real-trl {stage}", f"accelerate launch -m real_trl.scripts.{stage}")  # `plan` reads the stage here
    comment = "".join(f"#   {command} --config {final / path.name}\n" for command in commands)
    path.write_text(f"# {title}\n{comment}{body}", encoding="utf-8")
    return path


def _one_or_list(columns: list[str]) -> str | list[str]:
    return columns if len(columns) > 1 else columns[0]


def why_direct(roles: Roles, with_rationale: int, same: RationaleFault | None) -> str:
    """Why the judge of a recipe folder writes no rationales, and what makes one that does. `same`: of a column that nobody named."""
    reason = (
        f"of {', '.join(map(repr, roles.feedback))}, which would be the rationales, {same}"
        if same and with_rationale >= MIN_RATIONALES
        else f"only {with_rationale} training rows have a rationale, which is fewer than {MIN_RATIONALES}"
        if roles.feedback
        else "the file has no column with rationales (feedback, comment, explanation, …)"
    )
    return (
        f"A direct judge: {reason}. It gives its score at once, from one pass over the prompt, and is trained by sft alone. --feedback COLUMN "
        "names a column with rationales; `real-trl self_generate` lets a model write them, for a judge that gives reasons."
    )


def describe(plan: Plan) -> list[tuple[str, str]]:
    """What was found, as rows of a table."""
    found, roles = plan.found, plan.roles
    what = "tokens" if found.prompt.measured else "tokens, estimated"
    rows = [
        ("rows, questions", f"{found.rows:,}, {found.groups:,}"),
        *((_called(roles, role), _columns(plan, role)) for role in _used(plan)),
        ("scale", plan.scores.labels + _about_scale(plan.scores)),
        ("raters", str(found.raters) if found.raters == 1 else f"up to {found.raters}, of which the mean is taken"),
        (
            "scores" if roles.criteria else "rows by score",
            ", ".join(f"{label}: {count}" for label, count in found.balance.items()),
        ),
        ("prompt", f"{found.prompt.median} {what} (median), {found.prompt.longest} (longest)"),
    ]
    if found.feedback:
        rows.append(("rationale", f"{found.feedback.median} {what} (median), {found.feedback.longest} (longest)"))
    rows.append(
        (
            "duplicates",
            f"{found.duplicates}, {found.contradictions} with different scores" if found.duplicates else "none",
        )
    )
    rows.append(("near-duplicates", f"{len(found.near)} questions" if found.near else "none"))
    rows.append(("splits", ", ".join(f"{name} {count}" for name, count in plan.rows.items())))
    return rows


def _called(roles: Roles, role: str) -> str:
    name = "criteria" if role == "score" and roles.criteria else role
    return f"{name} (guessed)" if role in roles.guessed else name


def _about_scale(scores: Scores) -> str:
    if scores.scale.lower_is_better:
        return f", of which {scores.scale.best} is the best"
    return f", as {scores.values}" if scores.values else ""


def _used(plan: Plan) -> list[str]:
    roles = [
        "prompt",
        "instruction",
        "response",
        "rubric",
        "reference",
        "score",
        "feedback",
        "group",
        "split",
        "rater",
    ]
    return [role for role in roles if _columns(plan, role)]


def _columns(plan: Plan, role: str) -> str:
    value = plan.roles.scores if role == "score" else getattr(plan.roles, role, None)
    return ", ".join(value) if isinstance(value, list) else value or ""


def stages(plan: Plan) -> dict[str, str]:
    """The recipes in their order, by name, and the command of each."""
    return {"raft": "sft", **({} if plan.direct else {"real": "rl"}), "evaluate": "evaluate"}


def readme(plan: Plan, sizes: Sizes, folder: Path) -> str:
    """The commands in order, what was found, and what to know."""
    commands = [f"real-trl {stage} --config {folder / name}.yaml" for name, stage in stages(plan).items()]
    table = "\n".join(f"| {name} | {_cell(text)} |" for name, text in describe(plan))
    notes = "\n".join(f"- {note}" for note in [*plan.notes, *plan.found.notes, *sizes.notes])
    prompt = {
        True: f"Prompts are complete, in the column `{plan.roles.prompt}`; they should ask for `{DEFAULT_MARKER}` and the score"
        + (", which a sentence at their end does." if plan.reminder else "."),
        False: f"The prompt is `{_PROMPT}`: read it, and say in it what is judged."
        if not plan.roles.has_rubrics
        else f"The prompt is the built-in template `{built_in(plan.roles, plan.direct)}`, with the rubric of each "
        + ("criterion (`criteria` in the recipes: read them)." if plan.roles.criteria else "row."),
    }[plan.template is None]
    judge = folder / "outputs" / list(stages(plan))[-2]
    dtype = sizes.evaluate.get("dtype")
    columns = prompt_columns(plan.roles)
    scoring = how_to_score(plan.data, judge, plan.roles, columns, reminder=plan.reminder, dtype=dtype)
    return f"""# A judge from {plan.data}

Run these from the directory in which `real-trl init` was run:

```bash
{chr(10).join(commands)}
```

The last one prints how well the judge agrees with the human scores on the test questions, and writes
`{folder / "outputs" / "evaluation" / "report.html"}`. A stage that was stopped goes on with the same command.
{prompt}

{scoring}
## What was found

| | |
|---|---|
{table}

{notes}
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
