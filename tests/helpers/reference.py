# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The methods of the paper in float64, one completion and one label string at a time: no batches, padding, masks or trees,
and nothing of real_trl. Written from the formulas (A is an advantage, w the target's weights of the labels, π the policy):

- Standard RL: r = 1[y = y*]; JEPO: r = ℓ = Σ_k w_k log π(k | x, c); REAL: r = −(ŷ − y*)² + λ ℓ, ŷ = Σ_k k π(k | x, c)
- A_i = r_i − mean of the others' r; JEPO multi-sample: A_i = [LSE_j ℓ_j − log K] − [LSE_{j≠i} ℓ_j − log(K−1)]
- Ã = clip(A / (σ + ε), −1, 1), σ² = mean (A − Ā)²; released code: Ã(−(ŷ − y*)²) + λ Ã(Σ_k w_k π(k | x, c))
- L = −mean(Ã log π(c | x) + β r), log π(c, y | x) for Standard RL, and LSE_j ℓ_j − log K in place of r for multi-sample;
  token aggregation: Σ Ã log π(c | x) / number of tokens of c, both over the generation batch
"""

import math
from dataclasses import dataclass

import torch
from peft import get_peft_model
from torch import Tensor

from tests.tiny import TOKENIZER, build_model, encode, lora_config

MARKER = "So the overall score is"


@dataclass
class Group:
    """A prompt and what was sampled for it."""

    prompt: str
    target: float
    texts: list[str]
    histogram: list[float] | None = None


@dataclass
class Sample:
    """One completion under the current policy: `log π` of what was sampled, and of every label if there is a score."""

    log_prob: Tensor
    length: int
    labels: Tensor | None
    score: float | None
    kl: float


class Reference:
    """A policy like the trainer's, with the same weights; `args` are the trainer's, read for the method's settings."""

    def __init__(self, trainer, labels, *, values=None, tokenizer=TOKENIZER, architecture="llama", lora=False):
        self.args, self.tokenizer, self.labels = trainer.args, tokenizer, list(labels)
        self.values = torch.tensor([float(value) for value in (values or labels)], dtype=torch.float64)
        self.paths = [encode(label, eos=False, tokenizer=tokenizer) for label in self.labels]
        self.model = build_model(architecture, tokenizer=tokenizer)
        if lora:
            self.model = get_peft_model(self.model, lora_config())
        self.model.load_state_dict(trainer.model.state_dict())
        self.model.double().train()
        self.initial = None  # the policy of the KL penalty

    # --- reading a completion

    def _log_p(self, model, ids):
        return (model(torch.tensor([ids])).logits[0] / self.args.temperature).log_softmax(-1)

    def _encode(self, text):
        return encode(text, eos=False, tokenizer=self.tokenizer)

    def _find_score(self, text):
        """`(text up to the score, label)`; the last marker counts, and the longest label."""
        start = text.rfind(MARKER)
        rest = text[start + len(MARKER) :].removeprefix(" ")
        found = [label for label in self.labels if rest.startswith(label)]
        if start < 0 or not found:
            return None
        label = max(found, key=len)
        after = rest[len(label) :]
        if after[:1].isalnum() or (after[:1] == "." and after[1:2].isdigit()):
            return None
        return text[: start + len(MARKER)] + " ", label

    def sample(self, prompt, text):
        """[`Sample`] of a completion that ends with EOS."""
        prompt = self.tokenizer(prompt)["input_ids"]
        ids = [*self._encode(text), self.tokenizer.eos_token_id]
        found, context = self._find_score(text), None
        end = len(ids)
        if found:
            context = self._encode(found[0])
            assert ids[: len(context)] == context
            end = len(context)
            if self.args.reward == "accuracy":  # the score too, and what rules a longer one out
                end += 1
                while any(path[: end - len(context)] == ids[len(context) : end] != path for path in self.paths):
                    end += 1
        elif self.args.malformed == "force":
            end -= 1
            context = [*ids[:end], *self._encode(f" {MARKER} ")]
        log_p = self._log_p(self.model, prompt + ids)
        rows = range(len(prompt) - 1, len(prompt) - 1 + end)  # row t predicts token t + 1
        log_prob, kl = log_p[rows, ids[:end]].sum(), 0.0
        if self.initial is not None:
            with torch.no_grad():
                kl = (log_prob - self._log_p(self.initial, prompt + ids)[rows, ids[:end]].sum()).item()
        labels = None
        if context is not None:
            forced = len(context) > len(ids)
            first = self._log_p(self.model, prompt + context)[-1] if forced else log_p[len(prompt + context) - 1]
            labels = self._label_log_probs(prompt + context, first)
        score = self.values[self.labels.index(found[1])].item() if found else None
        return Sample(log_prob, end, labels, score, kl)

    def _label_log_probs(self, context, first):
        """Of the text that begins with the label's tokens and goes on to no longer label; `first` is what predicts a label."""
        begun = []
        for path in self.paths:
            log_p = [first]
            if len(path) > 1:
                log_p = self._log_p(self.model, context + path)[len(context) - 1 :]
            begun.append(sum(log_p[depth][token] for depth, token in enumerate(path)))
        labels = []
        for i, path in enumerate(self.paths):
            longer = [j for j, other in enumerate(self.paths) if other != path and other[: len(path)] == path]
            tops = [
                j
                for j in longer
                if not any(self.paths[j][: len(self.paths[k])] == self.paths[k] for k in longer if k != j)
            ]
            labels.append(
                begun[i] + torch.log1p(-sum((begun[j] - begun[i]).exp() for j in tops)) if tops else begun[i]
            )
        return torch.stack(labels)

    # --- rewards and advantages of a group

    def _weights(self, group):
        if group.histogram is not None:
            return torch.tensor(group.histogram, dtype=torch.float64)
        weights = torch.zeros(len(self.values), dtype=torch.float64)
        below = max((v, k) for k, v in enumerate(self.values.tolist()) if v <= group.target)
        above = min((v, k) for k, v in enumerate(self.values.tolist()) if v >= group.target)
        share = (group.target - below[0]) / (above[0] - below[0]) if above != below else 0.0
        weights[below[1]] += 1 - share
        weights[above[1]] += share
        return weights

    def _parts(self, group, sample):
        """Rewards of one completion: one, or those that are standardised apart."""
        weights = self._weights(group)
        if self.args.reward == "accuracy":
            return [torch.tensor(float(sample.score == group.target), dtype=torch.float64)]
        likelihood = sum(w * log_p for w, log_p in zip(weights, sample.labels, strict=True) if w)
        if self.args.reward != "regression":
            return [likelihood]
        probabilities = sample.labels.exp()
        expected = (self.values * probabilities).sum()
        if self.args.normalize_expectation:
            expected = expected / probabilities.sum()
        if self.args.likelihood_form == "probability":
            likelihood = (weights * probabilities).sum()
        error = (expected - group.target) ** 2
        if self.args.advantage_streams == "separate":
            return [-error, likelihood]
        return [-error + self.args.log_likelihood_weight * likelihood]

    def _worst(self, group):
        """What a malformed completion gets, unless a sibling has less."""
        error = -max((value - group.target) ** 2 for value in self.values.tolist())
        uniform = -math.log(len(self.values))
        if self.args.reward != "regression":
            return [0.0 if self.args.reward == "accuracy" else uniform]
        return [error, 0.0 if self.args.likelihood_form == "probability" else uniform]

    def rewards(self, group, samples):
        """`(objective, streams)`: what is maximised, and the rewards of each stream, of every completion."""
        parts = [self._parts(group, sample) if sample.labels is not None else None for sample in samples]
        count = 2 if self.args.advantage_streams == "separate" else 1
        streams = []
        for index, worst in zip(range(count), self._worst(group), strict=False):
            worst = min([worst] + [part[index].item() for part in parts if part])
            streams.append([part[index] if part else torch.tensor(worst, dtype=torch.float64) for part in parts])
        weights = [1.0, self.args.log_likelihood_weight][:count]
        objective = [sum(w * r for w, r in zip(weights, row, strict=True)) for row in zip(*streams, strict=True)]
        if self.args.reward == "log_marginal":
            members = self._members(samples)
            bound = torch.zeros(())
            if members:
                bound = torch.stack([streams[0][i] for i in members]).exp().mean().log()
            objective = [bound] * len(samples)
        return objective, [(w, [r.item() for r in stream]) for w, stream in zip(weights, streams, strict=True)]

    def _members(self, samples):
        return [i for i, s in enumerate(samples) if s.labels is not None or self.args.malformed != "ignore"]

    def advantages(self, samples, streams):
        members, total = self._members(samples), [0.0] * len(samples)
        if len(members) < 2:
            return total
        for index, (weight, rewards) in enumerate(streams):
            raw = []
            for i in members:
                others = [j for j in members if j != i]
                penalty = [self.args.beta * sample.kl * (index == 0) for sample in samples]
                advantage = -penalty[i] + sum(penalty[j] for j in others) / len(others)
                if self.args.reward == "log_marginal":
                    mean = [sum(math.exp(rewards[j]) for j in js) / len(js) for js in (members, others)]
                    advantage += math.log(mean[0]) - math.log(mean[1])
                else:
                    advantage += rewards[i] - sum(rewards[j] for j in others) / len(others)
                raw.append(advantage)
            mean = sum(raw) / len(raw)
            sigma = math.sqrt(sum((advantage - mean) ** 2 for advantage in raw) / len(raw))
            if sigma < 1e-12:
                continue
            for i, advantage in zip(members, raw, strict=True):
                standardized = advantage / (sigma + self.args.advantage_eps)
                if self.args.advantage_clip is not None:
                    standardized = max(-self.args.advantage_clip, min(self.args.advantage_clip, standardized))
                total[i] += weight * standardized
        return total

    # --- the update

    def fix(self, groups):
        """What the steps on a reused batch take from the policy that sampled it: `(advantages, log π_old)` of each group."""
        with torch.no_grad():
            samples = [[self.sample(group.prompt, text) for text in group.texts] for group in groups]
            return [
                (self.advantages(row, self.rewards(group, row)[1]), [sample.log_prob.item() for sample in row])
                for group, row in zip(groups, samples, strict=True)
            ]

    @torch.no_grad()
    def num_tokens(self, groups):
        """Number of tokens that the policy gradient runs over."""
        return sum(self.sample(group.prompt, text).length for group in groups for text in group.texts)

    def loss(self, groups, fixed=None, tokens=None):
        """Of a micro-batch, with `tokens` a micro-batch on average; by default it is the only one."""
        surrogates, objectives, counted = [], [], 0
        for index, group in enumerate(groups):
            samples = [self.sample(group.prompt, text) for text in group.texts]
            objective, streams = self.rewards(group, samples)
            objectives += objective
            counted += sum(sample.length for sample in samples)
            if fixed is None or self.args.reuse_correction == "none":
                advantages = self.advantages(samples, streams) if fixed is None else fixed[index][0]
                surrogates += [a * s.log_prob for a, s in zip(advantages, samples, strict=True)]
                continue
            for advantage, old, sample in zip(*fixed[index], samples, strict=True):
                ratio = (sample.log_prob - old).exp()
                clipped = ratio.clamp(1 - self.args.epsilon, 1 + self.args.epsilon)
                surrogates.append(torch.minimum(ratio * advantage, clipped * advantage))
        policy = sum(surrogates) / len(surrogates)
        if self.args.loss_aggregation == "token":
            policy = sum(surrogates) / (tokens or counted)
        return -policy - self.args.prediction_weight * sum(objectives) / len(objectives)

    def gradient(self, groups, fixed=None, tokens=None):
        self.model.zero_grad()
        self.loss(groups, fixed, tokens).backward()
        return {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}

    @torch.no_grad()
    def step(self, gradients, lr):
        """Plain gradient descent on the mean of the micro-batches' gradients."""
        for name, parameter in self.model.named_parameters():
            if name in gradients[0]:
                parameter -= lr * sum(gradient[name] for gradient in gradients) / len(gradients)

    def parameters(self):
        return {name: p.detach().clone() for name, p in self.model.named_parameters() if p.requires_grad}


def relative_error(actual, expected):
    """Of two sets of tensors, by their names."""
    assert expected and actual.keys() == expected.keys()
    difference = sum((actual[name].double() - expected[name]).square().sum() for name in expected).sqrt()
    return (difference / sum(value.square().sum() for value in expected.values()).sqrt()).item()
