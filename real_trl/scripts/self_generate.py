# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Let a judge write the rationales of a training set that has scores alone, and keep the true scores.

    real-trl self_generate --config recipes/quickstart/tract_self_generate.yaml

TRACT: stage 1 is RAFT (`sft`). This samples a rationale for every prompt from its judge and takes the judge's score off; stage 2 is
RAFT again, from the base model, with `dataset_name: <output_dir>`.

Rationales from scores: with `max_distance` the model need not have been trained as a judge. Of `num_samples` rationales of a row the one
is kept after which the model's expected score is nearest the true score, if it is within that distance. `show_score` shows the true
score while they are written (rationalisation, STaR, arXiv 2203.14465), and never where their score is read.

Writes to `output_dir`: `train.jsonl` (`prompt`, `score` with the true label, `feedback` with the rationale, `sampled_score`, kept columns;
with `max_distance` also `expected_score` and `distance`), `dropped.jsonl` (completions that are not kept, with the reason) and
`provenance.json`, whose `counts` have what was kept and why the rest was not.

Prompts that the engine gives no answer to are left out; then the exit status is 3, and the same command asks for them again.

The same command goes on where a killed run stopped. What is sampled depends on the seed and the batch, not on the
process: the result is the same however often a run was stopped and however many processes shared it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from datasets import Dataset
from trl import ModelConfig

from real_trl.arguments.complete import Asked
from real_trl.arguments.judging import JudgingArguments, warn_of_other_template
from real_trl.arguments.parser import RecipeParser
from real_trl.data.arguments import DataArguments
from real_trl.data.loading import load_judge_dataset
from real_trl.engines import Engine, Judgment, check_num_samples
from real_trl.judge_source import JudgeSource
from real_trl.option_values import FieldError
from real_trl.prompts.shown_score import HINT
from real_trl.report.rationale_yield import yield_lines
from real_trl.runs.batches import plan_batches
from real_trl.runs.command import command, user_errors
from real_trl.runs.fingerprints import data_fingerprint
from real_trl.runs.folder import GeneratedFolder
from real_trl.runs.output_lock import only_writer
from real_trl.runs.rationales import Rationales, Unit
from real_trl.runs.resumable import Resumable
from real_trl.runs.unscored_exit import EXIT_STATUS, end_with_unscored
from real_trl.text.json_text import to_json
from real_trl.text.rationales import rationale_faults
from real_trl.weights.pretrained import distributed_state

_OWN_COLUMNS = {"prompt", "score", "feedback", "sampled_score", "score_histogram", "expected_score", "distance"}


@dataclass
class SelfGenerateArguments(JudgingArguments):
    """
    Arguments of self-generation beside data and model: those of [`JudgingArguments`], and

    Args:
        num_samples (`int`, *optional*, defaults to `1`):
            Rationales sampled for each prompt: a row each, or with `max_distance` those of which one is kept.
        malformed (`str`, *optional*, defaults to `"drop"`):
            Completions without the marker: `"drop"` leaves them out, as TRACT does; `"keep"` takes them whole as
            rationale. Where the marker is there, the text before it is the rationale, whatever follows, since the
            judge's score is replaced anyway. Completions with nothing before the marker are always left out, as are those whose
            thinking does not end.
        max_distance (`float`, *optional*):
            Keep of each row one rationale at most: that after which the expected score is nearest the true score, if it is within this
            many score units ([`~real_trl.runs.rationales.Rationales`]). Rationales that the length limit cut, that are no more than a
            score, and that let on that the score was shown are left out before. By default all are kept, whatever scores they lead to.
        show_score (`bool`, *optional*, defaults to `False`):
            Show the true score in the prompt while a rationale is written ([`~real_trl.prompts.shown_score.with_score`]); the score is
            then read without it, which is a second pass, and `sampled_score` is what the judge wrote with it in sight. Needs `max_distance`.

    Of a judge that thinks, the rationale is what follows its thinking; `completion` in `dropped.jsonl` has all of it.
    """

    malformed_handling: ClassVar[tuple[str, ...]] = ("drop", "keep")

    num_samples: int = field(default=1, metadata={"help": "Rationales for each prompt."})
    malformed: str = field(default="drop", metadata={"help": "Completions without the marker: `drop` or `keep`."})
    max_distance: float | None = field(
        default=None,
        metadata={
            "help": "Keep of each row the rationale whose expected score is nearest the true score, if it is within this many score units. "
            "Default: all, whatever their scores."
        },
    )
    show_score: bool = field(
        default=False,
        metadata={
            "help": "Show the true score while a rationale is written, not where its score is read. Needs max_distance."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_num_samples(self.num_samples, self.do_sample)
        if self.show_score and self.max_distance is None:
            fix = "Set it, to 1 on a scale from 1 to 5, say: what is written with the score in sight has to lead to it without."
            raise FieldError("max_distance", None, fix, ": not set, and show_score is true")


def describe(
    args: SelfGenerateArguments,
    data_args: DataArguments,
    model_args: ModelConfig,
    judge: JudgeSource,
    dataset: Dataset,
) -> dict[str, dict[str, Any]]:
    """Everything that the generated rows depend on."""
    made_with = args.describe(judge, model_args)
    plan = {name: getattr(args, name) for name in ("seed", "num_samples", "batch_size", "malformed", "max_distance")}
    plan["hint"] = HINT if args.show_score else None
    if args.max_distance is None:
        made_with["judge"].pop("normalize_expectation")  # it is about scores, which are replaced
    data = {**asdict(data_args), "rows": len(dataset), "fingerprint": f"sha256 {data_fingerprint(dataset)}"}
    return {**made_with, "sampling": made_with.pop("decoding") | plan, "data": data}


def as_lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """JSON lines."""
    return "".join(to_json(row) + "\n" for row in rows)


def summarize(counts: Mapping[str, Any]) -> str:
    """Counts in a sentence."""

    def listed(kinds: Mapping[str, int]) -> str:
        return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "none"

    return (
        f"{counts['rows']} rows from {counts['completions']} completions of {counts['prompts']} prompts; malformed: "
        f"{listed(counts['malformed'])}; dropped: {listed(counts['dropped'])}"
    )


def _selection(counts: Mapping[str, Any]) -> list[str]:
    return yield_lines(counts["selection"]) if "selection" in counts else []


def _again(folder: str, counts: Mapping[str, Any]) -> str:
    """What the command says that has nothing left to do."""
    return "\n".join([f"Already complete in {folder}: {summarize(counts)}", *_selection(counts)])


def _check_kept(dataset: Dataset, columns: Sequence[str]) -> None:
    """`ValueError` if a column that is passed through cannot be written."""
    for column in columns:
        for index, cell in enumerate(dataset[column]):
            try:
                to_json(cell)
            except TypeError as error:
                raise ValueError(
                    f"keep_columns: the column {column!r} cannot be written as JSON: in row {index} it holds {error}. Leave it out."
                ) from error


def make_parser() -> RecipeParser:
    """The options."""
    return RecipeParser((SelfGenerateArguments, DataArguments, ModelConfig), epilog=EXIT_STATUS)


@command()
def main(argv: Sequence[str] | None = None) -> None:
    """Run the stage; `argv` defaults to the command line."""
    with ExitStack() as held:
        with user_errors():
            command_line = Asked.of_process("self_generate", argv)
            args, data_args, model_args = make_parser().parse_args_and_config(argv)
            if taken := sorted(_OWN_COLUMNS.intersection(data_args.keep_columns or ())):
                said = f": {taken[0]!r} is a column that the generated data have of their own"
                raise FieldError("keep_columns", taken[0], "Rename it in the data, or leave it out.", said)
            state = distributed_state()
            held.enter_context(only_writer(args.output_dir, state=state))
            judge = args.find(model_args.model_name_or_path, model_args)
            if not judge.config.rationale:
                said = f": got the direct judge {judge.name!r}, which writes no rationales"
                fix = "Name a judge that does, or a chat model that was not trained as a judge."
                raise FieldError("model", judge.name, fix, said)
            space = judge.space
            dataset = load_judge_dataset(data_args, scale=space.scale, marker=space.marker)
            _check_kept(dataset, data_args.keep_columns or [])
            if "feedback" in dataset.column_names:
                dataset = dataset.remove_columns("feedback")
            warn_of_other_template(judge.config, data_args.prompt_template)
            output = GeneratedFolder(
                args.output_dir, describe(args, data_args, model_args, judge, dataset), result="train.jsonl"
            )
        with user_errors():
            complete = output.check()
        if complete:
            if state.is_main_process:
                output.discard_parts()
                print(said := _again(args.output_dir, output.counts))
                command_line.record(said)
            return
        made = Rationales(dataset, space, args.malformed, args.max_distance, args.show_score)
        asked = made.asked()
        rationales: list[str] = []

        def load() -> Engine:
            # A completion without the marker brings along what would have followed it. What follows the true score is of no use
            along = args.max_distance is not None and not args.show_score
            engine = args.load(judge, model_args, malformed="force" if along else "drop")
            if args.show_score and not getattr(engine, "can_read", True):
                said = ": got true, but a chat API cannot read the score behind a rationale that is given"
                raise FieldError("show_score", True, "Use api='completions', or set it to false.", said)
            return engine

        def ask(engine: Engine, units: Sequence[Unit], seed: int) -> Iterator[tuple[int, Judgment]]:
            judgments = engine.judge([asked[row] for row, _ in units], seed=seed)
            return judgments if args.max_distance is None else made.read(engine, units, judgments)

        def merge(completions: Iterable[Mapping[str, Any]]) -> tuple[dict[str, str], dict[str, Any]]:
            rows, dropped, counts = made.make_rows(completions)
            rationales.extend(row["feedback"] for row in rows)
            return {"train.jsonl": as_lines(rows), "dropped.jsonl": as_lines(dropped)}, counts

        work = Resumable(
            output,
            asked,
            plan_batches(asked, args.num_samples, args.units_per_call),
            ask=ask,
            as_row=made.as_completion,
            merge=merge,
            seed=args.seed,
            desc="Generating",
        )
        with user_errors():
            unscored = work.run(load, state)
        if state.is_main_process:
            print("\n".join([f"{summarize(output.counts)}. Written to {args.output_dir}", *_selection(output.counts)]))
            for fault in rationale_faults(rationales, space.labels):
                print(f"warning: rationales: {fault}. Stage 2 would be trained to write that before its score.")
            with user_errors():
                if not rationales:
                    said = (
                        f": {args.output_dir!r} holds no row, because no completion could be used (see dropped.jsonl)"
                    )
                    fix = "Raise max_new_tokens, set malformed to keep, or train stage 1 for longer."
                    if args.max_distance is not None:
                        fix = "Raise max_distance, num_samples or max_new_tokens, or set malformed to keep or show_score to true."
                    raise FieldError("output_dir", args.output_dir, fix, said)
            reasons = [(f"row {row}", completion["error"]) for (row, _), completion in unscored]
            end_with_unscored({"completions": reasons}, {"completions": output.counts["completions"]})
            if not reasons:
                command_line.record(_again(args.output_dir, output.counts))


if __name__ == "__main__":
    main()
