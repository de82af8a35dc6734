# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How figures are named and printed, the same in the terminal, in Markdown and LaTeX, on plots and on the HTML page."""

from typing import Any

from real_trl.evaluation.registry import is_undefined, number

INFERENCES = {"standard": "Standard", "rail": "RAIL"}
CONFIDENCE = "95%"  # nominal coverage of the intervals
MARK = "†"  # behind a figure that is worth nothing


LEGEND = (
    "Correlations × 100, higher is better: r is Pearson's; ρ, Spearman's, and τ, Kendall's τ-b, are of ranks. RMSE, MAE: root mean squared and "
    "mean absolute error, in score units, lower is better. Standard: the decoded score; RAIL: the expected score ŷ, the mean of the distribution."
)
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
