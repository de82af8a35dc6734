# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A judgment as HTML: its figures, and its distribution as bars that need neither script nor library."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from real_trl.engines import Judgment
from real_trl.evaluation.unscored import UNSCORED

_MANY_LABELS = 12  # from here on, bars are too narrow for a figure each
STYLE = """
.judgment .headline { font-size: 2.4rem; font-weight: 600; line-height: 1.2; }
.judgment .figures { display: flex; flex-wrap: wrap; gap: 0.2rem 1.5rem; opacity: 0.85; }
.judgment .bars { display: flex; align-items: stretch; gap: min(0.6rem, 1%); margin-top: 1rem; }
.judgment .bars > div { flex: 1 1 0; min-width: 0; text-align: center; font-variant-numeric: tabular-nums; }
.judgment .share { font-size: 0.85rem; }
.judgment .column { height: 12rem; display: flex; align-items: flex-end;
  border-bottom: 1px solid var(--border-color-primary); }
.judgment .column > div { width: 100%; background: var(--color-accent); opacity: 0.55; border-radius: 3px 3px 0 0; }
.judgment .likely .column > div { opacity: 1; }
.judgment .label { font-size: 0.9rem; overflow: hidden; text-overflow: ellipsis; }
.judgment .many .label { overflow: visible; white-space: nowrap; }
.judgment .note { border-left: 4px solid var(--color-accent); padding: 0.4rem 0.8rem; margin-top: 1rem; }
.judgment .error { border-left: 4px solid #b91c1c; padding: 0.6rem 0.8rem; overflow-wrap: anywhere; }
"""


def judgment_html(judgment: Judgment, labels: Sequence[str]) -> str:
    """A judgment's figures, and its distribution as bars, each with its label; what comes from the judge is escaped."""
    notes = []
    if judgment.status == UNSCORED:
        notes.append(f"There is no score: {judgment.error}")
    elif judgment.status != "ok":
        notes.append(
            f"The answer holds no score of the scale ({judgment.status})"
            + (": the distribution was read at a marker that was appended." if judgment.probabilities else ".")
        )
    if judgment.missing_mass > 0:
        notes.append(
            f"{judgment.missing_mass:.1%} of the probability is not known; it may be that of labels without a bar."
        )
    figures = {
        "most likely": _number(judgment.most_likely_score),
        "decoded": _number(judgment.sampled_score),
        "spread": _number(judgment.spread),
        "mass on the labels": "n/a" if judgment.mass is None else f"{judgment.mass:.1%}",
        "tokens": f"{judgment.prompt_tokens} + {judgment.num_tokens}",
    }
    if judgment.raw is not None:
        ends = "" if judgment.interval is None else " to ".join(map(_number, judgment.interval))
        figures = {"interval": ends, **figures, "before calibration": _number(judgment.raw.expected_score)}
    parts = [
        f'<div class="headline">{_number(judgment.expected_score)}</div><div>expected score, on {_scale(labels)}'
        + (", divided by the mass on the labels</div>" if judgment.normalized else "</div>"),
        '<div class="figures">'
        + "".join(f"<span>{name} <b>{text}</b></span>" for name, text in figures.items())
        + "</div>",
    ]
    if judgment.probabilities is not None:
        parts.append(_bars(judgment.probabilities))
    parts += [f'<div class="note">{escape(note)}</div>' for note in notes]
    return f'<div class="judgment">{"".join(parts)}</div>'


def error_html(message: str) -> str:
    """An error message."""
    return f'<div class="judgment"><div class="error" role="alert">{escape(message)}</div></div>'


def _bars(probabilities: Mapping[str, float]) -> str:
    """A bar a label, the highest as high as the chart."""
    labels = list(probabilities)
    known = [0.0 if math.isnan(p) else p for p in probabilities.values()]
    highest = max(known) or 1.0
    many = len(labels) > _MANY_LABELS
    every = max(1, (len(labels) - 1) // 10) if many else 1
    bars = []
    for place, (label, p, shown) in enumerate(zip(labels, probabilities.values(), known, strict=True)):
        share = "n/a" if math.isnan(p) else f"{p:.1%}"
        bars.append(
            f'<div class="{"likely" if shown == highest else ""}" title="{escape(label)}: {share}">'
            + ("" if many else f'<div class="share">{share}</div>')
            + f'<div class="column"><div style="height: {100 * shown / highest:.2f}%"></div></div>'
            + f'<div class="label">{escape(label) if place % every == 0 else "&nbsp;"}</div></div>'
        )
    spoken = ", ".join(f"{label}: {p:.1%}" for label, p in zip(labels, known, strict=True))
    return f'<div class="bars{" many" if many else ""}" role="img" aria-label="{escape(spoken)}">{"".join(bars)}</div>'


def _scale(labels: Sequence[str]) -> str:
    return escape(", ".join(labels) if len(labels) <= _MANY_LABELS else f"{labels[0]}, {labels[1]} … {labels[-1]}")


def _number(value: float | None) -> str:
    return "n/a" if value is None or math.isnan(value) else f"{value:.4g}"
