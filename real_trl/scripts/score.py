# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Score a file: a judge's scores beside its rows, whether or not they have labels.

    real-trl score answers.jsonl --model outputs/my-real --columns response=answer --rubric "Is it helpful?"

Writes `answers.scored.jsonl` (or `output`, as .jsonl, .csv or .parquet): the rows in their order with all their columns, and
`expected_score` (RAIL), `sampled_score`, `most_likely_score`, `probabilities` (label → probability), `spread`, `rationale` and
`status`; of a judge that was calibrated, the calibrated ones with `interval_low` and `interval_high`, and its own in `raw_expected_score`
and `raw_probabilities`. Beside it, the folder `answers.scored.jsonl.provenance` says what the scores were made with. A judge that was trained on several
`criteria` scores every row by each: `helpfulness_expected_score`, …

A row that the engine gives no answer to (a server that refuses it, numbers that are no distribution) has the status `unscored` and
the reason in the column `error`; the others are scored. Then the exit status is 3, and the same command asks for such rows again.
Status 2 is an error that ended the run.

Scores are stored as they are made, and the same command goes on where a killed run stopped. With several processes, each takes
a share of the rows; the result is the same.
"""

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trl import ModelConfig

from real_trl.arguments.complete import Asked
from real_trl.arguments.judging import JudgingArguments, warn_of_other_template
from real_trl.arguments.parser import RecipeParser
from real_trl.data.files import EXTENSIONS, Source, read_file
from real_trl.engines import ENGINES, Engine, Judgment, check_num_samples
from real_trl.engines.base import PromptError
from real_trl.judge import Judge
from real_trl.judge_source import JudgeSource
from real_trl.option_values import FieldError, MappingOption, as_mapping, mapping_option
from real_trl.report.score_summary import print_summary
from real_trl.runs.command import command, user_errors
from real_trl.runs.folder import GeneratedFolder
from real_trl.runs.output_lock import only_writer
from real_trl.runs.resumable import Resumable
from real_trl.runs.scored_file import ScoredFile, score_columns
from real_trl.runs.unscored_exit import EXIT_STATUS, end_with_unscored
from real_trl.scripts._score_prompts import criteria_of, empty_responses, groups_of, make_prompts
from real_trl.text.json_text import to_json
from real_trl.text.shown import printable
from real_trl.weights.pretrained import distributed_state

_BATCHES_AT_ONCE = 4  # of the engine, which puts rows of similar length together


@dataclass
class ScoreArguments(JudgingArguments):
    """
    Arguments of scoring beside the model's: those of [`JudgingArguments`] but `output_dir`, and

    Args:
        data (`str`):
            The rows: a .jsonl, .json, .csv, .tsv, .xlsx or .parquet file. On the command line it may stand first, without `--data`.
        output (`str`, *optional*):
            The file to write: .jsonl, .csv or .parquet. Defaults to `<data>.scored.jsonl`.
        columns (`dict`, *optional*):
            Field of the judge's prompt → column, `{response: answer}`. Columns that are called like a field are found without it.
        rubric, reference (`str`, *optional*):
            The same for all rows, instead of columns.
        criteria (`dict`, *optional*):
            Criterion → rubric: every row is scored by each of them, in columns whose names begin with the criterion. Defaults to the
            judge's own, unless there is another rubric.
        prompt_template (`str`, *optional*):
            Template of the prompts. Defaults to the judge's own.
        prompt_column (`str`, *optional*):
            Column with complete prompts, instead of a template.
        prefix (`str`, *optional*):
            What the names of the new columns begin with, so that several judges can score the same rows.
        num_samples (`int`, *optional*, defaults to `1`):
            Completions for each row, which are averaged (Table 3).
        max_rows (`int`, *optional*):
            Score the first rows only, which are all that is written.
    """

    output_dir: str = field(init=False, default="")  # scores go into one file
    data: str | None = field(default=None, metadata={"help": "The rows: .jsonl, .json, .csv, .tsv, .xlsx, .parquet."})
    output: str | None = field(
        default=None, metadata={"help": "File to write: .jsonl, .csv, .parquet. Default: <data>.scored.jsonl."}
    )
    columns: MappingOption = mapping_option(
        "Field of the judge's prompt → column, e.g. response=answer, or in a recipe {response: answer}."
    )
    rubric: str | None = field(default=None, metadata={"help": "One rubric for all rows."})
    reference: str | None = field(default=None, metadata={"help": "One reference answer for all rows."})
    criteria: MappingOption = mapping_option(
        "Criterion → rubric, of which each gives a set of columns. Default: the judge's own, if it has any."
    )
    prompt_template: str | None = field(default=None, metadata={"help": "Default: the judge's own."})
    prompt_column: str | None = field(default=None, metadata={"help": "Column with complete prompts."})
    prefix: str = field(default="", metadata={"help": "What the names of the new columns begin with."})
    num_samples: int = field(default=1, metadata={"help": "Completions for each row, which are averaged."})
    max_rows: int | None = field(
        default=None,
        metadata={"help": "Score the first rows only; also --limit. Default: all rows.", "aliases": ["--limit"]},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.columns, self.criteria = as_mapping("columns", self.columns), as_mapping("criteria", self.criteria)
        check_num_samples(self.num_samples, self.do_sample)
        if not self.data:
            raise FieldError("data", None, "Name the file to score first: real-trl score answers.jsonl --model DIR.")
        if self.criteria and (self.rubric or "rubric" in self.columns):
            said = f": got {', '.join(self.criteria)} beside another rubric"
            raise FieldError("criteria", self.criteria, "Leave out one of them.", said)
        own = {"columns": self.columns, "rubric": self.rubric, "reference": self.reference, "criteria": self.criteria}
        for name, value in {**own, "prompt_template": self.prompt_template}.items():
            if value and self.prompt_column:
                said = f": {self.prompt_column!r} holds complete prompts, to which {name}={value!r:.60} adds nothing"
                raise FieldError("prompt_column", self.prompt_column, "Remove one of the two.", said)

    @property
    def output_path(self) -> Path:
        """Where the scores go."""
        return Path(self.output) if self.output else Path(self.data).with_suffix(".scored.jsonl")

    @property
    def rows_at_once(self) -> int:
        """Rows that are judged, and stored, together."""
        together = self.units_per_call * (1 if ENGINES[self.engine].own_batches else _BATCHES_AT_ONCE)
        return max(1, together // self.num_samples)


def read_rows(path: str) -> Source:
    """The rows to be scored; `ValueError` if the file is missing, empty or cannot be read."""
    if not Path(path).is_file():
        raise ValueError(f"data: there is no file {path!r}. Give a file: {', '.join(EXTENSIONS)}.")
    source = read_file(Path(path), "data")
    if len(source) == 0:
        raise ValueError(f"data: {path!r} holds no row.")
    for note in source.notes:
        print(note)
    return source


def open_output(
    args: ScoreArguments, model_args: ModelConfig, judge: JudgeSource, prompts: Sequence[str], criteria: Sequence[str]
) -> GeneratedFolder:
    """The folder of the scores' provenance; `ValueError` if the output is something else."""
    path = args.output_path
    digest, calibrated = hashlib.sha256(Path(args.data).read_bytes()), judge.config.calibration
    for prompt in prompts:
        digest.update(prompt.encode() + b"\0")
    sampling = {"num_samples": args.num_samples, "rows_at_once": args.rows_at_once, "seed": args.seed}
    made_with = {
        **args.describe(judge, model_args),
        "data": {
            "file": args.data,
            "rows": len(prompts) // max(1, len(criteria)),
            "fingerprint": f"sha256 {digest.hexdigest()}",
        },
        "sampling": {**sampling, "batch_size": args.batch_size, "malformed": args.malformed},
        "output": {"prefix": args.prefix, **({"criteria": list(criteria)} if criteria else {})},
        "calibration": {
            "fingerprint": calibrated and f"sha256 {hashlib.sha256(to_json(calibrated).encode()).hexdigest()}"
        },
    }
    folder = GeneratedFolder(f"{path}.provenance", made_with, f"../{path.name}", "output")
    if path.exists() and not folder.folder.exists():
        said = f": {str(path)!r} is there already, and was not made by this command"
        raise FieldError("output", path, "Choose another output, or delete it.", said)
    return folder


@contextmanager
def naming_rows(where: Callable[[int], str]) -> Iterator[None]:
    """Within it, an engine's error about a prompt names the row instead, by `where(index of the prompt)`."""
    try:
        yield
    except PromptError as error:
        error.place = error.place or where(error.index)
        raise


def make_parser() -> RecipeParser:
    """The options."""
    usage = "real-trl score DATA --model JUDGE [--output FILE] [options]"
    return RecipeParser((ScoreArguments, ModelConfig), usage=usage, epilog=EXIT_STATUS)


@command()
def main(argv: Sequence[str] | None = None) -> None:
    """Run the stage; `argv` defaults to the command line."""
    with ExitStack() as held:
        with user_errors():
            asked = Asked.of_process("score", argv)
            argv = list(sys.argv[1:] if argv is None else argv)
            if argv and not argv[0].startswith("-"):
                argv = ["--data", *argv]
            args, model_args = make_parser().parse_args_and_config(argv)
            source = read_rows(args.data)
            if args.max_rows is not None:
                source = source.select(range(min(len(source), args.max_rows)))
            judge = args.find(model_args.model_name_or_path, model_args)
            args.check_samples(args.num_samples, judge)
            criteria = criteria_of(args, judge)
            prefixes = [f"{args.prefix}{criterion}_" for criterion in criteria] or [args.prefix]
            calibration = judge.config.read_calibration()
            known = {"calibrated": calibration is not None}
            scored = ScoredFile(args.output_path, source, judge.space.labels, prefixes, **known)
            state = distributed_state()
            held.enter_context(only_writer(args.output_path, "output", state))
            prompts = make_prompts(args, judge, source, criteria)
            empty = empty_responses(args, judge, source)
            warn_of_other_template(judge.config, args.prompt_template)
            output = open_output(args, model_args, judge, prompts, list(criteria))
            if empty and state.is_main_process:
                print(printable(f"note: {empty}"))
            if criteria and state.is_main_process:
                print(printable(f"Every row is scored by {', '.join(criteria)}."))  # names that a judge brings
        with user_errors():
            complete = output.check()
        if complete:
            if state.is_main_process:
                output.discard_parts()
                print(f"Already complete: {args.output_path}")
                said = print_summary(args.output_path, judge.config, prefixes)
                asked.record(f"Already complete: {args.output_path}\n{said}")
            return
        width = len(prefixes)  # prompts of a row, which are judged together
        groups = groups_of(calibration, source, list(criteria))
        if calibration and calibration.made_with.get("num_samples", args.num_samples) != args.num_samples:
            then = calibration.made_with["num_samples"]
            print(printable(f"note: the judge was calibrated with num_samples {then}, not {args.num_samples}"))
        size = max(1, args.rows_at_once // width) * width

        def where(place: int) -> str:
            return source.where(place // width) + (
                f", criterion {list(criteria)[place % width]!r}" if criteria else ""
            )

        def ask(engine: Engine, places: Sequence[int], seed: int) -> Iterator[tuple[int, Judgment]]:
            asked = [prompts[place] for place in places]
            with naming_rows(lambda index: where(places[index // args.num_samples])):
                yield from Judge(engine, judge.config).iterate(
                    asked, num_samples=args.num_samples, seed=seed, groups=[groups[place] for place in places]
                )

        def merge(scores: Iterator[dict[str, Any]]) -> tuple[dict[str, bytes], dict[str, int]]:
            scored.write(scores)
            return {}, {"rows": len(source)}

        work = Resumable(
            output,
            prompts,
            [range(start, min(start + size, len(prompts))) for start in range(0, len(prompts), size)],
            ask=ask,
            as_row=lambda place, judgment: score_columns(judgment, prefixes[place % width], **known),
            merge=merge,
            seed=args.seed,
            desc="Scoring",
            unit="score" if criteria else "row",
        )
        with user_errors(), naming_rows(where):
            unscored = work.run(lambda: args.load(judge, model_args, malformed=args.malformed), state)
        if state.is_main_process:
            said = print_summary(args.output_path, judge.config, prefixes)
            reasons = [(where(place), columns[prefixes[place % width] + "error"]) for place, columns in unscored]
            what = "scores" if criteria else "rows"
            end_with_unscored({what: reasons}, {what: len(prompts)})
            if not reasons:
                asked.record(f"Already complete: {args.output_path}\n{said}")


if __name__ == "__main__":
    main()
