# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What `REALTrainer` makes of vLLM beside completions: weights handed over once a batch, and log-probabilities, compared and corrected."""

import math
from types import SimpleNamespace

import pytest
import torch
from trl.generation import vllm_generation as trl_vllm

from real_trl import REALConfig, REALTrainer
from real_trl.trainers.vllm_rollouts import ask_for_log_probs, engine_like_trainer, log_probs_modes
from tests.helpers.counting_engine import CountingEngine
from tests.helpers.reference import Reference, relative_error
from tests.trainers import test_methods_reference as methods
from tests.trainers.test_group_filter import PARTIAL, K, training_groups

MEAN, MAX = (f"sampling/sampling_logp_difference/{name}" for name in ("mean", "max"))
RATIO = "sampling/importance_sampling_ratio/mean"


@pytest.fixture
def make(monkeypatch, tmp_path):
    """A trainer with TRL's `VLLMGeneration` and a [`CountingEngine`] in place of vLLM."""

    def make(groups, shift=0.25, **options):
        engine = CountingEngine(groups, asleep=options.get("vllm_enable_sleep_mode", False), shift=shift)

        def init(generation):
            generation.llm = engine
            generation._llm_weights_sleeping = generation.enable_sleep_mode

        monkeypatch.setattr(trl_vllm.VLLMGeneration, "_init_vllm", init)
        monkeypatch.setattr(trl_vllm, "SamplingParams", SimpleNamespace, raising=False)
        monkeypatch.setattr(methods.FixedCompletions, "_generate", REALTrainer._generate)
        options = {"use_vllm": True, "vllm_mode": "colocate", "logging_steps": 1, **options}
        trainer = methods.make_trainer(tmp_path, groups, **options)
        engine.model = trainer.model
        return trainer, engine

    return make


def logged(trainer, name):
    return [log[name] for log in trainer.state.log_history if name in log]


# --- weights -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sleeps", [False, True], ids=["awake", "sleep mode"])
def test_weights_are_handed_over_once_a_batch_however_many_rounds_it_takes(make, sleeps):
    groups = training_groups(["good", "hard", "easy", "good", "good", "hard"])
    trainer, engine = make(
        groups,
        per_device_train_batch_size=2 * K,
        group_filter=PARTIAL,
        max_steps=3,
        vllm_enable_sleep_mode=sleeps,
        preflight_scored_rate=0.5,
    )
    trainer.train()
    rounds = logged(trainer, "sampling/rounds")
    assert len(rounds) == 3 and sum(rounds) > 3
    assert engine.generations >= sum(rounds)
    assert engine.syncs == 3 and engine.sleeps == (3 if sleeps else 0)
    assert engine.awake == (set() if sleeps else {"weights", "kv_cache"})


def test_a_batch_that_is_reused_needs_no_second_sync(make):
    trainer, engine = make(training_groups(["good", "good"]), num_iterations=2, max_steps=4)
    trainer.train()
    assert engine.syncs == engine.generations == 2


def test_an_engine_sleeps_also_after_an_error(make, monkeypatch):
    trainer, engine = make(training_groups(["good", "good"]), vllm_enable_sleep_mode=True)

    def fail(*args, **kwargs):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(engine, "generate", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        trainer.train()
    assert engine.awake == set() and trainer.vllm_generation._llm_weights_sleeping


def test_evaluation_in_sleep_mode_gets_the_weights_it_needs(make):
    trainer, engine = make(
        training_groups(["good", "good"]), vllm_enable_sleep_mode=True, per_device_eval_batch_size=2 * K
    )
    trainer.evaluate(trainer.train_dataset)
    assert engine.syncs == engine.sleeps == 1
    trainer.evaluate(trainer.train_dataset)
    assert engine.syncs == engine.sleeps == 2


# --- the engine that TRL makes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "mode"),
    [
        ({}, "raw_logprobs"),
        ({"temperature": 0.7}, "processed_logprobs"),
        ({"top_p": 0.9}, "raw_logprobs"),  # of the whole vocabulary, as the trainer's
        ({"temperature": 0.7, "top_p": 0.9}, "processed_logprobs"),  # TRL's own; it is not asked for them
    ],
)
def test_the_colocated_engine_has_a_float32_head(monkeypatch, tmp_path, options, mode):
    made = []
    monkeypatch.setattr(trl_vllm, "LLM", lambda **given: made.append(given), raising=False)
    own = trl_vllm.LLM
    args = REALConfig(str(tmp_path), use_cpu=True, use_vllm=True, vllm_mode="colocate", **options)
    with engine_like_trainer(args):
        trl_vllm.LLM(model="judge", max_model_len=64, logprobs_mode="processed_logprobs")
    expected = {"hf_overrides": {"head_dtype": "float32"}, "logprobs_mode": mode}
    assert made == [{"model": "judge", "max_model_len": 64, **expected}]
    assert trl_vllm.LLM is own
    with engine_like_trainer(REALConfig(str(tmp_path), use_cpu=True)):
        assert trl_vllm.LLM is own


def server(mode, **options):
    args = {"temperature": 1.0, "top_p": 1.0, "vllm_importance_sampling_correction": False, **options}
    client = SimpleNamespace(get_server_info=lambda: {"model_config": {"logprobs_mode": mode}})
    generation = SimpleNamespace(mode="server", logprobs=None, vllm_client=client)
    accelerator = SimpleNamespace(is_main_process=True)
    return SimpleNamespace(vllm_generation=generation, args=SimpleNamespace(**args), accelerator=accelerator)


@pytest.mark.parametrize(
    ("mode", "options", "asked"),
    [
        ("raw_logprobs", {}, True),
        ("processed_logprobs", {}, True),
        ("processed_logprobs", {"temperature": 0.7}, True),
        ("raw_logprobs", {"temperature": 0.7}, False),
        ("processed_logprobs", {"top_p": 0.9}, False),
        ("raw_logprobs", {"top_p": 0.9}, True),
        ("raw_logprobs", {"top_p": 0.9, "temperature": 0.7}, False),
        ("raw_logits", {}, False),
    ],
)
def test_a_server_is_asked_for_log_probabilities_that_are_the_policys(mode, options, asked, caplog):
    trainer = server(mode, **options)
    ask_for_log_probs(trainer)
    assert trainer.vllm_generation.logprobs == (0 if asked else None)
    possible = log_probs_modes(trainer.args.temperature, trainer.args.top_p)
    assert bool(caplog.records) == (not asked and bool(possible))
    if possible and not asked:
        trainer.args.vllm_importance_sampling_correction = True
        with pytest.raises(
            ValueError, match=rf"the server gives log-prob.* mode {mode}.*--logprobs-mode {possible[-1]}"
        ):
            ask_for_log_probs(trainer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_vllm": False}, "got true without use_vllm"),
        ({"reward": "log_marginal"}, "of several completions together"),
        ({"reward": "concordance", "per_device_train_batch_size": 32}, "of several completions together"),
        ({"temperature": 0.7, "top_p": 0.9}, "before both or after both"),
        ({"vllm_importance_sampling_mode": "token"}, "Set it to one of: sequence_truncate"),
        ({"vllm_importance_sampling_clip_max": 0.0}, "Set it above 0"),
    ],
    ids=str,
)
def test_what_cannot_be_corrected_is_refused(tmp_path, options, message):
    given = {"use_vllm": True, "vllm_importance_sampling_correction": True, **options}
    with pytest.raises(ValueError, match=f"vllm_importance_sampling_.*{message}"):
        REALConfig(str(tmp_path), use_cpu=True, **given)


# --- log-probabilities ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"num_iterations": 2}, {"per_device_train_batch_size": K // 2, "gradient_accumulation_steps": 4}],
    ids=str,
)
def test_the_difference_between_vllm_and_the_trainer_is_logged(make, options):
    trainer, _ = make(training_groups(["good", "good"]), shift=0.25, max_steps=2, **options)
    trainer.train()
    # Also in the second step on a batch: of the policy that sampled it
    assert logged(trainer, MEAN) == pytest.approx([0.25] * 2, abs=1e-5)
    assert logged(trainer, MAX) == pytest.approx([0.25] * 2, abs=1e-5)
    assert logged(trainer, RATIO) == []


def test_nothing_is_logged_where_vllm_tells_nothing(make):
    trainer, _ = make(training_groups(["good", "good"]), temperature=0.7, top_p=0.9)
    trainer.train()
    assert trainer.vllm_generation.logprobs is None and logged(trainer, MEAN) == [] and logged(trainer, "reward") != []


def test_groups_that_waited_are_compared_with_the_policy_that_sampled_them(make):
    """`group_filter` keeps what one batch has too much for the next: the weights of such a group cover the step between."""
    kinds = ["good", "hard", "good", "good", "good", "hard"]
    options = {"per_device_train_batch_size": 2 * K, "group_filter": PARTIAL, "max_steps": 6, "learning_rate": 0.5}
    trainer, _ = make(training_groups(kinds), shift=0.0, **options)
    trainer.train()
    stale = logged(trainer, "sampling/stale")
    assert 0 < sum(map(bool, stale)) < len(stale)
    assert [difference > 1e-4 for difference in logged(trainer, MAX)] == [count > 0 for count in stale]


# --- the correction ------------------------------------------------------------------------------------------------------


class Weighed(Reference):
    """The reference with completions of which every token was sampled with `shift` less log-probability than the policy gives it."""

    shift, clip = 0.25, 3.0

    def loss(self, groups, fixed=None, tokens=None):
        surrogates, objectives, counted = [], [], 0
        for group in groups:
            samples = [self.sample(group.prompt, text) for text in group.texts]
            objective, streams = self.rewards(group, samples)
            weights = [min(math.exp(sample.length * self.shift), self.clip) for sample in samples]
            advantages = self.advantages(samples, streams)
            surrogates += [w * a * s.log_prob for w, a, s in zip(weights, advantages, samples, strict=True)]
            objectives += [w * r for w, r in zip(weights, objective, strict=True)]
            counted += sum(sample.length for sample in samples)
        policy = sum(surrogates) / (counted if self.args.loss_aggregation == "token" else len(surrogates))
        return -policy - self.args.prediction_weight * sum(objectives) / len(objectives)


@pytest.mark.parametrize(
    ("reward", "options"),
    [
        ("regression", {"loss_aggregation": "token"}),
        ("regression", {"num_iterations": 2}),
        ("accuracy", {}),
        ("log_likelihood", {}),
        ("log_likelihood", {"per_device_train_batch_size": K // 2, "gradient_accumulation_steps": 4}),
        ("log_likelihood", {"vllm_importance_sampling_clip_max": 2.0, "malformed": "ignore"}),
    ],
    ids=str,
)
def test_the_corrected_step_is_that_of_a_float64_reference(make, reward, options):
    """Both terms of Eq. 8 with the weight of each completion, which differ by their lengths, some of them cut off."""
    groups = methods.make_groups([4.0, 2.0])
    shift = 0.05
    trainer, _ = make(groups, shift=shift, reward=reward, vllm_importance_sampling_correction=True, **options)
    assert trainer.args.vllm_importance_sampling_mode == "sequence_truncate"
    reference = Weighed(trainer, "12345")
    reference.shift, reference.clip = shift, trainer.args.vllm_importance_sampling_clip_max
    weight = {"regression": 0.01, "accuracy": 0.0, "log_likelihood": 1.0}[reward]
    assert trainer.args.prediction_weight == weight
    reference.step([reference.gradient(groups)], 0.02)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    moved = {name: p.detach() - before[name] for name, p in trainer.model.named_parameters()}
    expected = {name: p - before[name].double() for name, p in reference.parameters().items()}
    assert relative_error(moved, expected) < 1e-3
    assert logged(trainer, RATIO)[0] > 1.1


@pytest.mark.parametrize("mode", ["token_truncate", "token_mask", "sequence_mask"])
def test_the_other_modes(make, mode):
    """Every token's ratio is e^0.25 = 1.28; that of a completion, of which each has more than four tokens, is beyond 3."""
    steps = {}
    for name, options in {
        "plain": {},
        mode: {"vllm_importance_sampling_correction": True, "vllm_importance_sampling_mode": mode},
    }.items():
        trainer, _ = make(training_groups(["good", "good"]), prediction_weight=0.0, **options)
        before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
        trainer.train()
        steps[name] = {name: p.detach() - before[name] for name, p in trainer.model.named_parameters()}
    factor = 0.0 if mode == "sequence_mask" else math.exp(0.25)
    for name, step in steps["plain"].items():
        torch.testing.assert_close(steps[mode][name], factor * step, rtol=1e-3, atol=2e-6)


def test_without_a_difference_the_correction_changes_nothing(make):
    steps = []
    for correction in (False, True):
        trainer, _ = make(training_groups(["good", "good"]), shift=0.0, vllm_importance_sampling_correction=correction)
        steps.append(methods.trained_parameters(trainer))
    for name, expected in steps[0].items():
        torch.testing.assert_close(steps[1][name], expected, rtol=1e-4, atol=1e-6)
