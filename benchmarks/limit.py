# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The limit of an update: floating-point operations that its unique tokens need, over the rate at which this machine multiplies
matrices.

Counted are matrix products only, each multiplication and addition as one operation: those of the linear layers, of
attention (only scores that are not masked) and of the LM head, once forward and twice backward. Softmaxes, norms, the
optimizer and memory traffic are not, so the limit itself cannot be reached.
"""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

_SQUARE = 4096
_HEAD_ROWS = 1024  # more rows do not change the rate, but the logits grow
_SECONDS, _TIMES = 0.2, 3  # at least, for each product


@dataclass(frozen=True)
class Operations:
    """
    Floating-point operations of an update.

    Attributes:
        linear, attention, head (`int`):
            Linear layers of the backbone, attention, LM head; forward and backward.
        recomputation (`int`):
            The second forward of the layers, if activations are checkpointed.
    """

    linear: int
    attention: int
    head: int
    recomputation: int

    @property
    def needed(self) -> int:
        """Without recomputation."""
        return self.linear + self.attention + self.head

    @property
    def total(self) -> int:
        """With recomputation."""
        return self.needed + self.recomputation


def unique_tokens(prompt_lengths: Sequence[int], read_lengths: Sequence[Sequence[int]]) -> int:
    """
    Tokens that have to be read.

    Args:
        prompt_lengths (`Sequence[int]`):
            Of each group's prompt, which is read once.
        read_lengths (`Sequence[Sequence[int]]`):
            How many tokens of each completion of each group precede the score. The score itself and what follows it have
            no part in the objective.
    """
    return sum(prompt_lengths) + sum(map(sum, read_lengths))


def head_rows(read_lengths: Sequence[Sequence[int]]) -> int:
    """Positions that predict a token or the score; the first tokens of a group's completions share the prompt's last one."""
    return sum(1 + sum(group) for group in read_lengths)


def count_operations(
    model: PreTrainedModel,
    prompt_lengths: Sequence[int],
    read_lengths: Sequence[Sequence[int]],
    *,
    recompute: bool,
) -> Operations:
    """
    What an update needs at least.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Decoder with linear layers and a linear LM head, all weights trained.
        prompt_lengths, read_lengths:
            See [`unique_tokens`].
        recompute (`bool`):
            Whether activations are checkpointed, which makes the layers' forward run twice.
    """
    config = model.config
    tokens = unique_tokens(prompt_lengths, read_lengths)
    parameters = sum(count * out * into for (out, into), count in _linear_shapes(model).items())
    scores = 0  # of a query and a key that it sees
    for prompt, group in zip(prompt_lengths, read_lengths, strict=True):
        scores += prompt * (prompt + 1) // 2
        scores += sum(length * prompt + length * (length + 1) // 2 for length in group)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    score_size = scores * size * config.num_attention_heads * config.num_hidden_layers
    return Operations(
        linear=6 * parameters * tokens,
        attention=12 * score_size,
        head=6 * model.get_output_embeddings().weight.numel() * head_rows(read_lengths),
        recomputation=2 * parameters * tokens + 4 * score_size if recompute else 0,
    )


def _linear_shapes(model: PreTrainedModel) -> Counter[tuple[int, int]]:
    """How many linear layers of each shape `(out, in)` the backbone has."""
    return Counter(tuple(m.weight.shape) for m in model.base_model.modules() if isinstance(m, nn.Linear))


@dataclass(frozen=True)
class MatmulRate:
    """
    Operations a second in matrix products.

    Attributes:
        workload (`float`):
            In the products of the model's own layers, forward and backward, weighted as they occur.
        square (`float`):
            With matrices of 4096 x 4096.
    """

    workload: float
    square: float

    @property
    def best(self) -> float:
        """The higher one."""
        return max(self.workload, self.square)


def measure_matmul_rate(model: PreTrainedModel, tokens: int, rows: int, device: torch.device) -> MatmulRate:
    """
    Time the products of an update in the model's dtype.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Gives the shapes and the dtype.
        tokens (`int`):
            Tokens that the layers read.
        rows (`int`):
            Positions that the LM head reads.
        device (`torch.device`):
            Where it is measured.
    """
    products = [(tokens, *shape, count) for shape, count in _linear_shapes(model).items()]
    products.append((min(rows, _HEAD_ROWS), *model.get_output_embeddings().weight.shape, rows / min(rows, _HEAD_ROWS)))
    operations = seconds = 0.0
    for size, out, into, count in products:
        operations += 6 * size * out * into * count
        seconds += count * _seconds_of_products(size, out, into, model.dtype, device)
    square = _seconds_of_products(_SQUARE, _SQUARE, _SQUARE, model.dtype, device, backward=False)
    return MatmulRate(workload=operations / seconds, square=2 * _SQUARE**3 / square)


@torch.no_grad()
def _seconds_of_products(
    size: int, out: int, into: int, dtype: torch.dtype, device: torch.device, backward: bool = True
) -> float:
    """A linear layer's forward on `(size, into)`, and with `backward` its two products backward."""
    inputs, weight, grads = (
        torch.randn(*shape, device=device).to(dtype) for shape in ((size, into), (out, into), (size, out))
    )
    products: list[Callable[[], torch.Tensor]] = [lambda: nn.functional.linear(inputs, weight)]
    if backward:
        products += [lambda: grads @ weight, lambda: grads.T @ inputs]
    return sum(_median_seconds(product, device) for product in products)


def _median_seconds(product: Callable[[], torch.Tensor], device: torch.device) -> float:
    calls = 10 if device.type == "cuda" else 1  # a GPU is waited for once, so that starting a product costs nothing
    seconds: list[float] = []
    while len(seconds) <= _TIMES or sum(seconds) * calls < _SECONDS:
        start = time.perf_counter()
        for _ in range(calls):
            product()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append((time.perf_counter() - start) / calls)
    return statistics.median(seconds[1:])  # the first one warms up
