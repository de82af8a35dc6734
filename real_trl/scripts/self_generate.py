# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
TRACT: let a stage-1 judge write the rationales of a training set, and keep the true labels.

    accelerate launch -m real_trl.scripts.self_generate --config recipes/quickstart/tract_self_generate.yaml

Stage 1 is RAFT (`sft`). This samples a rationale for every prompt from its judge and takes the judge's score off; stage 2 is
RAFT again, from the base model, with `dataset_name: <output_dir>`. Writes to `output_dir`: `train.jsonl` (`prompt`, `score`
with the true label, `feedback` with the rationale, `sampled_score`, kept columns), `dropped.jsonl` (completions that
could not be used) and `provenance.json`.

Prompts that the engine gives no answer to are left out; then the exit status is 3, and the same command asks for them again.

The same command goes on where a killed run stopped. What is sampled depends on the seed and the batch, not on the
process: the result is the same however often a run was stopped and however many processes shared it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from datasets import Dataset
from trl import ModelConfig

from real_trl.arguments.judging import JudgingArguments, warn_of_other_template
from real_trl.arguments.parser import RecipeParser, user_errors
from real_trl.data.arguments import DataArguments
from real_trl.data.loading import load_judge_dataset
from real_trl.data.rows import strip_score_sentence
from real_trl.engines import Judgment, check_num_samples
from real_trl.evaluation.unscored import UNSCORED
from real_trl.judge_source import JudgeSource
from real_trl.option_values import FieldError
from real_trl.prompts.completion_parts import spoken_text
from real_trl.runs.batches import plan_batches
from real_trl.runs.command import command
from real_trl.runs.fingerprints import data_fingerprint
from real_trl.runs.folder import GeneratedFolder
from real_trl.runs.output_lock import only_writer
from real_trl.runs.resumable import Resumable
from real_trl.runs.unscored_exit import EXIT_STATUS, end_with_unscored
from real_trl.score_space import ScoreSpace
from real_trl.text.json_text import to_json
from real_trl.text.rationales import rationale_faults
from real_trl.weights.pretrained import distributed_state

_OWN_COLUMNS = {"prompt", "score", "feedback", "sampled_score", "score_histogram"}


@dataclass
class SelfGenerateArguments(JudgingArguments):
    """
    Arguments of self-generation beside data and model: those of [`JudgingArguments`], and

    Args:
        num_samples (`int`, *optional*, defaults to `1`):
            Rationales sampled for each prompt, a row each.
        malformed (`str`, *optional*, defaults to `"drop"`):
            Completions without the marker: `"drop"` leaves them out, as TRACT does; `"keep"` takes them whole as
            rationale. Where the marker is there, the text before it is the rationale, whatever follows, since the
            judge's score is replaced anyway. Completions with nothing before the marker are always left out, as are those whose
            thinking does not end.

    Of a judge that thinks, the rationale is what follows its thinking; `completion` in `dropped.jsonl` has all of it.
    """

    malformed_handling: ClassVar[tuple[str, ...]] = ("drop", "keep")

    num_samples: int = field(default=1, metadata={"help": "Rationales for each prompt."})
    malformed: str = field(default="drop", metadata={"help": "Completions without the marker: `drop` or `keep`."})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_num_samples(self.num_samples, self.do_sample)


def as_completion(unit: tuple[int, int], judgment: Judgment) -> dict[str, Any]:
    """What is kept of the completion of a unit, `(row, sample)`."""
    kept = ("status", "sampled_score", "completion", "rationale", *(("error",) if judgment.error is not None else ()))
    return {"row": unit[0], "sample": unit[1], **{name: getattr(judgment, name) for name in kept}}


def find_rationale(
    completion: str, status: str, space: ScoreSpace, malformed: str, rationale: str | None = None
) -> str | None:
    """
    The rationale of a completion, without the judge's score, or `None` if the completion has no marker and `malformed` is "drop", or
    if its thinking does not end. `rationale` is what the engine took for it, by default what the completion's text shows.
    """
    if status == "unclosed" or (status == "missing" and malformed == "drop"):
        return None
    if rationale is None:
        rationale = spoken_text(space, completion).rationale
    return strip_score_sentence(rationale, space.marker)


def make_rows(
    dataset: Dataset, completions: Iterable[Mapping[str, Any]], space: ScoreSpace, malformed: str
) -> tuple[list[dict], list[dict], dict[str, Any]]:
    """
    Pair rationales with the true labels.

    Args:
        completions (`Sequence[Mapping]`):
            As of [`as_completion`].
        malformed (`str`):
            See [`SelfGenerateArguments`].

    Returns:
        Rows for stage 2, dropped completions, and counts.
    """
    rows, dropped = [], []
    completions = list(completions)
    for generated in sorted(completions, key=lambda generated: (generated["row"], generated["sample"])):
        if generated["status"] == UNSCORED:
            dropped.append({"reason": UNSCORED, **generated})
            continue
        found = generated["completion"], generated["status"]
        rationale = find_rationale(*found, space, malformed, generated.get("rationale"))
        if rationale:
            sampled = {"feedback": rationale, "sampled_score": generated["sampled_score"]}
            rows.append({**dataset[generated["row"]], **sampled})
        else:
            unusable = "unclosed" if generated["status"] == "unclosed" else "unmarked"
            reason = "empty" if rationale is not None else unusable
            dropped.append({"reason": reason, **generated})
    counts = {
        "prompts": len(dataset),
        "completions": len(completions),
        "rows": len(rows),
        "malformed": dict(Counter(g["status"] for g in completions if g["status"] not in ("ok", UNSCORED))),
        "dropped": dict(Counter(row["reason"] for row in dropped)),
    }
    return rows, dropped, counts


def describe(
    args: SelfGenerateArguments,
    data_args: DataArguments,
    model_args: ModelConfig,
    judge: JudgeSource,
    dataset: Dataset,
) -> dict[str, dict[str, Any]]:
    """Everything that the generated rows depend on."""
    made_with = args.describe(judge, model_args)
    made_with["judge"].pop("normalize_expectation")  # it is about scores, which are replaced
    plan = {name: getattr(args, name) for name in ("seed", "num_samples", "batch_size", "malformed")}
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


@command()
def main(argv: Sequence[str] | None = None) -> None:
    """Run the stage; `argv` defaults to the command line."""
    with ExitStack() as held:
        with user_errors():
            parser = RecipeParser((SelfGenerateArguments, DataArguments, ModelConfig), epilog=EXIT_STATUS)
            args, data_args, model_args = parser.parse_args_and_config(argv)
            if taken := sorted(_OWN_COLUMNS.intersection(data_args.keep_columns or ())):
                said = f": {taken[0]!r} is a column that the generated data have of their own"
                raise FieldError("keep_columns", taken[0], "Rename it in the data, or leave it out.", said)
            state = distributed_state()
            held.enter_context(only_writer(args.output_dir, state=state))
            judge = args.find(model_args.model_name_or_path, model_args)
            if not judge.config.rationale:
                said = f": got the direct judge {judge.name!r}, which writes no rationales"
                fix = "Name a judge that does, or a chat model that was not trained as a judge."
                raise FieldError("model_name_or_path", judge.name, fix, said)
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
                print(f"Already complete in {args.output_dir}: {summarize(output.counts)}")
            return
        prompts = dataset["prompt"][:]
        rationales: list[str] = []

        def merge(completions: Iterable[Mapping[str, Any]]) -> tuple[dict[str, str], dict[str, Any]]:
            rows, dropped, counts = make_rows(dataset, completions, space, args.malformed)
            rationales.extend(row["feedback"] for row in rows)
            return {"train.jsonl": as_lines(rows), "dropped.jsonl": as_lines(dropped)}, counts

        work = Resumable(
            output,
            prompts,
            plan_batches(prompts, args.num_samples, args.units_per_call),
            ask=lambda engine, units, seed: engine.judge([prompts[row] for row, _ in units], seed=seed),
            as_row=as_completion,
            merge=merge,
            seed=args.seed,
            desc="Generating",
        )
        with user_errors():
            unscored = work.run(lambda: args.load(judge, model_args, malformed="drop"), state)
        if state.is_main_process:
            print(f"{summarize(output.counts)}. Written to {args.output_dir}")
            for fault in rationale_faults(rationales, space.labels):
                print(f"warning: rationales: {fault}. Stage 2 would be trained to write that before its score.")
            with user_errors():
                if not rationales:
                    said = (
                        f": {args.output_dir!r} holds no row, because no completion could be used (see dropped.jsonl)"
                    )
                    fix = "Raise max_new_tokens, set malformed to keep, or train stage 1 for longer."
                    raise FieldError("output_dir", args.output_dir, fix, said)
            reasons = [(f"row {row}", completion["error"]) for (row, _), completion in unscored]
            end_with_unscored({"completions": reasons}, {"completions": output.counts["completions"]})


if __name__ == "__main__":
    main()
