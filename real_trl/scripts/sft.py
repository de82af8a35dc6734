# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Supervised warm start: RAFT (Eq. 3), or plain SFT with `regression_weight: 0`.

    real-trl sft --config recipes/quickstart/raft.yaml

The completion trained on is `<feedback> <score_marker><score>`. Data without rationales (`feedback`), or `rationale: false`, train
a direct judge, whose completion is `<score_marker><score>`; preferences between two responses (`pair_columns`) train one too.
"""

from collections.abc import Sequence
from contextlib import ExitStack

from datasets import Dataset

from real_trl.data.loading import build_completion
from real_trl.prompts.answer import answer_to
from real_trl.runs.command import command, user_errors
from real_trl.score_space import ScoreSpace
from real_trl.scripts._training import make_trainer, open_stage, train_and_save
from real_trl.trainers import RAFTConfig, RAFTTrainer
from real_trl.trainers.starting_judge import pair_rows, stage_prompt


def training_rows(
    dataset: Dataset, space: ScoreSpace, chat: bool, system_prompt: str | None = None, *, rationale: bool = True
) -> Dataset:
    """
    Rows for `RAFTTrainer`: `prompt` and `completion` as text, or as messages in a chat, `score`, and the raters'
    histograms. Without `rationale`, completions are marker and score. A score between two labels is written as the nearest one (of two, the lower); the loss has the score.
    """

    def to_row(row: dict) -> dict:
        label = space.scale.nearest_label(row["score"])
        completion = build_completion(row["feedback"] if rationale else "", label, space.marker)
        return {
            "prompt": stage_prompt(row["prompt"], chat, system_prompt),
            "completion": answer_to(row["prompt"], completion, chat),
        }

    if "preference" in dataset.column_names:  # the trainer makes both completions
        return pair_rows(dataset, chat, system_prompt)
    unused = [c for c in dataset.column_names if c not in ("prompt", "score", "score_histogram")]
    return dataset.map(to_row, remove_columns=unused, desc="Building completions")


@command()
def main(argv: Sequence[str] | None = None) -> None:
    """Run the stage; `argv` defaults to the command line."""
    with ExitStack() as held:
        with user_errors():
            stage = open_stage(RAFTConfig, argv, held)
            trainer = make_trainer(
                RAFTTrainer,
                stage,
                lambda dataset: training_rows(
                    dataset,
                    stage.space,
                    stage.prompt_format.chat,
                    stage.prompt_format.system_prompt,
                    rationale=stage.training_args.rationale,
                ),
            )
        train_and_save(trainer, stage)


if __name__ == "__main__":
    main()
