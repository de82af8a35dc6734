# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What is made of a language model: direct judges, untrained or trained by the stage `sft`, and the model with a regression head."""

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from experiments.real_scores_baselines import HIGHEST, LOWEST
from experiments.real_scores_data import Fold

# Method → weight of the squared error of the expected score. One training serves the decoded and the expected score
JUDGES = {"raft": 1.0, "sft": 0.0}
HEAD = "head"
TRAINED = (*JUDGES, HEAD)
# Method → whether prompts go through the model's chat template
UNTRAINED = {"zero_shot": False, "zero_shot_chat": True}
_BATCH = 32
# As trained: four times as fast as float32 with AMX. An expected score is off by one or two hundredths
_READ_IN = "bfloat16"


def judge_untrained(
    base: Path, rows: pd.DataFrame, chat: bool, settings: Mapping[str, Any]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """What the model as it ships says, asked for its score at once; and nothing to record."""
    return _read(base, rows.assign(prompt=rows["asked"]), settings, rationale=False, chat=chat), {}


def train_and_judge(
    method: str, base: Path, fold: Fold, rate: float, seed: int, settings: Mapping[str, Any], folder: Path
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """
    Train a method on the fold's training rows.

    Args:
        method (`str`):
            One of [`TRAINED`].
        base (`Path`):
            The model.
        rate (`float`):
            Learning rate.
        seed (`int`):
            Of the order of the rows, and of the weights of the regression head.
        folder (`Path`):
            For what is needed meanwhile; the weights are removed at the end.

    Returns:
        `tuple`: Predictions of the parts `validation` and `test`, see [`predictions`], and what the training logged last.
    """
    shutil.rmtree(folder, ignore_errors=True)  # what a stopped run left
    folder.mkdir(parents=True)
    train = _train_head if method == HEAD else _train_judge
    judged, logged = train(method, base, fold, _arguments(len(fold.train), rate, seed, settings), settings, folder)
    shutil.rmtree(folder)
    return judged, {"logged": logged}


def _arguments(rows: int, rate: float, seed: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of Transformers' trainer, the same for all methods."""
    training = settings["training"]
    epochs = training["epochs"].get(rows, training["epochs"]["all"])
    steps = math.ceil(rows / training["batch_size"]) * epochs
    return {
        "learning_rate": rate,
        "num_train_epochs": epochs,
        "per_device_train_batch_size": training["batch_size"],
        "lr_scheduler_type": "linear",
        "warmup_steps": max(1, round(training["warmup_fraction"] * steps)),
        "optim": "adamw_torch_fused",
        "bf16": training.get("bf16", True),
        "use_cpu": True,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": max(1, steps // 5),
        "seed": seed,
    }


def _train_judge(
    method: str, base: Path, fold: Fold, arguments: dict[str, Any], settings: Mapping[str, Any], folder: Path
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    from real_trl.scripts import sft

    rows = [{"prompt": row["prompt"], "score": row["target"]} for row in fold.train.to_dict("records")]
    (folder / "train.json").write_text(json.dumps(rows), encoding="utf-8")
    recipe = {
        "model_name_or_path": str(base),
        "output_dir": str(folder / "judge"),
        "dataset_name": str(folder / "train.json"),
        "prompt_column": "prompt",
        "score_column": "score",
        "score_labels": settings["score_labels"],
        "score_marker": settings["marker"],
        "chat": False,
        "rationale": False,
        "regression_weight": JUDGES[method],
        **arguments,
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    sft.main(["--config", str(folder / "recipe.yaml")])
    state = json.loads((folder / "judge" / "trainer_state.json").read_text(encoding="utf-8"))
    judged = {name: _read(folder / "judge", rows, {}) for name, rows in _judged_parts(fold).items()}
    return judged, {key: value for each in state["log_history"][-2:] for key, value in each.items()}


def _read(judge: Path, rows: pd.DataFrame, settings: Mapping[str, Any], **options: Any) -> pd.DataFrame:
    from real_trl import Judge

    said = {"score_labels": settings["score_labels"], "score_marker": settings["marker"]} if settings else {}
    judge = Judge.from_pretrained(judge, dtype=_READ_IN, batch_size=_BATCH, do_sample=False, **said, **options)
    judgments = judge.judge(list(rows["prompt"]))
    return predictions(
        rows,
        np.array([each.expected_score for each in judgments]),
        np.array([each.sampled_score for each in judgments]),
        np.array([each.mass for each in judgments]),
        [list(each.probabilities.values()) for each in judgments],
    )


def _train_head(
    method: str, base: Path, fold: Fold, arguments: dict[str, Any], settings: Mapping[str, Any], folder: Path
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """The model with a linear head on its last token, on labels with mean 0 and variance 1; predictions are kept on the scale."""
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(arguments["seed"])  # for the head's weights
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(
        base,
        num_labels=1,
        problem_type="regression",
        dtype="float32",
        attn_implementation="eager",  # in bfloat16 on a CPU, sdpa's backward takes longer than all else where texts are short
        pad_token_id=tokenizer.pad_token_id,
    )
    mean, deviation = fold.train["target"].mean(), fold.train["target"].std() or 1.0

    def tokens(rows: pd.DataFrame) -> Dataset:
        # What a judge reads before its score
        texts = [prompt + settings["marker"].rstrip() for prompt in rows["prompt"]]
        labels = ((rows["target"] - mean) / deviation).astype("float32")
        return Dataset.from_dict({"input_ids": tokenizer(texts)["input_ids"], "labels": labels.tolist()})

    trainer = Trainer(
        model,
        TrainingArguments(str(folder), per_device_eval_batch_size=_BATCH, **arguments),
        train_dataset=tokens(fold.train),
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
    )
    logged = trainer.train().metrics
    judged = {}
    for name, rows in _judged_parts(fold).items():
        order = rows["prompt"].str.len().sort_values().index
        found = trainer.predict(tokens(rows.loc[order])).predictions
        found = pd.Series(np.asarray(found, dtype=np.float64).ravel(), index=order)[rows.index].to_numpy()
        judged[name] = predictions(rows, np.clip(mean + deviation * found, LOWEST, HIGHEST))
    return judged, logged


def _judged_parts(fold: Fold) -> dict[str, pd.DataFrame]:
    return {name: part for name in ("validation", "test") if len(part := getattr(fold, name))}


def predictions(
    rows: pd.DataFrame,
    expected: np.ndarray,
    sampled: np.ndarray | None = None,
    mass: np.ndarray | None = None,
    probabilities: list[list[float]] | None = None,
) -> pd.DataFrame:
    """
    Predictions `(n,)` of rows: `id`, `group`, `target`, `expected_score`, `sampled_score` (the most likely label; of methods without a
    distribution the same as the expected score), `mass` and `probabilities` of the labels.
    """
    return pd.DataFrame(
        {
            "id": rows["id"],
            "group": rows["group"],
            "target": rows["target"],
            "expected_score": expected,
            "sampled_score": expected if sampled is None else sampled,
            "mass": np.nan if mass is None else mass,
            "probabilities": [None] * len(rows) if probabilities is None else probabilities,
        }
    )
