# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`REALTrainer`'s own gradient against a dense float64 reference written from the paper's formulas, one completion at a time."""

import math

import pytest
import torch
from peft import get_peft_model

from real_trl import REALConfig, REALTrainer
from tests.tiny import TOKENIZER, build_model, encode, lora_config, prompt_dataset

MARKER = "So the overall score is"
# Two groups of four: different lengths, one without a score, one that quotes the marker, one that rambles after its score
COMPLETIONS = [
    f"1) 7+4 is 11, close. {MARKER} 4",
    f"{MARKER} 2",
    "1) 7+4 is 11, close. 2) 3-8 is 5, right.",
    f"1) 7+4 is 12, right. {MARKER} 5",
    f"1) 7+4 is 11, wrong. {MARKER} 3 2) 3-8 is 5, right. {MARKER} 1",
    f"2) 3-8 is -5, wrong. {MARKER} 3",
    f"{MARKER} 5 1) 7+4 is 11, close.",
    f"1) 7+4 is 11, close. 2) 3-8 is 5, right. {MARKER} 4",
]
SCORES = [4.0, 2.0]
K = 4
VALUES = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)


class FixedCompletions(REALTrainer):
    """REALTrainer whose sampler returns `COMPLETIONS`; everything after the sampler is the trainer's own."""

    def _generate(self, prompts):
        prompt_ids = self._tokenize_prompts(prompts)[0]
        return prompt_ids, [encode(text) for text in COMPLETIONS], COMPLETIONS


def make_trainer(tmp_path, architecture="llama", lora=False, trainer_class=FixedCompletions, **kwargs):
    kwargs = {"gradient_checkpointing": False, "bf16": False, **kwargs}
    args = REALConfig(
        str(tmp_path),
        num_generations=K,
        per_device_train_batch_size=2 * K,
        shuffle_dataset=False,
        report_to="none",
        use_cpu=True,
        **kwargs,
    )
    trainer = trainer_class(
        model=build_model(architecture),
        args=args,
        train_dataset=prompt_dataset(SCORES),
        processing_class=TOKENIZER,
        peft_config=lora_config() if lora else None,
    )
    if lora:  # B starts at zero, which would hide A's gradient
        torch.manual_seed(1)
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    return trainer


def trainer_gradient(trainer):
    trainer.model.train()
    batch = [row for row in trainer.train_dataset for _ in range(K)]
    loss = trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch))
    trainer.accelerator.backward(loss)
    return {name: p.grad.double() for name, p in trainer.model.named_parameters() if p.grad is not None}


def reference_gradient(trainer, architecture, lora, *, reward, malformed, weight, penalty=1.0, aggregation="sequence"):
    """Section 4.3 for `SCORES` and `COMPLETIONS`, in float64, without batches, padding or masks."""
    model = build_model(architecture)
    if lora:
        model = get_peft_model(model, lora_config())
    model.load_state_dict(trainer.model.state_dict())
    model.double().train()
    label_ids = [encode(str(k), eos=False)[-1] for k in range(1, 6)]
    terms, num_tokens = [], 0
    for group, target in enumerate(SCORES):
        prompt = TOKENIZER(trainer.train_dataset[group]["prompt"])["input_ids"]
        log_probs, rewards, has_score = [], [], []
        for text in COMPLETIONS[group * K : (group + 1) * K]:
            ids = encode(text)
            found = [i for i in range(len(ids) - 5) if TOKENIZER.decode(ids[i : i + 5]) == MARKER]
            score_at = found[-1] + 5 if found else None
            end = score_at + (reward == "accuracy") if found else len(ids)
            if not found and malformed == "force":
                ids = ids[:-1]  # without EOS
                end = len(ids)
                ids = ids + encode(f"{MARKER} 1", eos=False)
                score_at = len(ids) - 1
            logits = model(torch.tensor([prompt + ids])).logits[
                0, len(prompt) - 1 : -1
            ]  # row t predicts completion token t
            log_p = (logits / trainer.temperature).log_softmax(-1)
            log_probs.append(log_p[torch.arange(end), torch.tensor(ids[:end])].sum())
            num_tokens += end
            has_score.append(score_at is not None)
            if score_at is None:
                rewards.append(None)
                continue
            score = log_p[score_at, label_ids]
            if reward == "accuracy":
                rewards.append(torch.tensor(float(ids[score_at] == label_ids[int(target) - 1]), dtype=torch.float64))
            elif reward == "log_likelihood":
                rewards.append(score[int(target) - 1])
            else:
                rewards.append(-(((score.exp() * VALUES).sum() - target) ** 2) + penalty * score[int(target) - 1])
        worst = {"accuracy": 0.0, "log_likelihood": -math.log(5)}.get(
            reward, -max((target - 1) ** 2, (5 - target) ** 2)
        )
        worst = min([worst] + [r.item() for r in rewards if r is not None])
        rewards = [torch.tensor(worst, dtype=torch.float64) if r is None else r for r in rewards]
        members = [i for i in range(K) if has_score[i] or malformed != "ignore"]
        advantage = [0.0] * K
        for i in members:
            others = [rewards[j].item() for j in members if j != i]
            advantage[i] = rewards[i].item() - sum(others) / len(others)
        mean = sum(advantage[i] for i in members) / len(members)
        sigma = math.sqrt(sum((advantage[i] - mean) ** 2 for i in members) / len(members))
        for i in range(K):
            clipped = max(-1.0, min(1.0, advantage[i] / (sigma + 1e-8))) if i in members else 0.0
            terms.append((clipped * log_probs[i], weight * rewards[i]))
    policy = sum(t[0] for t in terms) / (len(terms) if aggregation == "sequence" else num_tokens)
    loss = -policy - sum(t[1] for t in terms) / len(terms)
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def relative_error(actual, expected):
    assert actual.keys() == expected.keys()
    difference = sum((actual[name] - expected[name]).square().sum() for name in expected).sqrt()
    return (difference / sum(g.square().sum() for g in expected.values()).sqrt()).item()


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "mistral"])
def test_gradient_equals_dense_float64_reference(tmp_path, architecture, checkpointing, lora):
    trainer = make_trainer(
        tmp_path, architecture, lora, gradient_checkpointing=checkpointing, prediction_weight=0.5, temperature=0.8
    )
    expected = reference_gradient(trainer, architecture, lora, reward="regression", malformed="penalize", weight=0.5)
    assert relative_error(trainer_gradient(trainer), expected) < 1e-5


@pytest.mark.parametrize("malformed", ["penalize", "force", "ignore"])
@pytest.mark.parametrize("reward", ["regression", "accuracy", "log_likelihood"])
@pytest.mark.parametrize("aggregation", ["sequence", "token"])
def test_gradient_of_every_reward(tmp_path, reward, malformed, aggregation):
    if (reward, malformed) == ("accuracy", "force"):
        pytest.skip("refused by REALConfig")
    trainer = make_trainer(tmp_path, reward=reward, malformed=malformed, loss_aggregation=aggregation)
    weight = {"regression": 0.01, "accuracy": 0.0, "log_likelihood": 1.0}[reward]
    expected = reference_gradient(
        trainer, "llama", False, reward=reward, malformed=malformed, weight=weight, aggregation=aggregation
    )
    assert relative_error(trainer_gradient(trainer), expected) < 1e-5


def test_log_likelihood_weight_of_zero(tmp_path):
    trainer = make_trainer(tmp_path, log_likelihood_weight=0.0, prediction_weight=1.0)
    expected = reference_gradient(
        trainer, "llama", False, reward="regression", malformed="penalize", weight=1.0, penalty=0.0
    )
    assert relative_error(trainer_gradient(trainer), expected) < 1e-5


def test_first_step_on_a_reused_batch_is_the_on_policy_step(tmp_path):
    expected = trainer_gradient(make_trainer(tmp_path))
    trainer = make_trainer(tmp_path, num_iterations=2)
    assert relative_error(trainer_gradient(trainer), expected) < 1e-5
    inputs = trainer._buffered_inputs[0]
    assert "old_log_probs" in inputs and "advantages" in inputs


def test_a_wrong_reference_is_noticed(tmp_path):
    """The comparison has teeth: without Term 2 the gradients differ."""
    trainer = make_trainer(tmp_path, prediction_weight=0.5)
    expected = reference_gradient(trainer, "llama", False, reward="regression", malformed="penalize", weight=0.0)
    assert relative_error(trainer_gradient(trainer), expected) > 1e-3
