# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Judges that write a rationale first, on short answers that have none: the model's own rationales (`self_generate`), RAFT on those that were
kept, and reinforcement learning from that judge. Every stage is an ordinary one with a recipe of `recipes/short-answers/`, which is written
beside its outputs with what the grid changes in it.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from experiments.real_scores_data import Fold
from experiments.real_scores_models import predictions

WARM_START = "rationale_raft"
# Method → what its recipe has in the place of what REAL has
RL: dict[str, dict[str, Any]] = {
    "standard_rl": {"reward": "accuracy", "malformed": "penalize"},  # a forced score is not a sampled one
    "jepo": {"reward": "log_likelihood", "prediction_weight": 1.0},
    "real": {},
}
WITH_RATIONALES = (WARM_START, *RL)
_COLUMNS = {"question": "question", "first": "reference_answer", "second": "student_answer", "target": "score"}
_DATA = {"score_column": "score", "raters": None, "holdout_fraction": None, "holdout_group": None}


def train_with_rationales(
    method: str, base: Path, fold: Fold, seed: int, options: Mapping[str, Any], folder: Path
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """
    Train a method on the fold's training rows, after what it needs, and judge the first `options["test_rows"]` of its test rows in a random
    order.

    Args:
        method (`str`):
            One of [`WITH_RATIONALES`].
        base (`Path`):
            The model.
        seed (`int`):
            Of everything.
        options (`Mapping`):
            `rationales` of the grid.
        folder (`Path`):
            Of the fold: rationales and the warm start stay there for the methods that start from them.

    Returns:
        `tuple`: Predictions, with `status`, and how many rationales were kept and what the training logged last.
    """
    from real_trl import Judge
    from real_trl.scripts import rl

    folder.mkdir(parents=True, exist_ok=True)
    counts = _warm_start(base, fold, seed, options, folder)
    judge = folder / method
    if method in RL:
        shutil.rmtree(judge, ignore_errors=True)  # what a stopped run left
        changes = {"model_name_or_path": folder / WARM_START, "dataset_name": folder / "train.json", **_DATA}
        rl.main(_recipe("real", options, folder, seed, output_dir=judge, **changes, **options["rl"], **RL[method]))
    logged = json.loads((judge / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    rows = fold.test.sample(frac=1, random_state=seed)[: options["test_rows"]]
    loaded = Judge.from_pretrained(
        judge,
        prompt_template=str(Path(options["recipes"], "prompt.jinja")),
        dtype="bfloat16",
        batch_size=16,
        malformed="force",
        max_new_tokens=options["generation"]["max_new_tokens"],
    )
    fields = rows.rename(columns={"question": "instruction", "first": "reference", "second": "response"})
    judgments = loaded.score(fields[["instruction", "reference", "response"]], seed=seed)
    found = predictions(
        rows,
        np.array([each.expected_score for each in judgments]),
        np.array([each.sampled_score for each in judgments]),
        np.array([each.mass for each in judgments]),
        [list(each.probabilities.values()) for each in judgments],
    )
    if method in RL:
        shutil.rmtree(judge)
    said = {key: value for each in logged[-2:] for key, value in each.items()}
    malformed = float(np.mean([each.status != "ok" for each in judgments]))
    return found, {"counts": counts, "malformed": malformed, "logged": said}


def _warm_start(base: Path, fold: Fold, seed: int, options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The fold's rationales and RAFT on them, if they are not there; how many rationales were kept."""
    from real_trl.scripts import self_generate, sft

    rationales, judge = folder / "rationales", folder / WARM_START
    if not (judge / "judge_config.json").is_file():
        rows = fold.train.rename(columns=_COLUMNS)[list(_COLUMNS.values())]
        (folder / "train.json").write_text(rows.to_json(orient="records"), encoding="utf-8")
        changes = {"model_name_or_path": base, "dataset_name": folder / "train.json", **_DATA, **options["generation"]}
        self_generate.main(_recipe("rationales", options, folder, seed, output_dir=rationales, **changes))
        shutil.rmtree(judge, ignore_errors=True)
        changes = {"model_name_or_path": base, "dataset_name": rationales, **options["raft"]}
        sft.main(_recipe("raft", options, folder, seed, output_dir=judge, **changes))
    return json.loads((rationales / "provenance.json").read_text(encoding="utf-8"))["counts"]


def _recipe(name: str, options: Mapping[str, Any], folder: Path, seed: int, **changes: Any) -> list[str]:
    """The recipe with `changes`, of which `None` removes a key; returns the stage's command line."""
    recipe = yaml.safe_load(Path(options["recipes"], f"{name}.yaml").read_text(encoding="utf-8"))
    recipe |= {key: str(value) if isinstance(value, Path) else value for key, value in changes.items()}
    recipe = {key: value for key, value in recipe.items() if value is not None}
    path = Path(folder, f"{changes['output_dir'].name}.yaml")
    path.write_text(yaml.safe_dump({**recipe, "seed": seed}, allow_unicode=True), encoding="utf-8")
    return ["--config", str(path)]
