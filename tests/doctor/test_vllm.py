# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The comparison of vLLM with the trainer: a sampler of Transformers stands in for vLLM, right and broken; marked, vLLM itself."""

import tempfile

import pytest
import torch

from real_trl.doctor import vllm_engine
from real_trl.doctor.vllm_engine import (
    Trainer,
    VLLMSampler,
    Written,
    check_vllm,
    compare_after_sync,
    compare_distributions,
)
from tests.doctor.test_doctor import make_subject


class TransformersSampler:
    """Greedy completions of a model of its own."""

    def __init__(self, model):
        self.model = model.eval()

    def write(self, prompts):
        made = self.model.generate(
            torch.tensor(prompts),
            attention_mask=torch.ones(len(prompts), len(prompts[0]), dtype=torch.long),
            do_sample=False,
            max_new_tokens=vllm_engine._WRITTEN,
            pad_token_id=0,
            eos_token_id=None,
            output_logits=True,
            return_dict_in_generate=True,
        )
        log_probs = torch.stack(made.logits, 1).log_softmax(-1)
        tokens = made.sequences[:, len(prompts[0]) :]
        own = log_probs.gather(2, tokens.unsqueeze(-1)).squeeze(-1)
        labels = log_probs[:, :, vllm_engine._LABELS]
        return [Written(*row) for row in zip(tokens.tolist(), own, labels, strict=True)]

    def load(self, weights):
        self.model.load_state_dict(dict(weights), strict=False)


class Deaf(TransformersSampler):
    """A sync that changes nothing."""

    def load(self, weights):
        list(weights)


class HalfDeaf(TransformersSampler):
    """One that leaves a layer as it was."""

    def load(self, weights):
        super().load((name, weight) for name, weight in weights if ".1.mlp." not in name)


class Remembering(TransformersSampler):
    """One that leaves a prompt's cached keys and values, and so what follows it, as they were."""

    def __init__(self, model):
        super().__init__(model)
        self.read = {}

    def write(self, prompts):
        return self.read.setdefault(str(prompts), super().write(prompts))


@pytest.fixture(scope="module")
def pair():
    subject = make_subject(dtype=torch.float32)
    return subject, *(Trainer(subject, subject.small_model(seed=seed)) for seed in (0, 1))


def failed(findings):
    return {name for name, finding in findings.items() if finding.status == "failed"}


def test_one_that_is_right(pair):
    subject, old, new = pair
    sampler = TransformersSampler(subject.small_model())
    findings = compare_distributions(subject, sampler, old) | compare_after_sync(subject, sampler, old, new)
    assert {name: finding.status for name, finding in findings.items()} == dict.fromkeys(
        ["greedy tokens", "log π of tokens", "log π of labels", "weights after a sync", "prefix cache after it"], "ok"
    )


def test_a_sync_that_changes_nothing(pair):
    subject, old, new = pair
    findings = compare_after_sync(subject, Deaf(subject.small_model()), old, new)
    assert failed(findings) == {"weights after a sync"}
    finding = findings["weights after a sync"]
    assert "nothing has changed" in finding.measured and "other weights than those that are trained" in finding.advice


@pytest.mark.parametrize(
    ("sampler", "named"), [(HalfDeaf, "weights after a sync"), (Remembering, "prefix cache after it")]
)
def test_one_that_forgets_a_part(pair, sampler, named):
    subject, old, new = pair
    assert failed(compare_after_sync(subject, sampler(subject.small_model()), old, new)) == {named}


def test_another_model_than_the_trainers(pair):
    """With an output layer in bfloat16, and with other positions."""
    subject, old, _ = pair
    rounded = subject.small_model()
    rounded.lm_head.register_forward_hook(lambda module, args, output: output.bfloat16().float())
    findings = compare_distributions(subject, TransformersSampler(rounded), old)
    assert {"log π of tokens", "log π of labels"} <= failed(findings)
    config = subject.small_config()
    other = type(rounded)(config)
    other.load_state_dict(subject.small_model().state_dict())
    other.model.rotary_emb.inv_freq.mul_(0.5)
    findings = compare_distributions(subject, TransformersSampler(other), old)
    assert failed(findings) == {"greedy tokens", "log π of tokens", "log π of labels"}


def test_without_vllm(monkeypatch):
    monkeypatch.setattr(vllm_engine, "find_spec", lambda name: None)
    assert {name: f.status for name, f in check_vllm(make_subject()).items()} == {"vLLM": "skipped"}


class DeafVLLM(VLLMSampler):
    def load(self, weights):
        self.llm.reset_prefix_cache()


class RememberingVLLM(VLLMSampler):
    def load(self, weights):
        reset, self.llm.reset_prefix_cache = self.llm.reset_prefix_cache, lambda: None
        super().load(weights)
        self.llm.reset_prefix_cache = reset


@pytest.mark.vllm
def test_vllm_itself():
    """As it is, and with both parts of a sync left out."""
    pytest.importorskip("vllm")
    config = make_subject().config
    config.head_dim = 32
    subject = make_subject(config, torch.float32)
    models = [subject.small_model(seed=seed) for seed in range(3)]
    with tempfile.TemporaryDirectory() as folder:
        models[0].save_pretrained(folder)
        trainers = [Trainer(subject, model) for model in models]
        with vllm_engine._started(subject, folder) as sampler:
            assert failed(compare_distributions(subject, sampler, trainers[0])) == set()
            found = compare_after_sync(subject, DeafVLLM(sampler.llm), *trainers[:2])
            assert failed(found) == {"weights after a sync"} and "nothing has changed" in str(found)
            assert failed(compare_after_sync(subject, sampler, *trainers[:2])) == set()
            sampler.llm.reset_prefix_cache()  # the comparisons read the same prompts
            found = compare_after_sync(subject, RememberingVLLM(sampler.llm), *trainers[1:])
            assert failed(found) == {"prefix cache after it"}
