# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Whether scores are read in float32, and whether updates at the recipe's learning rate reach the weights, and the policy that samples."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from real_trl.doctor.findings import Check, Finding, judged, skipped
from real_trl.doctor.kernels import TEMPERATURE, as_batch, prepared, random_rows
from real_trl.doctor.subject import TREES, Subject, dtype_name
from real_trl.forward.dense import backbone, policy_forward
from real_trl.forward.logits import float32_logits
from real_trl.forward.selected_log_probs import selected_log_probs
from real_trl.objectives import leave_one_out_advantages, regression_reward
from real_trl.option_values import FieldError
from real_trl.trainers.visible_updates import visible_share

_LOGIT = 34.0  # where numbers in bfloat16 are 0.25 apart; SmolLM2's are there
_FLOAT32 = 1e-4  # of log-probabilities from such logits
_ADVICE = "Scores would be read from rounded logits, which changes the signs of advantages. Something has replaced the output layer: report this."
_VALUES = torch.arange(1.0, 6.0, dtype=torch.float64)
_GROUPS, _COMPLETIONS, _HIDDEN, _TOKENS = 32, 16, 256, 512


def _model_with_large_logits(subject: Subject) -> PreTrainedModel:
    model = prepared(subject.small_model(subject.dtype), subject.device, shared=False)
    ids = as_batch(random_rows(), subject.device)["prompt_ids"][:1]
    with torch.no_grad():
        logits = model(ids).logits
        head = model.get_output_embeddings()
        if head.weight is model.get_input_embeddings().weight:  # which tokens read is to stay as it is
            head.weight = nn.Parameter(head.weight.clone())
        head.weight *= _LOGIT / logits.abs().max().float()
    return model


def _exact_log_probs(hidden: Tensor, model: PreTrainedModel) -> Tensor:
    """`(..., V)` in float64, of the same hidden states and weights."""
    head = model.get_output_embeddings()
    logits = hidden.double() @ head.weight.double().T
    bias = getattr(head, "bias", None)
    return ((logits if bias is None else logits + bias.double()) / TEMPERATURE).log_softmax(-1)


def _last_hidden(model: PreTrainedModel, kept: list[Tensor]) -> torch.utils.hooks.RemovableHandle:
    return backbone(model).register_forward_hook(lambda _, __, output: kept.append(output.last_hidden_state.detach()))


@torch.no_grad()
def scores_in_training(subject: Subject) -> Finding:
    """Log-probabilities of labels in the trainers' forward, against the same hidden states and weights in float64."""
    model, tree = _model_with_large_logits(subject), TREES["digits"]
    hidden: list[Tensor] = []
    batch = as_batch(random_rows(), subject.device)
    handle = _last_hidden(model, hidden)
    with torch.autocast(subject.device.type, subject.dtype, enabled=subject.dtype != torch.float32):
        output = policy_forward(model, **batch, tree=tree)
    handle.remove()
    rows = batch["prompt_ids"].size(1) - 1 + batch["score_positions"]
    exact = _exact_log_probs(hidden[0][torch.arange(len(rows), device=rows.device), rows], model)
    return _log_prob_finding(output.score_log_probs - exact[:, [path[0] for path in tree.paths]])


@torch.no_grad()
def scores_in_judging(subject: Subject) -> Finding:
    """The logits that the Transformers engine reads, in the same way."""
    model = _model_with_large_logits(subject)
    hidden: list[Tensor] = []
    ids = as_batch(random_rows(), subject.device)["completion_ids"][:1]
    handle = _last_hidden(model, hidden)
    with (
        torch.autocast(subject.device.type, subject.dtype, enabled=subject.dtype != torch.float32),
        float32_logits(model),
    ):
        logits = model(ids).logits[0, -1]
    handle.remove()
    return _log_prob_finding(logits.double().log_softmax(-1) - _exact_log_probs(hidden[0][0, -1], model))


def _log_prob_finding(difference: Tensor) -> Finding:
    error = difference.abs().max().item()
    return judged(error < _FLOAT32, f"|Δ log π| {error:.1e} at logits of {_LOGIT:g}", f"{_FLOAT32:g}", _ADVICE)


@torch.no_grad()
def advantages(subject: Subject) -> Finding:
    """
    Of groups whose expected scores differ by 0.07, as those of a trained judge do: how many advantages have another sign than in float64,
    by the output layer of the trainers, and by one in the recipe's type.
    """
    dtype = torch.bfloat16 if subject.dtype == torch.float32 else subject.dtype
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(_TOKENS, _HIDDEN, generator=generator).to(dtype)
    tree = TREES["digits"]
    labels = torch.tensor([path[0] for path in tree.paths])
    wanted = _LOGIT + torch.randn(_GROUPS, 1, len(labels), generator=generator)
    wanted = (wanted + 0.07 * torch.randn(_GROUPS, _COMPLETIONS, len(labels), generator=generator)).flatten(0, 1)
    hidden = (wanted @ torch.linalg.pinv(weight[labels].float()).T).to(dtype)
    hidden, weight = hidden.to(subject.device), weight.to(subject.device)
    rows = torch.arange(len(hidden), device=subject.device).repeat_interleave(len(labels))
    tokens = labels.to(subject.device).repeat(len(hidden))
    mine = selected_log_probs(hidden, weight, None, rows, tokens, num_precise=len(hidden)).log_probs.view(
        len(hidden), -1
    )
    exact = (hidden.double() @ weight.double().T).log_softmax(-1)[:, labels]
    rounded = (hidden @ weight.T).float().log_softmax(-1)[:, labels]
    changed, otherwise = (_changed_signs(x, exact) for x in (mine, rounded))
    shown = f"{changed:.1%} change sign ({dtype_name(dtype)} logits: {otherwise:.1%})"
    return judged(changed <= 0.002, shown, "0.2%", _ADVICE)


def _changed_signs(log_probs: Tensor, exact: Tensor) -> float:
    signs = []
    for x in (log_probs, exact):
        x = x.cpu().double()
        rewards = regression_reward(x, _VALUES, torch.full((len(x),), 4.0, dtype=torch.float64))
        signs.append(leave_one_out_advantages(rewards.view(_GROUPS, _COMPLETIONS)).sign())
    return (signs[0] != signs[1]).double().mean().item()


def gradients(subject: Subject) -> Finding:
    """In which type autograd adds gradients of weights in float32 up, over two micro-batches. What ZeRO and FSDP2 do, `several processes` shows."""
    model = prepared(subject.small_model(), subject.device, shared=False)
    tree, rows = TREES["digits"], random_rows()
    with torch.autocast(subject.device.type, subject.dtype, enabled=subject.dtype != torch.float32):
        for row in rows[:2]:
            policy_forward(model, **as_batch([row], subject.device), tree=tree).log_probs.sum().backward()
    types = {p.grad.dtype for p in model.parameters() if p.grad is not None}
    shown = ", ".join(map(dtype_name, types))
    setup = subject.setup
    if setup is not None and setup.sharding.stage:
        shown += f"; {setup.sharding} adds up in its grad_accum_dtype, float32 unless its configuration says otherwise"
    return judged(
        types == {torch.float32}, shown, "float32", "Sums over micro-batches lose what is small: report this."
    )


def masters(subject: Subject) -> Finding:
    """Whether the recipe keeps weights in float32 for the optimizer, or is refused, and how many of such numbers a step of AdamW at its rate changes."""
    moved = _step(subject)[0]
    kept = "float32 weights"
    if subject.recipe is not None:
        try:
            setup = subject.setup
        except FieldError as error:
            return Finding("failed", str(error.value), "float32", str(error))
        kept = f"float32 copies by {setup.sharding}" if setup.sharding.stage and setup.half else kept
    advice = f"Updates of {subject.learning_rate:g} are lost in float32 already: raise learning_rate."
    return judged(
        moved > 0.9, f"{kept}, of which a step at {subject.learning_rate:g} moves {moved:.1%}", "90%", advice
    )


def visible(subject: Subject) -> Finding:
    """Of one optimizer step at the recipe's rate on a checkpoint in half precision, what the copy in half precision shows, which forwards and the sampler read."""
    if subject.dtype == torch.float32:
        return skipped("computes in float32, where all of it is seen")
    _, once, later = _step(subject)
    shown = f"{once:.1%} of one step at {subject.learning_rate:g}, {later:.1%} of 20 in one direction"
    advice = (
        "So much of the first updates has an effect on what is sampled; the rest adds up in float32. If update/visible_share in the log stays small, raise "
        "learning_rate, or train LoRA at ten times the rate."
    )
    return judged(later > 0.2, shown, "20% of 20 steps", advice, otherwise="warning")


def _step(subject: Subject) -> tuple[float, float, float]:
    """Which share of weights as a model's one step of AdamW moves, and what the copy in half precision shows of it, and of 20."""
    spread = getattr(subject.text, "initializer_range", 0.02)
    half, found = torch.bfloat16 if subject.dtype == torch.float32 else subject.dtype, []
    # A checkpoint in half precision: every weight begins where its copy is exact
    first = (
        (spread * torch.randn(2**18, generator=torch.Generator().manual_seed(0))).to(half).float().to(subject.device)
    )
    weight = nn.Parameter(first.clone())
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)).to(subject.device)
    optimizer = torch.optim.AdamW([weight], lr=subject.learning_rate, weight_decay=0.0)
    for steps in range(1, 21):
        optimizer.step()
        if steps in (1, 20):
            now = weight.detach()
            if steps == 1:
                found.append((now != first).double().mean().item())
            above, below = visible_share(now.to(half), first.to(half), now, first)
            found.append((above / below).item() if below > 0 else 0.0)
    return tuple(found)


CHECKS: dict[str, Check] = {
    "scores in training": scores_in_training,
    "scores in judging": scores_in_judging,
    "signs of advantages": advantages,
    "type of gradients": gradients,
    "steps in float32": masters,
    "visible updates": visible,
}
