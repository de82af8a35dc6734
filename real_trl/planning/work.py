# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
How much a run computes, counted from its recipe: what one GPU does at once, and how often.

Operations are those of matrix products, 2 for each multiplication with its addition: of the weights in the layers for every token
that is read, of attention for every pair of a token and one that it sees, and of the LM head for every position that is asked for.
A backward pass does twice what the forward did (attention two and a half times, since it is computed again; with LoRA the frozen
weights once); gradient checkpointing does the layers' forward once more.
"""

from dataclasses import dataclass, replace
from typing import Literal

from real_trl.planning.models import ModelSize
from real_trl.planning.setup import Setup

Kind = Literal["train", "check", "read", "decode", "step"]


@dataclass(frozen=True)
class Job:
    """
    What one GPU does at once.

    Attributes:
        kind (`str`):
            `"train"`: forward and backward of a micro-batch. `"check"`: the same forward without gradient. `"read"`: score distributions from a
            prefill, as of a direct judge, or the prefill of a generation. `"decode"`: one decoding step behind `completion` tokens. `"step"`:
            the optimizer's.
        rows (`int`):
            Sequences.
        prompts (`int`):
            Prompts that are read for them: fewer than the rows where rows share one.
        prompt, completion (`float`):
            Tokens of each, on average.
        alike (`float`):
            Tokens that all these prompts begin with, and that are read once.
    """

    kind: Kind
    rows: int = 0
    prompts: int = 0
    prompt: float = 0.0
    completion: float = 0.0
    alike: float = 0.0

    @property
    def tokens(self) -> float:
        """Tokens that are read."""
        if self.kind == "decode":
            return self.rows
        return self.prompts * self.prompt - self._repeats * self.alike + self.rows * self._read

    @property
    def pairs(self) -> float:
        """Pairs of a token and one that it attends to, itself included."""
        if self.kind == "decode":
            return self.rows * (self.prompt + self.completion + 1)
        prompt, completion = self.prompt, self._read
        read = self.prompts * _triangle(prompt) - self._repeats * _triangle(self.alike)
        return read + self.rows * (completion * prompt + _triangle(completion))

    @property
    def logits(self) -> float:
        """Positions whose logits are computed: of the completion's tokens, and once more of the score; of a prefill the last."""
        return self.rows * (self.completion + 1 if self.kind in ("train", "check") else 1)

    @property
    def _read(self) -> float:
        """Of a completion: its last token predicts nothing."""
        return max(self.completion - 1, 0.0)

    @property
    def _repeats(self) -> int:
        return max(self.prompts - 1, 0)

    def part(self, rows: int) -> "Job":
        """The same with fewer rows, and as many prompts as go with them."""
        return replace(self, rows=rows, prompts=max(1, round(self.prompts * rows / self.rows)))


def _triangle(length: float) -> float:
    return length * (length + 1) / 2


def layer_weights(size: ModelSize) -> int:
    """Weights of all layers' matrices, of a decoder with grouped-query attention and a gated MLP."""
    attention, kv = size.heads * size.head_dim, size.kv_heads * size.head_dim
    return size.layers * size.hidden * (2 * attention + 2 * kv + 3 * size.intermediate)


def operations(size: ModelSize, job: Job, *, checkpointing: bool = False) -> float:
    """Floating-point operations of a job; none of the optimizer's, which does no matrix products."""
    if job.kind == "step":
        return 0.0
    layers = 2 * layer_weights(size) * job.tokens
    attention = 4 * size.layers * size.heads * size.head_dim * job.pairs
    head = 2 * size.vocab * size.hidden * job.logits
    adapter = 2 * size.trainable * job.tokens if size.lora else 0
    if job.kind != "train":
        return layers + attention + head + adapter
    again = 1 if checkpointing else 0
    # The LM head's backward computes the logits again, and the gradients of the hidden states and of its weight
    head *= 3 if size.lora else 4
    return (2 if size.lora else 3) * layers + again * layers + (3.5 + again) * attention + head + (3 + again) * adapter


@dataclass(frozen=True)
class Part:
    """A part of a run: its name, the job, how many times a GPU does it in an update, and how many in the run (`None`: not known)."""

    name: str
    job: Job
    per_update: float
    times: float | None


@dataclass(frozen=True)
class Texts:
    """
    What the data say about lengths.

    Attributes:
        prompt, completion (`float`): Tokens, on average.
        alike (`float`): Tokens that the prompts of a direct judge's batch begin with, on average.
    """

    prompt: float
    completion: float
    alike: float = 0.0


def training_parts(setup: Setup, texts: Texts, steps: int | None, *, penalty: bool = False) -> list[Part]:
    """
    What a GPU does in training.

    Args:
        setup ([`Setup`]):
            The run.
        texts ([`Texts`]):
            Lengths.
        steps (`int`, *optional*):
            Optimizer steps, where they are known.
        penalty (`bool`, *optional*, defaults to `False`):
            Whether a reference model reads completions too (`beta`).
    """
    update = Job("train", setup.batch, setup.prompts, texts.prompt, texts.completion, texts.alike)
    parts: list[Part] = []

    def add(name: str, job: Job, per_update: float) -> None:
        parts.append(Part(name, job, per_update, None if steps is None else per_update * steps))

    if setup.stage == "rl":
        updates = setup.micro_batches * setup.iterations / setup.accumulation  # on one generation
        rows = setup.batch * setup.micro_batches
        if setup.generation != "server":
            prefill, step = writing(rows, rows // setup.group, texts)
            add("reading prompts", prefill, 1 / updates)
            add("writing completions", step, texts.completion / updates)
        reused = setup.iterations > 1 or setup.accumulation % setup.micro_batches != 0
        forwards = (1 if reused else 0) + (1 if penalty else 0)
        if forwards:
            micro = setup.micro_batches / updates if reused else setup.accumulation
            add("log-probabilities before the update", replace(update, kind="check"), forwards * micro)
    add("forward and backward", update, setup.accumulation)
    add("optimizer", Job("step"), 1)
    return parts


def writing(rows: int, prompts: int, texts: Texts) -> tuple[Job, Job]:
    """Of a generation the prefill, and one of the steps behind it, half of whose completions are there."""
    return (
        Job("read", rows, prompts, texts.prompt, alike=texts.alike),
        Job("decode", rows, prompts, texts.prompt, texts.completion / 2),
    )


def judging_parts(
    rows: int, batch: int, texts: Texts, *, direct: bool, name: str = "", often: float | None = 1, every: float = 1
) -> list[Part]:
    """
    What a GPU does to judge `rows`, `batch` at once.

    Args:
        direct (`bool`):
            Whether nothing is generated.
        name (`str`):
            What is added to the names of the parts.
        often (`float`, *optional*), every (`float`):
            How many times in the run, and after how many updates.
    """
    batch = min(batch, rows)
    prefill, step = writing(batch, batch, texts)
    batches = rows / batch
    parts = [("reading prompts", prefill, batches)]
    if not direct:
        parts.append(("writing completions", step, batches * texts.completion))
    return [
        Part(what + name, job, times / every, None if often is None else times * often) for what, job, times in parts
    ]
