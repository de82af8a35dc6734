# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Evaluate judges: generate, read the score distribution, and report standard decoding and RAIL (Alg. 1) with intervals.

    real-trl evaluate --config recipes/quickstart/evaluate.yaml

Writes to `output_dir`: `predictions/<judge>/<dataset>/predictions.parquet` (a row per prompt: rationale, scores,
distribution), `evaluation.json` (every figure), `report.html`, `report.md`, `table.tex` and `plots/`. With several processes,
each judges its share of the prompts. The same command goes on where a killed run stopped.

Rows that the engine gives no answer to (a server that refuses them, numbers that are no distribution) count in no figure. Then the exit
status is 3, and the same command asks for them again. Status 2 is an error that ended the run.
"""

import gc
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from accelerate import PartialState
from datasets import Dataset
from trl import ModelConfig

from real_trl.arguments.evaluation import EvaluateArguments, EvaluateDataArguments, judge_name
from real_trl.arguments.judging import warn_of_other_template
from real_trl.arguments.parser import RecipeParser
from real_trl.data.arguments import CRITERION_COLUMN
from real_trl.data.choices import Choices
from real_trl.data.scaled_benchmarks import scale_map
from real_trl.engines import Engine
from real_trl.engines.base import PromptError
from real_trl.engines.refusals import NoAnswerTo
from real_trl.evaluation.assemble import assemble_evaluation, breakdown_columns, check_breakdown
from real_trl.evaluation.choices import assemble_choices
from real_trl.evaluation.judge_calibration import Calibration
from real_trl.evaluation.probes import AppliesToNone, probe_dataset
from real_trl.judge_source import JudgeSource
from real_trl.option_values import FieldError
from real_trl.publishing.lineage import base_among
from real_trl.report import evaluation_table, html_report, latex_table, markdown_report, save_plots
from real_trl.runs.command import command, user_errors
from real_trl.runs.disk import writing
from real_trl.runs.new_folder import replaced_files
from real_trl.runs.output_lock import only_writer
from real_trl.runs.predictions import OWN_COLUMNS, PredictionRun
from real_trl.runs.unscored_exit import EXIT_STATUS, end_with_unscored
from real_trl.scale import Scale
from real_trl.scripts._judged_data import load_datasets, of_kind, rater_names
from real_trl.text.json_text import to_json
from real_trl.text.redaction import redact_command, redacted
from real_trl.text.shown import printable
from real_trl.text.terminal import CleanConsole
from real_trl.versions import package_versions
from real_trl.weights.pretrained import distributed_state


def check_kept_columns(names: Sequence[str] | None) -> None:
    """Refuses `keep_columns` that would overwrite what the evaluation itself writes."""
    if taken := sorted(OWN_COLUMNS.intersection(names or ())):
        said = f": {taken[0]!r} is a column that the predictions have of their own"
        raise FieldError("keep_columns", taken[0], "Rename it in the data, or leave it out.", said)


def check_same_scale(judges: Mapping[str, JudgeSource]) -> Scale:
    """The scale of all judges; `ValueError` if they differ."""
    (first, judge), *others = judges.items()
    for name, other in others:
        if (other.space.labels, other.space.values) != (judge.space.labels, judge.space.values):
            said = f": {first!r} scores on {judge.space.scale} and {name!r} on {other.space.scale}"
            raise FieldError("judges", first, "Evaluate judges of different scales one by one.", said)
    return judge.space.scale


@dataclass
class _Plan:
    """What is to be judged: `(judge, dataset, probe or "")` → run."""

    runs: dict[tuple[str, str, str], PredictionRun]
    left_out: list[str] = field(default_factory=list)  # of all probes those that do not apply, and why

    def of(self, judge: str) -> dict[tuple[str, str], PredictionRun]:
        return {(dataset, probe): run for (name, dataset, probe), run in self.runs.items() if name == judge}


def plan_runs(
    args: EvaluateArguments,
    model_args: ModelConfig,
    judges: Mapping[str, JudgeSource],
    datasets: Mapping[str, Mapping[str, Dataset | Choices]],
) -> _Plan:
    """All runs, each checked against what its folder holds already; nothing is loaded yet."""
    runs, left_out = {}, []
    for name, judge in judges.items():
        args.check_samples(args.num_samples, judge)
        made_with = args.describe(judge, model_args)
        for dataset_name, dataset in datasets[name].items():
            compared = isinstance(dataset, Choices)
            variants = {"": dataset.responses if compared else dataset}
            if compared and args.every_probe:
                left_out.append(f"responses to compare have none ({name}, {dataset_name})")
            for probe in () if compared else args.probes or ():
                try:
                    variants[probe] = probe_dataset(
                        dataset, probe, scale=judge.space.scale, marker=judge.space.marker, seed=args.seed
                    )
                except AppliesToNone as error:
                    if not args.every_probe:
                        raise
                    left_out.append(f"{error.reason} ({name}, {dataset_name})")
            for probe, rows in variants.items():
                folder = Path(args.output_dir, "predictions", name, dataset_name + (f"+{probe}" if probe else ""))
                runs[name, dataset_name, probe] = PredictionRun(
                    folder, rows, made_with, args.num_samples, args.units_per_call, args.seed, judge.space.values
                )
    return _Plan(runs, left_out)


def predict(
    args: EvaluateArguments,
    model_args: ModelConfig,
    judges: Mapping[str, JudgeSource],
    plan: _Plan,
    state: PartialState,
) -> None:
    """Judge everything, one judge after the other, each loaded only if something is missing."""
    for name, judge in judges.items():
        loaded: list[Engine] = []

        def engine(judge: JudgeSource = judge, loaded: list[Engine] = loaded) -> Engine:
            if not loaded:
                loaded.append(args.load(judge, model_args))
            return loaded[0]

        for (dataset, probe), run in plan.of(name).items():
            with user_errors():
                try:
                    run.run(engine, state, f"{name}: {dataset}" + (f", {probe}" if probe else ""))
                except PromptError as error:  # too long with the probe, before anything was judged
                    if not (probe and args.every_probe) or isinstance(error, NoAnswerTo):
                        raise
                    del plan.runs[name, dataset, probe]
                    if state.is_main_process:
                        print(printable(f"note: probes: {probe!r} is left out ({name}, {dataset}): {error}"))
        loaded.clear()
        gc.collect()  # engines hold themselves in circles, and two judges may not fit the memory


def mark_own_rows(evaluation: dict[str, Any], calibrations: Mapping[str, Calibration], plan: _Plan) -> None:
    """Sets `fitted_here` where a judge's calibration was fitted on the rows of the evaluation, on which it shows more than it is worth."""
    for name, calibration in calibrations.items():
        for dataset, by_judge in evaluation["results"].items():
            if figures := by_judge[name].get("calibrated"):
                prompts = plan.runs[name, dataset, ""].output.made_with["data"]["fingerprint"]
                figures["fitted_here"] = calibration.made_with.get("fingerprint") == prompts


def describe_judges(judges: Mapping[str, JudgeSource]) -> dict[str, Any]:
    """Of each judge its `model` and configuration, and as `base` which of the others it was trained from."""
    described = {}
    for name, judge in judges.items():
        config = {key: value for key, value in asdict(judge.config).items() if key != "versions"}
        base = base_among(judge.config, {other: each.name for other, each in judges.items() if other != name})
        described[name] = redacted({"model": judge.name, "judge": config} | ({"base": base} if base else {}))
    return described


def write_report(output: Path, evaluation: dict[str, Any], frames: dict[str, dict[str, pd.DataFrame]]) -> None:
    """Everything but the predictions. An undefined figure is null in JSON; the notes say why it is undefined."""
    with writing(output, "The predictions and an earlier report are as they were"), replaced_files(output) as new:
        _write_report(new, evaluation, frames)


def _write_report(output: Path, evaluation: dict[str, Any], frames: dict[str, dict[str, pd.DataFrame]]) -> None:
    text = to_json(evaluation, indent=2, default=str)
    (output / "evaluation.json").write_text(text + "\n", encoding="utf-8")
    (output / "report.md").write_text(printable(markdown_report(evaluation)) + "\n", encoding="utf-8")
    if evaluation["results"]:
        (output / "table.tex").write_text(printable(latex_table(evaluation)) + "\n", encoding="utf-8")
    try:
        plots = save_plots(evaluation, frames, output / "plots")
    except ImportError as error:
        plots = None
        print(f"note: no plots ({error})")
    html_report(evaluation, frames, output / "report.html", plots=plots)


def make_parser() -> RecipeParser:
    """The options."""
    return RecipeParser((EvaluateArguments, EvaluateDataArguments, ModelConfig), epilog=EXIT_STATUS)


@command()
def main(argv: Sequence[str] | None = None) -> None:
    """Run the stage; `argv` defaults to the command line."""
    with ExitStack() as held:
        with user_errors():
            args, data_args, model_args = make_parser().parse_args_and_config(argv)
            check_kept_columns(data_args.keep_columns)
            if Path(args.output_dir).exists() and not Path(args.output_dir).is_dir():
                said = f": {args.output_dir!r} is a file"
                raise FieldError("output_dir", args.output_dir, "Choose another output_dir.", said)
            state = distributed_state()
            held.enter_context(only_writer(args.output_dir, state=state))
            paths = args.judges or {judge_name(model_args.model_name_or_path or ""): model_args.model_name_or_path}
            judges = {name: args.find(path, model_args) for name, path in paths.items()}
            scale = check_same_scale(judges)
            datasets = {name: load_datasets(args, data_args, judge) for name, judge in judges.items()}
            first = next(iter(datasets.values()))
            check_breakdown(args.breakdown, first)
            compared = of_kind(first, Choices)
            if args.probes and len(compared) == len(first) and not args.every_probe:
                said = ": all data are responses to compare, whose figures have no probes"
                raise FieldError("probes", args.probes, "Remove it.", said)
            for judge in judges.values():
                warn_of_other_template(judge.config, data_args.prompt_template)
            plan = plan_runs(args, model_args, judges, datasets)
            if state.is_main_process:
                print(
                    *(printable(f"note: probes: {each}") for each in plan.left_out),
                    sep="\n",
                    end="\n" * bool(plan.left_out),
                )
        predict(args, model_args, judges, plan, state)
        if not state.is_main_process:
            return
        output = Path(args.output_dir)
        frames: dict[str, dict[str, pd.DataFrame]] = {}
        probed: dict[str, dict[str, dict[str, pd.DataFrame]]] = {}
        for (judge, dataset, probe), run in plan.runs.items():
            if probe:
                probed.setdefault(dataset, {}).setdefault(judge, {})[probe] = run.read()
            else:
                frames.setdefault(dataset, {})[judge] = run.read()
        options: dict[str, Any] = {"scale": scale, "malformed": args.malformed, "breakdown_by": args.breakdown}
        options |= {"num_resamples": args.num_resamples, "seed": args.seed}
        scored = {name: judged for name, judged in frames.items() if name not in compared}
        found = {name: judge.config.read_calibration() for name, judge in judges.items()}
        calibrations = {name: calibration for name, calibration in found.items() if calibration is not None}
        with user_errors():
            evaluation = assemble_evaluation(
                scored,
                probed,
                calibrations=calibrations,
                rater_names=rater_names(data_args, scored, args.benchmarks or ()),
                **options,
            )
            mark_own_rows(evaluation, calibrations, plan)
            for name in compared:
                of_judges = {judge: each[name] for judge, each in datasets.items()}
                options["breakdown_by"] = breakdown_columns(args.breakdown, name, first[name].column_names)
                evaluation.setdefault("choices", {})[name] = assemble_choices(frames[name], of_judges, **options)
        for name in scored.keys() & set(args.benchmarks or ()):
            if said := scale_map(name, scale):
                evaluation["datasets"][name]["scale_map"] = said
        evaluation |= {
            "judges": describe_judges(judges),
            "settings": redacted({"arguments": args.stated(), "data": asdict(data_args)}),
            "versions": package_versions(),
            "command": " ".join(["real-trl evaluate", *redact_command(sys.argv[1:] if argv is None else argv)]),
        }
        write_report(output, evaluation, frames)
        print(
            f"Calibration, other metrics and rows to browse: {output / 'report.html'}. All saved to {args.output_dir}"
        )
        by_criterion = any(CRITERION_COLUMN in columns for columns in evaluation["breakdown"].values())
        shown = args.breakdown or [CRITERION_COLUMN] * by_criterion
        CleanConsole().print(evaluation_table(evaluation, shown))  # ends with the verdict
        unscored, totals = {}, {}
        for judge, dataset, probe in plan.runs:
            frame = probed[dataset][judge][probe] if probe else frames[dataset][judge]
            what = f"rows of {dataset}" + f", probe {probe}" * bool(probe) + f", judge {judge}" * (len(judges) > 1)
            missing = frame[frame["error"].notna()]
            unscored[what] = [
                (f"id {name}", str(error)) for name, error in zip(missing["id"], missing["error"], strict=True)
            ]
            totals[what] = len(frame)
        end_with_unscored(unscored, totals)


if __name__ == "__main__":
    main()
