# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Several processes look at their first answers together, and end together."""

from tests.distributed.launching import REAL, launch


def test_a_model_that_shows_no_score_is_stopped_by_all_processes(folder, backend):
    """16 completions of the first batch, and 48 more of both processes."""
    recipe = {**REAL, "group_filter": None, "gradient_accumulation_steps": 1, "max_steps": 2}
    recipe = {name: value for name, value in recipe.items() if value is not None}
    errors = launch(folder, backend, {"mute": ("rl-sampled", "base", recipe)}, fails=True)
    assert errors.count("error: preflight_scored_rate: 0 of 64 answers that were sampled before the first step") == 1
    assert "Traceback" not in errors.split("error: preflight_scored_rate")[0]
    assert not (folder / backend / "mute" / "judge_config.json").exists()


def test_steps_without_a_signal_are_counted_over_all_processes(folder, backend):
    """Accuracy is 0 in every group of a model that shows no score, whichever process has it."""
    recipe = {**REAL, "reward": "accuracy", "gradient_accumulation_steps": 1, "max_steps": 6}
    recipe |= {"preflight_scored_rate": 0.0, "max_steps_without_signal": 3}
    del recipe["group_filter"]
    errors = launch(folder, backend, {"silent": ("rl-sampled", "base", recipe)}, fails=True)
    assert (
        errors.count("error: max_steps_without_signal=3: nothing was learned from the last 3 steps, up to step 3") == 1
    )
    assert "none of its 16 completions shows a score" in errors
