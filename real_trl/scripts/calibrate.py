# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Calibrate a judge on rows with human scores, and give its scores intervals.

    real-trl calibrate outputs/my-real held_out.jsonl --coverage 0.9
    real-trl calibrate outputs/my-real outputs/evaluation       # what `real-trl evaluate` has judged already

The rows have to be none that the judge was trained on; data with the name of those are warned of. Fits the map of the judge's score distribution that predicts left-out rows best
(none, a temperature, with an affine or an isotonic map of the mean: the smallest CRPS) and intervals that hold the human score with the
probability asked for (split conformal, or conformalised quantiles of the distribution), and says what both are worth on rows that they were
not fitted on, whole questions left out at a time: rows with the same `--group_column`, by default the column `group` that `real-trl init`
writes, else the same instruction; where neither is known, each row by itself, which is said. `--interval_group column` gives every value of a column, which rows to be scored need to have
too, intervals of its own; rows of a judge of several criteria have them by criterion.

Judge them as the judge will be used: `--num_samples` as many as then, and for `serve`, which decodes greedily, `--do_sample false`. It is
saved in the judge's `judge_config.json`: from then on `score`, `serve` and `Judge` give calibrated scores and an interval, with the
judge's own beside them. The same command on a data file goes on where it was stopped. Exit status as of `real-trl evaluate`.
"""

import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from trl import ModelConfig

from real_trl.arguments.evaluation import EvaluateDataArguments
from real_trl.arguments.judging import JudgingArguments, warn_of_other_template
from real_trl.arguments.parser import RecipeParser
from real_trl.data.arguments import CRITERION_COLUMN
from real_trl.data.choices import Choices
from real_trl.engines import check_num_samples
from real_trl.evaluation.cross_fitting import check_enough, fit_calibration
from real_trl.evaluation.judge_calibration import Calibration, scored_rows
from real_trl.judge_config import JUDGE_CONFIG_NAME, JudgeConfig
from real_trl.judge_source import JudgeSource
from real_trl.option_values import FieldError
from real_trl.publishing.lineage import TrainingData
from real_trl.publishing.results import public_data_name
from real_trl.report.calibration_text import calibration_sheets, calibration_text
from real_trl.report.terminal_tables import EvaluationTable
from real_trl.runs.command import command, user_errors
from real_trl.runs.fingerprints import model_fingerprint
from real_trl.runs.folder import PROVENANCE_NAME
from real_trl.runs.output_lock import only_writer
from real_trl.runs.predictions import RESULT, PredictionRun
from real_trl.runs.unscored_exit import EXIT_STATUS, end_with_unscored
from real_trl.scripts._judged_data import load_split, rows_are_questions, with_identity
from real_trl.scripts.evaluate import check_kept_columns
from real_trl.text.shown import first_few, printable
from real_trl.text.terminal import CleanConsole
from real_trl.versions import package_versions
from real_trl.weights.files import read_json
from real_trl.weights.pretrained import distributed_state

logger = logging.getLogger(__name__)

_FIRST = "Name judge and data first: real-trl calibrate outputs/my-real held_out.jsonl"
_NO_QUESTIONS = (
    "The predictions have no question column: rows are taken as independent of each other. Where several are about one question, evaluate them "
    "again with --group_column COLUMN, which judges none of them anew."
)


@dataclass
class CalibrateArguments(JudgingArguments):
    """
    Arguments of a calibration beside data and model: those of [`JudgingArguments`], and what follows. The model is the directory of the
    judge, where the calibration is saved. On the command line it may stand first, without `--model`, and the data (`dataset_name`) second: rows
    with human scores (of a single file, all of it; `dataset_test_split` of what has splits), or predictions of this judge, the `output_dir` of
    `real-trl evaluate` or one of the folders in its `predictions`.

    Args:
        output_dir (`str`, *optional*):
            Where predictions on a data file are kept. Defaults to `calibration` in the judge's directory.
        coverage (`float`, *optional*, defaults to `0.9`):
            Probability with which an interval shall hold the human score.
        interval_group (`str`, *optional*):
            Column whose values have intervals of their own, as far as they have enough rows. Defaults to the criterion, where rows are
            scored by several.
        num_samples (`int`, *optional*, defaults to `1`):
            Completions for each row, which are averaged: as many as the judge will be used with.
    """

    output_dir: str = field(
        default="", metadata={"help": "Where predictions are kept. Default: calibration, in the judge."}
    )
    coverage: float = field(default=0.9, metadata={"help": "Share of human scores that intervals shall hold."})
    interval_group: str | None = field(
        default=None, metadata={"help": "Column whose values have intervals of their own. Default: the criterion."}
    )
    num_samples: int = field(default=1, metadata={"help": "Completions for each row, which are averaged."})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_num_samples(self.num_samples, self.do_sample)


def check_directory(judge: str | None) -> None:
    """`FieldError` unless a judge is named, and it is a directory."""
    if not judge:
        raise FieldError("model", None, f"{_FIRST}.")
    if not Path(judge).is_dir():
        said = f": {judge!r} is no directory, and the calibration is saved in the judge's"
        raise FieldError(
            "model", judge, "Give a local directory; hf download USER/NAME --local-dir DIR makes one.", said
        )


def stored_predictions(data: str) -> Path | None:
    """The folder of a judge's predictions that `data` is or holds, `None` if it is data; `ValueError` if there are several."""
    folder = Path(data)
    if folder.name == RESULT and folder.is_file():
        return folder.parent
    if (folder / RESULT).is_file():
        return folder
    found = sorted(path.parent for path in folder.glob(f"predictions/*/*/{RESULT}") if "+" not in path.parent.name)
    if len(found) > 1:
        said = f": {data!r} holds several predictions, {first_few(list(map(str, found)))}"
        raise FieldError("dataset_name", data, "Give one of these folders.", said)
    return found[0] if found else None


def check_same_judge(folder: Path, judge: JudgeSource) -> dict[str, Any]:
    """What predictions were made with; `ValueError` if that is another judge, or not known."""
    if not (folder / PROVENANCE_NAME).is_file():
        said = f": {str(folder)!r} has no {PROVENANCE_NAME}, so it is not known which judge made its predictions"
        raise FieldError(
            "dataset_name",
            str(folder),
            "Give a folder that real-trl evaluate has written, or data to be judged.",
            said,
        )
    provenance = read_json(folder / PROVENANCE_NAME)
    made_with = provenance["made_with"]
    then = {"weights": made_with["model"]["fingerprint"], "temperature": made_with["judge"]["temperature"]}
    now = {"weights": model_fingerprint(judge.name, judge.revision), "temperature": judge.config.temperature}
    for name in then:
        if then[name] != now[name]:
            said = f": the predictions in {str(folder)!r} were made with other {name} ({then[name]}, and the judge has {now[name]})"
            raise FieldError(
                "dataset_name", str(folder), "Give predictions of this judge, or data to be judged.", said
            )
    if not provenance.get("complete"):
        said = f": {str(folder)!r} is not complete"
        raise FieldError(
            "dataset_name", str(folder), "Give the command of the evaluation again, which goes on with it.", said
        )
    return made_with


def warn_of_training_data(data_args: EvaluateDataArguments, config: JudgeConfig) -> None:
    """
    Says where the data have the name of what the judge was trained on. The judge records no more of it than that: a name without its path, and
    the split.
    """
    try:
        trained = TrainingData.of(config)
    except ValueError:  # said by what needs it
        return
    if trained is None:
        return
    name, split = data_args.dataset_name or "", data_args.dataset_test_split
    file = Path(name).expanduser().resolve()
    same = public_data_name(name) == trained.dataset_name and split in (trained.split, "all")
    of_folder = file.is_file() and (file.parent.name, file.stem) == (trained.dataset_name, trained.split)
    if same or of_folder:
        logger.warning(
            "dataset_name: %r has the name of what the judge was trained on (%s: %r, split %r). If these are its rows, the calibration is too "
            "sure, as the judge knows them: give rows that it has not seen.",
            name,
            JUDGE_CONFIG_NAME,
            trained.dataset_name,
            trained.split,
        )


def save(calibration: Calibration, judge: JudgeSource) -> None:
    """Write it into the judge's `judge_config.json`, which a model that has none gets now."""
    own = Path(judge.name, JUDGE_CONFIG_NAME).is_file()
    config = JudgeConfig.load(judge.name) if own else judge.config
    config.calibration = calibration.stored()
    config.check()
    config.save(judge.name)
    if not own:
        print(f"note: {judge.name} had no {JUDGE_CONFIG_NAME}; it has one now, with this scale, marker and prompt")


def make_parser() -> RecipeParser:
    """The options."""
    usage = "real-trl calibrate JUDGE DATA [--coverage 0.9] [options]"
    return RecipeParser((CalibrateArguments, EvaluateDataArguments, ModelConfig), usage=usage, epilog=EXIT_STATUS)


@command()
def main(argv: Sequence[str] | None = None) -> None:
    """Run the stage; `argv` defaults to the command line."""
    argv = list(sys.argv[1:] if argv is None else argv)
    for place, name in enumerate(("--model", "--dataset_name")):
        if len(argv) > 2 * place and not argv[2 * place].startswith("-"):
            argv.insert(2 * place, name)
    with ExitStack() as held:
        with user_errors():
            args, data_args, model_args = make_parser().parse_args_and_config(argv)
            check_directory(model_args.model_name_or_path)
            args.output_dir = args.output_dir or str(Path(model_args.model_name_or_path, "calibration"))
            if not data_args.dataset_name:
                raise FieldError("dataset_name", None, f"{_FIRST}.")
            judge = args.find(model_args.model_name_or_path, model_args)
            folder = stored_predictions(data_args.dataset_name)
            state = distributed_state()
        if folder is None:
            with user_errors():
                held.enter_context(only_writer(args.output_dir, state=state))
                run, grouped_by, said = plan_run(args, data_args, model_args, judge)
                warn_of_other_template(judge.config, data_args.prompt_template)
                run.run(lambda: args.load(judge, model_args), state, "Judging")
            if not state.is_main_process:
                return
            frame, made_with = run.read(), run.output.made_with
        else:
            with user_errors():
                made_with = check_same_judge(folder, judge)
            frame = pd.read_parquet(folder / RESULT)
            grouped_by, said = (None, _NO_QUESTIONS) if rows_are_questions(frame) else ("group", None)
        with user_errors():
            group = args.interval_group or (CRITERION_COLUMN if CRITERION_COLUMN in frame else None)
            if group is not None and group not in frame:
                fix = f"Name a column that the data have, and in keep_columns of the evaluation: {first_few(sorted(frame), 40)}."
                raise FieldError("interval_group", group, fix, f": the rows have no column {group!r}")
            rows, notes = scored_rows(frame, judge.space.values, args.malformed, group)
            about = {
                "data": Path(data_args.dataset_name).name,
                "fingerprint": made_with["data"]["fingerprint"],
                "num_samples": made_with["sampling"]["num_samples"],
                "do_sample": made_with["decoding"]["do_sample"],
                "temperature": judge.config.temperature,
                "grouped_by": grouped_by,
                "real_trl": package_versions()["real_trl"],
            }
            options = {"coverage": args.coverage, "column": group, "seed": args.seed, "made_with": about}
            calibration = fit_calibration(rows, judge.space.values, **options)
            save(calibration, judge)
        lines = [*filter(None, [said]), *notes, *calibration_text(calibration)]
        CleanConsole().print(EvaluationTable(calibration_sheets(calibration), printable("\n".join(lines))))
        print(f"Saved in {Path(judge.name, JUDGE_CONFIG_NAME)}: score, serve and Judge use it from now on.")
        missing = frame[frame["error"].notna()]
        reasons = [(f"id {name}", str(why)) for name, why in zip(missing["id"], missing["error"], strict=True)]
        if folder is None:
            end_with_unscored({"rows": reasons}, {"rows": len(frame)})


def plan_run(
    args: CalibrateArguments, data_args: EvaluateDataArguments, model_args: ModelConfig, judge: JudgeSource
) -> tuple[PredictionRun, str | None, str | None]:
    """The judge on the data, checked against what its folder holds already; by what rows are grouped, and what to say of it."""
    args.check_samples(args.num_samples, judge)
    whole = Path(data_args.dataset_name).is_file() and data_args.holdout_fraction is None
    if whole and data_args.dataset_test_split == "test":
        data_args.dataset_test_split = "all"
    if args.interval_group and args.interval_group != CRITERION_COLUMN:
        data_args.keep_columns = list(dict.fromkeys([*(data_args.keep_columns or ()), args.interval_group]))
    check_kept_columns(data_args.keep_columns)
    warn_of_training_data(data_args, judge.config)
    split = load_split(data_args, data_args.dataset_test_split, judge)
    dataset = with_identity(split.data)
    if isinstance(dataset, Choices):
        said = f": got {data_args.pair_columns}, but a calibration is of scores, not of preferences"
        raise FieldError("pair_columns", data_args.pair_columns, "Give rows with human scores: score_column.", said)
    scored = np.isfinite(np.asarray(dataset["score"][:], dtype=np.float64))
    # Before anything is judged: what the judge adds can only be fewer
    n_questions = len(set(np.asarray(dataset["group"][:])[scored].tolist()))
    try:
        check_enough(int(scored.sum()), n_questions, "have a human score")
    except ValueError as error:  # with what was taken for a question
        raise ValueError(" ".join(filter(None, (str(error), split.note)))) from None
    made_with, units = args.describe(judge, model_args), args.units_per_call
    own = (made_with, args.num_samples, units, args.seed, judge.space.values)
    return PredictionRun(Path(args.output_dir), dataset, *own), split.grouped_by, split.note


if __name__ == "__main__":
    main()
