# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Learning rates to begin with: those that were found best where one was looked for, and no jump in between."""

import pytest
import yaml

from real_trl.onboarding import InitOptions, open_project
from real_trl.onboarding.rates import learning_rates, note_on_rates, size_in_name
from tests.onboarding.files import sheet, write_csv
from tests.test_recipes import ROOT


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 135e6), ("Qwen/Qwen3-0.6B", 0.6e9), ("Qwen/Qwen2.5-1.5B-Instruct", 1.5e9), ("google/gemma-3-270m-it", 270e6),
        ("Qwen/Qwen3-30B-A3B", 30e9), ("outputs/7B/base", None), ("microsoft/phi-4", None), ("x/llama-4bit", None), ("x/v2.5", None),
    ],
)  # fmt: skip
def test_names_state_sizes(model, size):
    assert size_in_name(model) == (None if size is None else pytest.approx(size))


def test_rates_fall_with_the_size_without_a_jump():
    assert [learning_rates(size, lora=False) for size in (1e6, 135e6, 360e6, 596e6, 1.7e9, 8.2e9, 33e9)] == [
        (3e-4, 1e-5), (3e-4, 1e-5), (1e-4, 6e-6), (9e-5, 4e-6), (4e-5, 2e-6), (1e-5, 1e-6), (1e-5, 1e-6),
    ]  # fmt: skip
    sizes = [135e6 * 1.5**step for step in range(11)]
    for stage in (0, 1):
        rates = [learning_rates(size, lora=False)[stage] for size in sizes]
        assert all(1 <= before / after < 2.1 for before, after in zip(rates[:-1], rates[1:], strict=True))
    # An adapter is not trained more slowly than all weights
    assert learning_rates(8e9, lora=True) == (1e-4, 1e-5) and learning_rates(135e6, lora=True) == (3e-4, 1e-5)


@pytest.mark.parametrize(("recipe", "size", "stage"), [("qwen3-8b/raft", 8.2e9, 0), ("qwen3-8b/real", 8.2e9, 1), ("smollm2-135m/real", 135e6, 1)])  # fmt: skip
def test_they_are_those_of_the_recipes(recipe, size, stage):
    written = yaml.safe_load((ROOT / "recipes" / f"{recipe}.yaml").read_text(encoding="utf-8"))
    assert learning_rates(size, lora=False)[stage] == written["learning_rate"]


def test_rates_are_said_to_be_guesses_where_nothing_is_known_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = [{name: row[name] for name in ("question", "answer", "score")} for row in sheet()]
    file, written = str(write_csv(tmp_path / "data.csv", data)), {}
    for model in ("nowhere/judge-135M", "nowhere/judge"):
        folder = model.replace("/", "-")
        sizes = open_project(InitOptions(file, folder, model)).write()
        raft = yaml.safe_load((tmp_path / folder / "raft.yaml").read_text(encoding="utf-8"))
        written[model] = raft["learning_rate"], next(note for note in sizes.notes if "Learning rates" in note)
    (of_135m, said), (unknown, nothing_said) = written.values()
    assert of_135m == 3e-4 and "guesses for 135M parameters: 3e-04 in raft.yaml." in said
    assert unknown == 6e-5 and "as the model's size is not known" in nothing_said
    assert " and 1e-05 in real.yaml." in note_on_rates(135e6, 3e-4, 1e-5)
