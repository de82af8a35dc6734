# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Reinforcement learning: REAL, or a baseline by `reward` (`accuracy`: Standard RL; `log_likelihood`, `log_marginal`: JEPO).

    real-trl rl --config recipes/quickstart/real.yaml

The data needs prompts and scores; rationales are sampled.
"""

from collections.abc import Sequence
from contextlib import ExitStack

from datasets import Dataset

from real_trl.runs.command import command, user_errors
from real_trl.scripts._training import make_trainer, open_stage, train_and_save
from real_trl.trainers import REALConfig, REALTrainer
from real_trl.trainers.preflight import DEFAULT_SCORED_RATE
from real_trl.trainers.starting_judge import pair_rows, stage_prompt


def training_rows(dataset: Dataset, chat: bool, system_prompt: str | None = None) -> Dataset:
    """Rows for `REALTrainer`: `prompt` as text, or as messages in a chat, `score`, and the raters' histograms; or pairs."""
    if "preference" in dataset.column_names:
        return pair_rows(dataset, chat, system_prompt)
    dataset = dataset.select_columns([c for c in ("prompt", "score", "score_histogram") if c in dataset.column_names])
    return dataset.map(
        lambda row: {"prompt": stage_prompt(row["prompt"], chat, system_prompt)}, desc="Building prompts"
    )


@command()
def main(argv: Sequence[str] | None = None) -> None:
    """Run the stage; `argv` defaults to the command line."""
    with ExitStack() as held:
        with user_errors():
            stage = open_stage(REALConfig, argv, held)
            if stage.training_args.preflight_scored_rate is None:
                stage.training_args.preflight_scored_rate = DEFAULT_SCORED_RATE
            trainer = make_trainer(
                REALTrainer,
                stage,
                lambda dataset: training_rows(dataset, stage.prompt_format.chat, stage.prompt_format.system_prompt),
            )
        train_and_save(trainer, stage)


if __name__ == "__main__":
    main()
