# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Attention over shared prefixes, forward and backward, against attention in float64 that is written out with a mask.

An error is the norm of a difference over the norm of what is right. It may be at most twice that of dense attention in the same type.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from real_trl.doctor.findings import Check, Finding, judged, skipped
from real_trl.doctor.subject import TREES, VOCABULARY, Subject, dtype_name
from real_trl.forward.dense import policy_forward
from real_trl.forward.packing import PackedRow
from real_trl.forward.shared_prefix import pack_groups, share_prefixes, shared_prefix_forward
from real_trl.forward.support import why_config_not_exact
from real_trl.forward.token_selection import add_token_selection
from real_trl.label_tree import LabelTree

TEMPERATURE = 1.0
_FACTOR = 2.0
_RESOLUTION = {torch.float32: 1e-6, torch.bfloat16: 1e-4, torch.float16: 1e-5}  # what is no error
_ADVICE = (
    "Training with shared_prefix would have wrong gradients: set shared_prefix: false in the recipe, which reads every prompt once for each completion, "
    "and report this."
)
# Groups of two prompts, with completions of lengths that fall into several buckets, and where their scores begin
_PROMPTS = [133] * 5 + [21] * 2
_LENGTHS = [38, 61, 6, 1, 90, 140, 17]
_SCORES = [36, 20, 5, 0, 80, 139, 4]


def relative_error(actual: Tensor, exact: Tensor) -> float:
    """Norm of the difference over that of `exact`, in float64."""
    exact = exact.double()
    return ((actual.double() - exact).norm() / exact.norm()).item()


class Errors(NamedTuple):
    """Of what is examined, and of the dense way, for each thing that is compared."""

    mine: dict[str, float]
    dense: dict[str, float]

    def finding(self, dtype: torch.dtype) -> Finding:
        """Whether all of mine are within twice the dense ones."""
        excess = {name: self.mine[name] / (_FACTOR * self.dense[name] + _RESOLUTION[dtype]) for name in self.mine}
        worst = max(excess, key=lambda name: excess[name] if excess[name] == excess[name] else float("inf"))
        shown = f"{worst} {self.mine[worst]:.1e}, dense {self.dense[worst]:.1e}"
        return judged(excess[worst] <= 1, shown, f"{_FACTOR:g} x dense in {dtype_name(dtype)}", _ADVICE)


# --- attention alone


def _packed(prompts: Sequence[int], tree: LabelTree, device: torch.device) -> PackedRow:
    ids = [[1 if length == max(prompts) else 2] * length for length in prompts]
    return pack_groups(ids, [[3] * n for n in _LENGTHS], _SCORES, tree, device)[0]


def row_mask(row: PackedRow, scores: Sequence[int]) -> Tensor:
    """`(T, T)`: what each token of a row must see, from where its parts stand: its prefix, itself, and as a node of a tree the text before the score."""
    total, nodes = row.input_ids.size(1), len(row.tree.context_tokens)
    mask = torch.zeros(total, total, dtype=torch.bool)
    for (first, length, start, end), score in zip(row.spans.tolist(), scores, strict=True):
        prefix = slice(first, first + length)
        mask[prefix, prefix] = torch.ones(length, length, dtype=torch.bool).tril()
        mask[start:end, start:end] = torch.ones(end - start, end - start, dtype=torch.bool).tril()
        mask[start : end + nodes, prefix] = True
        mask[end : end + nodes, start : start + score] = True
        mask[end : end + nodes, end : end + nodes] = row.tree.ancestors.cpu()
    return mask


def _dense_attention(query: Tensor, key: Tensor, value: Tensor, scale: float, mask: Tensor) -> Tensor:
    """Written out, of `(H, T, D)` and `(J, T, D)`."""
    key, value = (x.repeat_interleave(query.size(0) // x.size(0), 0) for x in (key, value))
    scores = (query @ key.mT * scale).masked_fill(~mask.to(query.device), -torch.inf)
    return scores.softmax(-1) @ value


def _with_gradients(attend: Callable[..., Tensor], parts: Sequence[Tensor], grad: Tensor) -> dict[str, Tensor]:
    leaves = [x.detach().clone().requires_grad_() for x in parts]
    out = attend(*leaves)
    grads = torch.autograd.grad(out, leaves, grad)
    return {"output": out.detach(), **dict(zip(("dQ", "dK", "dV"), grads, strict=True))}


def attention_errors(subject: Subject, tree: LabelTree, groups: int) -> Errors:
    """Of a packed row, with `groups` heads of queries to each of two heads of keys."""
    row = _packed(_PROMPTS, tree, subject.device)
    mask, scale, total = row_mask(row, _SCORES), subject.head_dim**-0.5, row.input_ids.size(1)
    generator = torch.Generator().manual_seed(0)
    heads = (2 * groups, 2 * groups, 2, 2)
    grad, *parts = (
        torch.randn(h, total, subject.head_dim, generator=generator).to(subject.device, subject.dtype) for h in heads
    )

    def packed(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return row.layout.attend(0, query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0), scale)[0]

    def dense(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return _dense_attention(query, key, value, scale, mask)

    exact = _with_gradients(dense, [x.double() for x in parts], grad.double())
    found = (_with_gradients(attend, parts, grad) for attend in (packed, dense))
    return Errors(*({name: relative_error(x, exact[name]) for name, x in each.items()} for each in found))


def _attention(tree: str) -> Check:
    def check(subject: Subject) -> Finding:
        groups = sorted({1, 4, subject.groups})
        findings = {group: attention_errors(subject, TREES[tree], group).finding(subject.dtype) for group in groups}
        bad = [f for f in findings.values() if f.status == "failed"]
        worst = bad[0] if bad else findings[max(groups)]
        shown = "; ".join(f"{group}: {found.measured}" for group, found in findings.items())
        return Finding(worst.status, f"query heads per KV head {shown}", worst.bound, worst.advice)

    return check


# --- whole models


def random_rows(seed: int = 0) -> list[tuple[list[int], list[int], int]]:
    """Prompt, completion and where its score begins: two prompts in groups, as above but shorter, and of tokens that no label has."""
    generator = torch.Generator().manual_seed(seed)

    def draw(length: int) -> list[int]:
        return torch.randint(10, VOCABULARY, (length,), generator=generator).tolist()

    prompts = {length: draw(length) for length in (70, 9)}
    shape = [(70, 38, 36), (70, 11, 5), (70, 20, 0), (70, 45, 44), (9, 33, 31), (9, 6, 6)]
    return [(prompts[prompt], draw(length), score) for prompt, length, score in shape]


def as_batch(rows: Sequence[tuple[list[int], list[int], int]], device: torch.device) -> dict[str, Tensor]:
    """The arguments of [`~real_trl.forward.dense.policy_forward`]: prompts padded on the left, completions on the right."""
    batch: dict[str, Tensor] = {}
    for name, index in (("prompt", 0), ("completion", 1)):
        length = max(len(row[index]) for row in rows)
        ids, mask = torch.zeros(len(rows), length, dtype=torch.long), torch.zeros(len(rows), length, dtype=torch.long)
        for place, row in enumerate(rows):
            own = slice(length - len(row[0]), None) if index == 0 else slice(len(row[1]))
            ids[place, own], mask[place, own] = torch.tensor(row[index]), 1
        batch |= {f"{name}_ids": ids, f"{name}_mask": mask}
    batch["score_positions"] = torch.tensor([row[2] for row in rows])
    return {name: x.to(device) for name, x in batch.items()}


def prepared(model: PreTrainedModel, device: torch.device, *, shared: bool) -> PreTrainedModel:
    """A copy on `device` for one of the two forwards."""
    model = copy.deepcopy(model).to(device)
    if not shared:
        add_token_selection(model, TEMPERATURE)
    elif not share_prefixes(model, TEMPERATURE):
        raise ValueError("prompts cannot be shared in this model, though its configuration says so")
    return model


def read(model: PreTrainedModel, batches: Sequence[list], tree: LabelTree, *, shared: bool) -> dict[str, Tensor]:
    """
    Log-probabilities of tokens and of labels of all rows of `batches`, and the gradient of a random combination of both, on the CPU in
    float64.
    """
    forward = shared_prefix_forward if shared else policy_forward
    tokens, labels = [], []
    for rows in batches:
        batch = as_batch(rows, model.device)
        output = forward(model, **batch, tree=tree)
        tokens.append(output.log_probs[batch["completion_mask"].bool()])
        labels.append(output.score_log_probs)
    kept = {"log π(tokens)": torch.cat(tokens), "log π(labels)": torch.cat(labels)}
    generator = torch.Generator().manual_seed(1)
    sum((x * torch.randn(x.shape, generator=generator).to(x.device)).sum() for x in kept.values()).backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return {name: x.detach().cpu().double() for name, x in {**kept, "gradient": gradient}.items()}


def exact_reading(model: PreTrainedModel, rows: list, tree: LabelTree) -> dict[str, Tensor]:
    """What [`read`] should give: by a copy in float64 on the CPU, each row alone, without padding."""
    exact = prepared(copy.deepcopy(model).double(), torch.device("cpu"), shared=False)
    return read(exact, [[row] for row in rows], tree, shared=False)


def model_errors(subject: Subject, *, autocast: bool = False, reentrant: bool | None = None) -> Errors:
    """
    Of a small model of the recipe's architecture.

    Args:
        autocast (`bool`, *optional*, defaults to `False`):
            Weights in float32 under autocast, instead of in the recipe's type.
        reentrant (`bool`, *optional*):
            Kind of gradient checkpointing; by default there is none.
    """
    rows, tree = random_rows(), TREES["several tokens"]
    model = subject.small_model(torch.float32 if autocast else subject.dtype)
    exact = exact_reading(model, rows, tree)

    def errors(shared: bool) -> dict[str, float]:
        mine = prepared(model, subject.device, shared=shared)
        if reentrant is not None:
            mine.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
            mine.enable_input_require_grads()
        with torch.autocast(subject.device.type, subject.dtype, enabled=autocast):
            found = read(mine, [rows], tree, shared=shared)
        return {name: relative_error(x, exact[name]) for name, x in found.items()}

    return Errors(errors(True), errors(False))


def _whole_model(**options: Any) -> Check:
    def check(subject: Subject) -> Finding:
        if reason := why_config_not_exact(subject.small_config()):
            return skipped(f"prompts are not shared: {reason}")
        half = subject.dtype != torch.float32
        if options.get("autocast") and not half:
            return skipped("computes in float32")
        return model_errors(subject, **options).finding(subject.dtype)

    return check


def padded(subject: Subject) -> Finding:
    """The dense forward of a padded batch in float32, against its rows one by one."""
    rows, tree, model = random_rows(), TREES["several tokens"], subject.small_model()
    exact = exact_reading(model, rows, tree)
    found = read(prepared(model, subject.device, shared=False), [rows], tree, shared=False)
    errors = {name: relative_error(x, exact[name]) for name, x in found.items()}
    worst = max(errors, key=errors.__getitem__)
    advice = "Padding changes what a model gives: the attention of this torch and transformers is not to be relied on here. Report this."
    return judged(errors[worst] < 1e-4, f"{worst} {errors[worst]:.1e}", "1e-4 in float32", advice)


CHECKS: dict[str, Check] = {
    "packed rows": _attention("digits"),
    "label trees": _attention("several tokens"),
    "padded batch": padded,
    "whole model": _whole_model(),
    "under autocast": _whole_model(autocast=True),
    "checkpointing": _whole_model(reentrant=False),
    "reentrant checkpointing": _whole_model(reentrant=True),
}
