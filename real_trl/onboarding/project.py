# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From a file and what its user says about it to a recipe folder: everything is checked before anything is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from real_trl.data.arguments import DataArguments
from real_trl.data.files import Source
from real_trl.data.loading import load_judge_dataset, read_rows
from real_trl.data.missing import with_na
from real_trl.data.raters import merge_raters
from real_trl.data.scores import ratings_in
from real_trl.evaluation.cross_fitting import MIN_ROWS as CALIBRATION_ROWS
from real_trl.evaluation.resampling import MIN_GROUPS as INTERVAL_GROUPS
from real_trl.onboarding.columns import Roles, find_roles, values_of
from real_trl.onboarding.criteria import check_alone, notes_on_columns
from real_trl.onboarding.hours import stage_times
from real_trl.onboarding.inspection import (
    MIN_GROUPS,
    drop_incomplete,
    inspect,
    merges_all,
    missing_by_column,
    one_text,
)
from real_trl.onboarding.people import notes_on_people
from real_trl.onboarding.recipes import (
    DEFAULT_CRITERIA,
    MIN_RATIONALES,
    Plan,
    data_options,
    make_template,
    prompt_columns,
    readme,
    why_direct,
    write_recipes,
)
from real_trl.onboarding.scores import Scores, read_scores
from real_trl.onboarding.sizing import Sizes, choose_sizes, token_counter
from real_trl.onboarding.sources import is_on_hub, open_data
from real_trl.onboarding.splits import RATIONALES, divide, write_splits
from real_trl.option_values import FieldError
from real_trl.planning.hardware import find_hardware
from real_trl.prompts.template import PromptTemplate
from real_trl.runs.new_folder import check_new, new_folder
from real_trl.score_space import DEFAULT_MARKER
from real_trl.text.cells import is_empty

_README = "README.md"


@dataclass(frozen=True)
class InitOptions:
    """
    What a user says about a file.

    Attributes:
        data (`str`): The file, a folder with a file for each split, or a dataset on the Hub.
        dataset_config (`str`, *optional*): Configuration of a dataset on the Hub.
        output_dir (`str`): The recipe folder.
        model (`str`): What training starts from.
        columns (`Mapping[str, str | None]`): Role → column, as [`~real_trl.onboarding.find_roles`] takes them.
        score_labels (`str`, *optional*): The scale.
        criteria (`str`, *optional*): What is judged, where no column says so.
        criterion (`Sequence[str]`): Columns with scores by a criterion each, as [`~real_trl.onboarding.criteria.read_criteria`] takes them.
        gpus (`str`, *optional*): Hardware to size for, `1xA100-80GB`. Defaults to this machine.
        drop_incomplete (`bool`): Whether rows with empty cells are left out.
        na (`Sequence[str]`): Texts that mean an empty cell.
    """

    data: str
    output_dir: str
    model: str
    columns: Mapping[str, str | None] = field(default_factory=dict)
    score_labels: str | None = None
    criteria: str | None = None
    gpus: str | None = None
    drop_incomplete: bool = False
    na: Sequence[str] = ()
    dataset_config: str | None = None
    criterion: Sequence[str] = ()


@dataclass(frozen=True)
class Project:
    """
    A file that was found good. Get it with [`open_project`].

    Attributes:
        options ([`InitOptions`]), source ([`~real_trl.data.files.Source`]): What it is made of.
        plan ([`~real_trl.onboarding.recipes.Plan`]): What is known.
        splits (`list[str | None]`): Split of each row.
    """

    options: InitOptions
    source: Source
    plan: Plan
    splits: list[str | None]

    def write(self) -> Sizes:
        """
        Write the recipe folder: data, recipes, prompt, README. It appears once everything in it is complete.

        Returns:
            [`~real_trl.onboarding.sizing.Sizes`]: What was chosen for the hardware.

        Raises:
            `ValueError`: if the folder holds something, or the written data does not load.
        """
        folder = Path(self.options.output_dir)
        with new_folder("--output_dir", folder) as target:
            plan = self.plan
            rows = write_splits(
                self.source, self.splits, plan.found.keys, plan.found.rationales, target / "data", plan.group_column
            )
            plan = replace(plan, rows=rows)
            sft_rows = rows["train"] if plan.direct else rows.get(RATIONALES, rows["train"])
            sizes = choose_sizes(
                plan.found,
                {"sft": sft_rows * plan.scores_a_row, "rl": rows["train"] * plan.scores_a_row},
                plan.hardware,
                plan.model,
                lambda candidate: write_recipes(plan, candidate, target, folder),
            )
            recipes = write_recipes(plan, sizes, target, folder)
            sizes.notes.extend(stage_times(plan, sizes, recipes, target, folder))
            (target / _README).write_text(readme(plan, sizes, folder), encoding="utf-8")
            try:
                self._check(plan, target)
            except ValueError as error:  # which knows the folder by the name that it has until it is complete
                raise ValueError(str(error).replace(str(target), str(folder))) from error
        return sizes

    def _check(self, plan: Plan, target: Path) -> None:
        """Load every split as the stages will."""
        options = data_options(plan, target)
        load: dict[str, Any] = {"scale": plan.scores.scale}
        for split in ("train", "validation", "test"):
            load_judge_dataset(DataArguments(**options), split, **load)
        if not plan.direct:
            options |= {"raters": "separate"} if plan.separate else {}
            arguments = DataArguments(**options, feedback_column=list(plan.roles.feedback))
            split = RATIONALES if RATIONALES in plan.rows else "train"
            load_judge_dataset(arguments, split, require_feedback=True, **load)


def open_project(options: InitOptions) -> Project:
    """
    Read and check a user's file.

    Raises:
        `ValueError`: naming column, rows, values and fix; [`~real_trl.onboarding.Unknown`] for what only a person can know.
    """
    check_new("--output_dir", Path(options.output_dir))
    hardware = find_hardware(options.gpus)
    source = with_na(open_data(options.data, options.dataset_config).with_paths(), options.na)
    check_alone(options.criterion, options.columns, options.criteria)
    roles = find_roles(source, options.columns, options.criterion)
    if options.criteria and (roles.rubric or roles.prompt):
        what = f"the rubric is in the column {roles.rubric!r}" if roles.rubric else "prompts are complete"
        said = f": got {options.criteria!r:.60}, but {what}"
        raise FieldError("--criteria", options.criteria, "Leave --criteria out.", said)
    notes = list(source.notes)
    if roles.rater:
        source, note = _one_row_per_item(source, roles)
        notes.append(note)
    source, dropped = drop_incomplete(source, roles, options.drop_incomplete)
    if dropped:
        notes.append(f"{dropped} rows with an empty score, prompt or response were left out.")
    if "group" in roles.guessed and merges_all(source, roles):
        notes.append(
            f"The column {roles.group!r} puts different questions into fewer than {MIN_GROUPS} groups, so it is not taken for the question; if it "
            f"is, add rows of other groups and say so: --group {roles.group}."
        )
        roles = replace(roles, group=None)
    scores = read_scores(source, roles, options.score_labels)
    if scores.note:  # before all others: everything depends on it
        notes.insert(0, f"Scale: {scores.note}. If it is another one: --score_labels.")
    notes += notes_on_columns(source, roles.scores, roles.criteria, "score" in roles.guessed)
    if scores.most_raters > 1 and (partly := sum(len(row) < scores.most_raters for row in scores.rows)):
        each = missing_by_column(source, roles.scores) if len(roles.scores) > 1 else ""
        notes.append(
            f"{partly} rows have fewer than {scores.most_raters} ratings{f' ({each})' if each else ''}: the score is the mean of those given."
        )
    count = token_counter(options.model)
    template, prompts = _make_prompts(source, roles, scores, options)
    found = inspect(source, roles, scores, prompts, count)
    notes += notes_on_people(source, roles, scores, found.keys)
    splits = divide(found.keys, found.splits)
    explained = sum(has and split == "train" for has, split in zip(found.rationales, splits, strict=True))
    same = one_text(source, roles, scores.scale.labels) if "feedback" in roles.guessed else None
    direct = explained < MIN_RATIONALES or same is not None
    if direct:
        notes.append(why_direct(roles, explained, same))
        if roles.feedback:
            roles = replace(roles, feedback=[])
            template, prompts = _make_prompts(source, roles, scores, options)
            found = replace(inspect(source, roles, scores, prompts, count), notes=found.notes)
    elif explained < splits.count("train"):
        notes.append(
            f"{explained} of {splits.count('train')} training rows have a rationale: the warm start uses these only."
        )
    if template is not None and not roles.has_rubrics and not options.criteria:
        notes.append(
            f"No rubric: the prompt asks {DEFAULT_CRITERIA!r}. Say what is judged with --criteria, or edit prompt.jinja."
        )
    tested = len({key for key, split in zip(found.keys, splits, strict=True) if split == "test"})
    if tested < INTERVAL_GROUPS:
        notes.append(
            f"The test split has {tested} questions: the evaluation gives no intervals below {INTERVAL_GROUPS}. Collect scores of more questions."
        )
    notes += _notes_on_calibration(
        {name: splits.count(name) * max(1, len(roles.criteria)) for name in ("validation", "test")}
    )
    group_column = "group"
    while group_column in source.columns:
        group_column = f"question_{group_column}"
    plan = Plan(
        data=options.data if is_on_hub(options.data) else Path(options.data).name,
        model=options.model,
        roles=roles,
        scores=scores,
        found=found,
        hardware=hardware,
        criteria=options.criteria,
        template=template,
        reminder=template is None and not any(DEFAULT_MARKER.strip() in prompt for prompt in prompts),
        group_column=group_column,
        rows={name: splits.count(name) for name in ("train", "validation", "test")},
        direct=direct,
        separate=scores.most_raters > 1 and not direct and _rationale_each(source, roles),
        notes=notes,
    )
    return Project(options, source, plan, splits)


def _notes_on_calibration(held_out: Mapping[str, int]) -> list[str]:
    """Whether what training does not see is too little to calibrate on. `held_out`: split → its scores."""
    if max(held_out.values()) >= CALIBRATION_ROWS:
        return []
    shown = ", ".join(f"{name} {count}" for name, count in held_out.items())
    together = "; the two in one file are enough" if sum(held_out.values()) >= CALIBRATION_ROWS else ""
    return [
        f"`real-trl calibrate`, which gives scores intervals, needs at least {CALIBRATION_ROWS} scored rows that training has not seen, and the held-out "
        f"splits have fewer ({shown}{together}): collect more scores, or calibrate on other rows."
    ]


def _one_row_per_item(source: Source, roles: Roles) -> tuple[Source, str]:
    """One row for what several raters rated in a row each, and what to say about it."""
    if len(roles.scores) > 1 and not roles.criteria:
        said = f"={', '.join(roles.scores)}: where {roles.rater!r} says who gave the score, each row has one"
        raise FieldError("--score", roles.scores, "Name the column that has it, or say --rater none.", said)

    def item(row: Mapping[str, Any]) -> str | None:
        texts = [str(row[column]).strip() for column in roles.item]
        return None if any(is_empty(row[column]) for column in roles.texts) else "\0".join(texts)

    merged = merge_raters(source, roles.rater, [*roles.scores, *roles.feedback], item, "--rater")
    note = f"Each row is the rating of one rater (the column {roles.rater!r}, {merged.raters} raters): {len(source)} rows are about "
    note += f"{len(merged.source)} responses, which are scored by the mean of their ratings."
    note += f" {merged.repeated} ratings repeat one of the same rater; all count." if merged.repeated else ""
    return merged.source, note


def _make_prompts(
    source: Source, roles: Roles, scores: Scores, options: InitOptions
) -> tuple[PromptTemplate | None, list[str]]:
    """The template, if prompts are not complete, and the prompt of each row."""
    always = roles.reference is not None and not any(is_empty(cell) for cell in values_of(source, roles.reference))
    template = make_template(roles, options.criteria, direct=not roles.feedback, always_reference=always)
    asked: dict[str, Any]
    if template is None:
        asked = {"prompt_column": roles.prompt}
    else:
        asked = {"prompt_template": template.name, "columns": prompt_columns(roles)}
    asked |= {"criteria": roles.criteria} if roles.criteria else {"score_column": list(roles.scores)}
    arguments = DataArguments(options.data, **asked)
    return template, list(read_rows(source, arguments, template, repr(source.name), scores.scale)["prompt"])


def _rationale_each(source: Source, roles: Roles) -> bool:
    """Whether every rater wrote a rationale: in a column each, or in lists."""
    if len(roles.feedback) > 1:
        return True
    cells = [value for value in values_of(source, roles.feedback[0]) if not is_empty(value)]
    return any(isinstance(value, list | tuple) or len(ratings_in(value)) > 1 for value in cells)
