# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluations made by hand or by chance, for the tests of the report."""

import numpy as np
import pandas as pd

from real_trl.evaluation.calibration import calibration_columns, calibration_metrics
from real_trl.evaluation.metrics import score_metrics

NAN = float("nan")


def figures(pearson, spearman, kendall, rmse, mae, n=320, **more):
    return {
        "pearson": pearson, "spearman": spearman, "kendall": kendall, "rmse": rmse, "mae": mae, "n": n, **more
    }  # fmt: skip


def result(standard, rail, malformed=None, n_rows=320, handling="force", **more):
    malformed = malformed or {}
    return {
        "standard": standard,
        "rail": rail,
        "malformed": malformed,
        "malformed_rate": sum(malformed.values()) / n_rows,
        "malformed_handling": handling,
        "n_rows": n_rows,
        "notes": [],
        "calibration": {},
        **more,
    }


def literal_evaluation():
    """Two judges, two datasets; every figure is written down, and one is undefined."""
    base_mt = result(
        figures(0.309, 0.318, 0.253, 1.225, 0.901, accuracy=0.4, qwk=0.3),
        figures(0.32, 0.299, 0.214, 1.2, 0.9, accuracy=0.41, qwk=0.31),
        {"missing": 10, "truncated": 2},
        intervals={
            "standard": {"pearson": [0.25, 0.36], "rmse": [1.1, 1.35]},
            "rail": {"pearson": [-0.02, 0.38], "rmse": [1.0, 1.3], "kendall": [NAN, NAN]},
        },
    )
    real_mt = result(
        figures(0.55, 0.53, 0.45, 1.0, 0.7, accuracy=0.5, qwk=0.5),
        figures(0.593, 0.569, 0.422, 0.968, 0.697, accuracy=0.52, qwk=0.55),
    )
    base_fb = result(
        figures(NAN, NAN, NAN, 1.5, 1.25, n=100),
        figures(0.837, 0.843, 0.702, 1.4, 1.2, n=100),
        n_rows=100,
        notes=["standard: every prediction is 3, so the correlations are not defined"],
    )
    real_fb = result(
        figures(0.9, 0.9, 0.8, 0.6, 0.5, n=100), figures(0.932, 0.934, 0.825, 0.5, 0.4, n=100), n_rows=100
    )
    five = {"labels": ["1", "2", "3", "4", "5"], "values": [1.0, 2.0, 3.0, 4.0, 5.0]}
    difference = {"difference": 0.273, "interval": [0.2, 0.34], "p_value": 0.0004}
    return {
        "judges": {
            "base_50%": {"model": "models/base", "judge": {"method": None}},
            "REAL": {"model": "models/real", "judge": {"method": "regression"}},
        },
        "datasets": {
            "mt_bench": {"n_rows": 320, "n_groups": 80, **five},
            "fb": {"n_rows": 100, "n_groups": 20, **five},
        },
        "results": {"mt_bench": {"base_50%": base_mt, "REAL": real_mt}, "fb": {"base_50%": base_fb, "REAL": real_fb}},
        "comparisons": {
            "mt_bench": [
                {
                    "a": "REAL",
                    "b": "base_50%",
                    "standard": {"pearson": {"difference": 0.05, "interval": [-0.01, 0.11], "p_value": 0.091}},
                    "rail": {
                        "pearson": difference,
                        "rmse": {"difference": NAN, "interval": [NAN, NAN], "p_value": NAN},
                    },
                }
            ]
        },
        "settings": {"malformed": "force", "num_samples": 1},
        "versions": {"real_trl": "0.3"},
        "command": "evaluate --judges base real",
    }


def make_frame(values, targets, skill, seed, prompts, concentration=2.0, malformed=0.05):
    """Predictions of a judge that is right to within `skill` (in units of the score), with a distribution around it."""
    generator = np.random.default_rng(seed)
    values = np.asarray(values, dtype=float)
    step = np.diff(values).mean()
    centre = targets + generator.normal(0, skill, len(targets))
    logits = (
        -np.abs(values[None] - centre[:, None]) / step / concentration * generator.uniform(0.6, 3, (len(targets), 1))
    )
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    mass = generator.beta(60, 1, len(targets))
    expected = probabilities @ values
    spread = np.sqrt(probabilities @ values**2 - expected**2)
    sampled = np.array([generator.choice(values, p=row) for row in probabilities])
    status = generator.choice(
        ["ok", "missing", "truncated", "outside"], len(targets), p=[1 - malformed, *[malformed / 3] * 3]
    )
    rationale = [
        f"The response answers the question, but claim {index} is not supported. "
        + "It is clear and polite. " * (index % 7)
        for index in range(len(targets))
    ]
    return pd.DataFrame(
        {
            "row": np.arange(len(targets)),
            "id": [f"q{index // 4}-{'abcd'[index % 4]}" for index in range(len(targets))],
            "group": [f"q{index // 4}" for index in range(len(targets))],
            "target": targets,
            "completion": [f"{text}So the overall score is {score:g}" for text, score in zip(rationale, sampled, strict=True)],
            "rationale": rationale,
            "status": status,
            "sampled_score": sampled,
            "most_likely_score": values[probabilities.argmax(1)],
            "expected_score": expected,
            "probabilities": list(probabilities * mass[:, None]),
            "spread": spread,
            "mass": mass,
            "missing_mass": 0.0,
            "prompt_tokens": generator.integers(300, 900, len(targets)),
            "num_tokens": generator.integers(20, 200, len(targets)),
            "entropy": generator.uniform(0.1, 1.2, len(targets)),
            "prompt": prompts,
            "category": [("writing", "maths", "coding", "role play")[index // 4 % 4] for index in range(len(targets))],
        }
    )  # fmt: skip


def made_result(frame, values):
    """A result like that of `evaluate_predictions`, with intervals of plausible widths."""
    target = frame["target"]
    judged = {
        inference: {**score_metrics(frame[column], target), "accuracy": 0.5, "qwk": 0.6, "pairwise_accuracy": 0.7}
        for inference, column in (("standard", "sampled_score"), ("rail", "expected_score"))
    }
    width = {key: 0.1 if abs(value) <= 1 else 0.15 * value for key, value in judged["rail"].items() if key != "n"}
    probabilities = np.stack(frame["probabilities"])
    calibration = calibration_metrics(calibration_columns(probabilities, target.to_numpy(), values))
    malformed = frame["status"][frame["status"] != "ok"].value_counts().to_dict()
    return result(
        judged["standard"],
        judged["rail"],
        malformed,
        n_rows=len(frame),
        n_groups=frame["group"].nunique(),
        calibration=calibration,
        intervals={
            name: {key: [row[key] - width[key], row[key] + 0.7 * width[key]] for key in width}
            for name, row in judged.items()
        },
    )


def made_evaluation(scales, n=100, judges=("raft", "REAL"), seed=0):
    """`scales`: dataset → (labels, values). Returns the evaluation and dataset → judge → frame."""
    evaluation = {"judges": {}, "datasets": {}, "results": {}, "comparisons": {}, "breakdown": {}}
    predictions = {}
    for number, (dataset, (labels, values)) in enumerate(scales.items()):
        generator = np.random.default_rng(seed + number)
        span = max(values) - min(values)
        ratings = [np.sort(generator.choice(values, 3) * 0.3 + generator.choice(values) * 0.7) for _ in range(n)]
        targets = np.array([row.mean() for row in ratings]).round(1)
        prompts = [
            f"### Instruction\nAnswer question {index} of {dataset}.\n\n### Response\nAn answer.\n"
            + "More text. " * 60
            for index in range(n)
        ]
        frames = {
            judge: make_frame(values, targets, span * (0.25 - 0.12 * place), 17 * number + place, prompts)
            for place, judge in enumerate(judges)
        }
        predictions[dataset] = frames
        evaluation["datasets"][dataset] = {"n_rows": n, "n_groups": n // 4, "labels": labels, "values": values}
        evaluation["results"][dataset] = {judge: made_result(frame, values) for judge, frame in frames.items()}
        evaluation["breakdown"][dataset] = {
            "category": {
                value: {
                    judge: made_result(frame[frame["category"] == value], values) for judge, frame in frames.items()
                }
                for value in frames[judges[0]]["category"].unique()
            }
        }
        rows = {
            metric: {"difference": 0.08, "interval": [0.01, 0.15], "p_value": 0.021, "p_adjusted": 0.042}
            for metric in ("pearson", "spearman", "kendall", "rmse", "mae")
        }
        evaluation["comparisons"][dataset] = [{"a": judges[-1], "b": judges[0], "standard": rows, "rail": rows}]
    for judge in judges:
        evaluation["judges"][judge] = {"model": f"models/{judge}", "judge": {"method": judge}}
    evaluation["settings"] = {"malformed": "force", "num_samples": 1, "seed": 0}
    evaluation["versions"] = {"python": "3.11", "torch": "2.13.0"}
    evaluation["command"] = "real-trl evaluate --config evaluate.yaml"
    return evaluation, predictions


ONE_TO_FIVE = (list("12345"), [1.0, 2.0, 3.0, 4.0, 5.0])
PERCENT = ([str(value) for value in range(101)], [float(value) for value in range(101)])
WORDS = (["poor", "fair", "good", "excellent"], [0.0, 1.0, 2.0, 4.0])
