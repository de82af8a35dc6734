# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Reinforcement learning: REAL, or a baseline by `reward` (`accuracy`: Standard RL, `log_likelihood`: JEPO).

    accelerate launch -m real_trl.scripts.rl --config recipes/quickstart/real.yaml

The data needs prompts and scores; rationales are sampled.
"""

from collections.abc import Sequence

from datasets import Dataset

from real_trl.scripts.common import as_messages, make_trainer, open_stage, train_and_save, user_errors
from real_trl.trainers import REALConfig, REALTrainer


def training_rows(dataset: Dataset, chat: bool) -> Dataset:
    """Rows for `REALTrainer`: `prompt` as text, or as messages with `chat`, and `score`."""
    dataset = dataset.select_columns(["prompt", "score"])
    if not chat:
        return dataset
    return dataset.map(lambda row: {"prompt": as_messages(row["prompt"], "user")}, desc="Building messages")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stage; `argv` defaults to the command line."""
    with user_errors():
        stage = open_stage(REALConfig, argv, require_feedback=False)
        trainer = make_trainer(REALTrainer, stage, lambda dataset: training_rows(dataset, stage.chat))
    train_and_save(trainer, stage)


if __name__ == "__main__":
    main()
