# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How figures are named and printed, the same in the terminal, in Markdown and LaTeX, on plots and on the HTML page."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

INFERENCES = {"standard": "Standard", "rail": "RAIL"}
UNDEFINED = "n/a"
CONFIDENCE = "95%"  # nominal coverage of the intervals
MARK = "†"  # behind a figure that is worth nothing


class Metric(NamedTuple):
    """A metric's short title, the factor and decimals it is printed with, and which of several values is best."""

    title: str
    factor: float
    decimals: int
    best: Callable[..., Any]  # `max` or `min`

    def print(self, value: float | None, sign: bool = False) -> str:
        """`value` as text; `sign` shows a plus too."""
        return number(value, self.decimals, self.factor, sign)

    @property
    def unit(self) -> str:
        """The title with the factor, for the axis of a plot."""
        return f"{self.title} × 100" if self.factor == 100 else self.title


METRICS = {
    "pearson": Metric("r", 100.0, 1, max),
    "spearman": Metric("ρ", 100.0, 1, max),
    "kendall": Metric("τ", 100.0, 1, max),
    "rmse": Metric("RMSE", 1.0, 3, min),
    "mae": Metric("MAE", 1.0, 3, min),
    "accuracy": Metric("Acc.", 100.0, 1, max),
    "qwk": Metric("QWK", 100.0, 1, max),
    "pairwise_accuracy": Metric("Pairs", 100.0, 1, max),
}
CORE_METRICS = ("pearson", "spearman", "kendall", "rmse", "mae")  # every result has them; the others need a scale
PAPER_METRICS = ("pearson", "spearman", "kendall", "rmse")  # Table 2, Table 3
LEGEND = "r Pearson, ρ Spearman, τ Kendall τ-b, × 100, higher is better. RMSE, MAE: score units, lower is better."
EXTRA_LEGEND = {
    "accuracy": "Acc.: the label nearest to the score is the one nearest to the target, %.",
    "qwk": "QWK: quadratic weighted kappa × 100.",
    "pairwise_accuracy": "Pairs: answers to one question put in the right order, %.",
}

CALIBRATION = {
    "ece": Metric("ECE", 1.0, 3, min),
    "overconfidence": Metric("Overconfidence", 1.0, 3, min),
    "nll": Metric("NLL", 1.0, 3, min),
    "crps": Metric("CRPS", 1.0, 3, min),
}
CALIBRATION_LEGEND = (
    "ECE: expected calibration error of the most probable label. Overconfidence: its mean probability minus the share of "
    "rows where it is right. NLL: of the target, nats. CRPS: in score units. Lower is better; overconfidence is best at 0."
)

# What becomes of malformed answers, by `malformed_handling`
HANDLING = {
    "force": "read at a forced marker, and counted",
    "drop": "left out of the figures",
    "strict": "counted as wrong: the end of the scale farthest from the target",
}

# How ŷ was computed, by `normalize_expectation`
EXPECTATIONS = {
    False: "ŷ = Σ k·π(k), π over the whole vocabulary: what is missing to a mass of 1 pulls it towards 0",
    True: "ŷ = Σ k·π(k) / Σ π(k), divided by the probability mass on the labels",
}


def is_undefined(value: float | None) -> bool:
    """Whether a figure has no value: `None` (as JSON has it) or NaN."""
    return value is None or math.isnan(value)


def number(value: float | None, decimals: int, factor: float = 1.0, sign: bool = False) -> str:
    """`factor * value` with that many decimals, `n/a` where it is undefined."""
    if is_undefined(value):
        return UNDEFINED
    text = f"{factor * value:{'+' if sign else ''}.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0 else text  # neither -0.0 nor +0.0


def p_value(value: float | None) -> str:
    """A p-value with three decimals, `<0.001` below."""
    return "<0.001" if not is_undefined(value) and value < 0.001 else number(value, 3)


def malformed_text(result: dict[str, Any]) -> str:
    """How many answers of one result were malformed, why, and how they count; said also when there were none."""
    convention = result["malformed_handling"]
    handling = f"{convention} ({HANDLING[convention]})" if convention in HANDLING else convention
    count, answers = sum(result["malformed"].values()), result["n_rows"] - result.get("n_unscored", 0)
    if not count:
        return f"none of {answers}; convention {handling}"
    reasons = ", ".join(f"{n} {status}" for status, n in result["malformed"].items())
    return f"{count} of {answers} ({number(result['malformed_rate'], 1, 100)}%: {reasons}); convention {handling}"
