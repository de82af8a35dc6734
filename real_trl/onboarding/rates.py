# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Learning rates to begin with, by the size of the model."""

import math
import re

# Parameters → rate, for all weights; between the two a power of the size, beyond them that of the nearer one.
# Supervised: for SmolLM2-135M and scores of people (experiments/real_scores.yaml), 3e-4 has the smallest validation error of RAFT, of 3e-5,
# 1e-4 and 3e-4. For 8B it is that of recipes/qwen3-8b, which is TRACT's. RL: recipes/smollm2-135m and the paper's of recipes/qwen3-8b.
_SMALL, _LARGE = 135e6, 8e9
_SFT, _RL = (3e-4, 1e-5), (1e-5, 1e-6)
_LORA_SFT, _LORA_RL = 1e-4, 1e-5  # of an adapter: ten times those of 8B, as in recipes/qwen3-8b-qlora
_UNKNOWN = 1e9  # parameters, where nothing tells how many there are
_IN_NAME = re.compile(r"(?<![A-Za-z\d.])(\d+(?:\.\d+)?)([MB])(?![A-Za-z\d])", re.IGNORECASE)


def size_in_name(model: str) -> float | None:
    """Parameters that the name of a model states: 1.35e8 of `org/SmolLM2-135M-Instruct`."""
    found = _IN_NAME.search(model.rstrip("/").rsplit("/", 1)[-1])
    return float(found[1]) * (1e6 if found[2].upper() == "M" else 1e9) if found else None


def learning_rates(size: float | None, *, lora: bool) -> tuple[float, float]:
    """
    Rates of supervised training and of RL, to one digit.

    Args:
        size (`float`, *optional*): Parameters of the model.
        lora (`bool`): Whether an adapter is trained.
    """
    place = math.log((size or _UNKNOWN) / _SMALL) / math.log(_LARGE / _SMALL)
    place = min(max(place, 0.0), 1.0)
    sft, rl = (float(f"{small * (large / small) ** place:.0e}") for small, large in (_SFT, _RL))
    return (max(sft, _LORA_SFT), max(rl, _LORA_RL)) if lora else (sft, rl)


def note_on_rates(size: float | None, sft: float, rl: float | None) -> str:
    """
    What to say of the rates.

    Args:
        rl (`float`, *optional*): That of RL, if there is such a stage.
    """
    files = f"{sft:.0e} in raft.yaml" + ("" if rl is None else f" and {rl:.0e} in real.yaml")
    known = (
        f"for {_shown(size)} parameters"
        if size
        else f"for {_shown(_UNKNOWN)} parameters, as the model's size is not known"
    )
    return (
        f"Learning rates are guesses {known}: {files}. Try others, such as a third and three times as much (learning_rate there), and keep what has the "
        "smallest error on the validation split."
    )


def _shown(size: float) -> str:
    if size < 1e6:
        return f"{size:,.0f}"
    return f"{size / 1e9:.1f}B" if size >= 1e9 else f"{size / 1e6:.0f}M"
