# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
DDP, DeepSpeed ZeRO-3 and FSDP2 on two CPU processes train what one process trains on the same global batch: the same losses, and
after three steps the same weights.
"""

from pathlib import Path

import pytest
import torch
import yaml
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from real_trl import JudgeConfig
from real_trl.engines import Decoding, TransformersEngine
from tests.distributed import launching
from tests.distributed.launching import NEW_ADAPTER, RAFT, REAL, Job, distance, launch, logged, weights
from tests.tiny import prompt_dataset

CHECKPOINTING = {"gradient_checkpointing": True}
RELEASED = {
    "likelihood_form": "probability",
    "advantage_streams": "separate",
    "loss_aggregation": "token",
    "reuse_correction": "none",
}
# Held-out rows, an odd number of them, so that the processes have different shares
WATCHED = {"judge_eval_steps": 2, "judge_eval_splits": ["all"], "judge_eval_rows": 5}
JOBS: dict[str, Job] = {
    "raft-full": ("sft", "base", RAFT),
    "raft-lora": ("sft", "adapter", {**RAFT, **CHECKPOINTING}),
    "real-full": ("rl", "base", REAL),
    "real-lora": ("rl", "adapter", {**REAL, **CHECKPOINTING}),
    "tied-full": ("rl", "tied", {**REAL, **CHECKPOINTING}),
    "watched-full": ("rl", "base", {**REAL, **WATCHED}),
    "watched-lora": ("sft", "adapter", {**RAFT, **CHECKPOINTING, **WATCHED}),
    "kl-full": ("rl", "base", {**REAL, "beta": 0.1}),
    "kl-lora": ("rl", "adapter", {**REAL, "beta": 0.1}),
    "new-lora": ("rl", "base", {**REAL, **NEW_ADAPTER, **CHECKPOINTING}),
    "reused": ("rl", "base", {**REAL, "num_iterations": 2}),
    "released": ("rl", "base", {**REAL, **RELEASED, "num_iterations": 2}),
}


# Refused with the configuration as it is, where one process only loads the reference model, see tests/trainers/test_fsdp.py
LOADED_BY_ALL = ("fsdp2", "kl-full")


def train(folder: Path, backend: str) -> Path:
    jobs = {name: (stage, model, {**recipe, "max_steps": 3}) for name, (stage, model, recipe) in JOBS.items()}
    apart = {name: jobs.pop(name) for name in [*jobs] if (backend, name) == LOADED_BY_ALL}
    launch(folder, backend, jobs)
    if apart:
        config, *rest = launching.BACKENDS[backend]
        changed = yaml.safe_load((launching.ROOT / "recipes" / "accelerate_configs" / config).read_text())
        changed["fsdp_config"]["fsdp_cpu_ram_efficient_loading"] = False
        (folder / "loaded_by_all.yaml").write_text(yaml.safe_dump(changed))
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(launching.BACKENDS, backend, (str(folder / "loaded_by_all.yaml"), *rest))
            launch(folder, backend, apart)
    return folder / backend


@pytest.fixture(scope="module")
def one(folder) -> Path:
    return train(folder, "one")


@pytest.fixture(scope="module")
def two(folder, backend) -> Path:
    return train(folder, backend)


@pytest.mark.parametrize("job", JOBS)
def test_losses_and_weights(folder, one, two, job):
    start, expected, actual = (weights(path) for path in (folder / JOBS[job][1], one / job, two / job))
    assert {weight.dtype for weight in actual.values()} == {torch.float32}
    if job != "new-lora":
        assert min((expected[name] - start[name]).abs().max() for name in expected) > 1e-3  # every one has moved
    assert distance(actual, expected) < 1e-5
    for key in ("loss", "grad_norm"):
        values = logged(one / job, key)
        assert len(values) == 3
        # Advantages are rewards divided by their spread, which multiplies rounding errors, and the loss sums them over tokens
        assert logged(two / job, key) == pytest.approx(values, rel=2e-4)


def test_the_filter_draws_keeps_and_rejects_the_same(one, two):
    counts = ("prompts_drawn", "prompts_kept", "too_low", "too_high", "rounds", "surplus")
    for job in ("real-full", "real-lora"):
        same = {name: logged(one / job, f"sampling/{name}") for name in counts}
        assert max(same["rounds"]) > 1 and max(same["surplus"]) > 0 and min(same["too_low"] + same["too_high"]) > 0
        assert {name: logged(two / job, f"sampling/{name}") for name in counts} == same


@pytest.mark.parametrize(("watched", "plain"), [("watched-full", "real-full"), ("watched-lora", "raft-lora")])
def test_judging_during_training_changes_nothing(one, two, watched, plain):
    for path in (one, two):
        assert distance(weights(path / watched), weights(path / plain)) < 1e-6
        for key in ("rail/rmse", "mean_tokens", "entropy", "malformed_rate"):
            assert (
                len(logged(path / watched, f"judge_eval/all/{key}")) == 3
            )  # before the first step, after two, and at the end


def score(path: Path) -> list[list[float]]:
    """Score distributions of the judge in `path`, each after a rationale of its own."""
    is_adapter = (path / "adapter_config.json").is_file()
    model = (AutoPeftModelForCausalLM if is_adapter else AutoModelForCausalLM).from_pretrained(path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    space = JudgeConfig.load(path).score_space(tokenizer)
    engine = TransformersEngine(model.eval(), tokenizer, space, Decoding(do_sample=False, max_new_tokens=12))
    return [
        list(judgment.probabilities.values())
        for _, judgment in sorted(engine.judge(prompt_dataset([1.0] * 4)["prompt"]))
    ]


@pytest.mark.parametrize("job", ["raft-full", "real-full", "real-lora", "new-lora"])
def test_the_saved_judge_loads_and_scores(one, two, job):
    scores = torch.tensor(score(two / job))
    assert scores.shape == (4, 5) and (scores > 0).all()
    torch.testing.assert_close(scores, torch.tensor(score(one / job)), atol=1e-3, rtol=0)
