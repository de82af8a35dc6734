# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Seconds of a job on the machine at hand: done with random weights and few layers, and carried on to all of them.

A forward, a backward, a decoding step and an optimizer step take a time for what stands around the layers and one for each layer. Both
are known from models of 1 and of 3 layers, which need no weights and are there in seconds.
"""

import copy
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from statistics import fmean
from time import perf_counter, process_time

import psutil
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedConfig

from real_trl.forward.dense import backbone, causal_lm
from real_trl.forward.generation import generate_groups
from real_trl.forward.packed_attention import install_prefix_attention
from real_trl.forward.positions import separate_rows
from real_trl.forward.prefill import read_prefill
from real_trl.forward.sft_inputs import pack_sequences, pad_sequences
from real_trl.forward.support import why_not_exact
from real_trl.forward.token_selection import TokenSelection, add_token_selection
from real_trl.label_tree import LabelTree
from real_trl.planning.memory import layer_bytes
from real_trl.planning.peaks import Bounds
from real_trl.planning.setup import Setup
from real_trl.planning.work import Job, layer_weights, operations

DEPTHS = (1, 3)
_ROUNDS = 4  # of which the first is not counted
_SECONDS = 10.0  # for all jobs together; what is over ends after one round
_OPERATIONS = 4e10  # at once on a processor, some tenths of a second; larger jobs are measured on a part of their rows
_SHARE_OF_MEMORY = 0.5  # of what is free
_AT_LEAST = 2**28  # bytes
_STEPS = 6  # of decoding
_LABELS = LabelTree.from_paths([[token] for token in range(5)])
# What a run has beside its jobs (loading rows, logging, saving), and how much a machine's speed changes from one hour to the next
_AROUND = Bounds(0.8, 1.25)


class CannotMeasure(Exception):
    """Says why."""


class MeasuredMachine:
    """
    This machine.

    Args:
        config ([`~transformers.PreTrainedConfig`]):
            Of the model.
        setup ([`Setup`]):
            How it is trained.
        lora ([`~peft.LoraConfig`], *optional*):
            Its adapter.
        attention (`str`, *optional*):
            `attn_implementation`.
        clock (`Callable[[], Bounds]`, *optional*):
            Seconds since some moment: of computing, shared out among the threads, which is what a job takes on a processor that does nothing else;
            and of waiting for it, with whatever else runs now. On a GPU both are the latter.

    Raises:
        CannotMeasure: if the model cannot be built, or its memory is not there.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        setup: Setup,
        lora: LoraConfig | None = None,
        attention: str | None = None,
        clock: Callable[[], Bounds] | None = None,
    ) -> None:
        self.setup, self._config, self._lora, self._attention = setup, config, lora, attention
        self.device = torch.device("cpu" if setup.cluster.is_processor else "cuda")
        self._clock = clock or (_processor_clock if self.device.type == "cpu" else _device_clock)
        layers = setup.size.layers
        self.depths = DEPTHS if layers > DEPTHS[-1] else (layers,)
        self._times: dict[Job, list[list[Bounds]]] = {}
        alone = "if nothing else runs" if self.device.type == "cpu" else "the fastest"
        now = "with what runs on it now" if self.device.type == "cpu" else "the mean"
        self.how = (
            f"measured on this machine with random weights and {' and '.join(map(str, self.depths))} of {layers} layers: {_AROUND.low:.0%} of what it takes "
            f"{alone}, to {_AROUND.high:.0%} of what it takes {now}"
        )
        load, cores = psutil.getloadavg()[0], psutil.cpu_count() or 1
        if self.device.type == "cpu" and load > cores:
            self.how += f" (it is busy: a load of {load:.1f} on {cores} cores, so that both are rough; plan again when it is idle)"

    def prepare(self, jobs: list[Job]) -> None:
        """Measure `jobs`, with each model built once; raises [`CannotMeasure`]."""
        smaller = dict.fromkeys(self._smaller(job) for job in jobs)
        wanted = [job for job in smaller if job not in self._times]
        if not wanted:
            return
        try:
            self._check_memory(wanted)
            with redirect_stdout(sys.stderr):  # DeepSpeed, where it is installed, says which accelerator it found
                models = [self._build(depth) for depth in self.depths]
                for job in wanted:
                    tasks = [self._task(model, job) for model in models]
                    self._times[job] = self._rounds(tasks, _SECONDS / len(wanted))
        except (RuntimeError, ValueError, MemoryError, AttributeError, TypeError, NotImplementedError) as error:
            said = str(error).splitlines() or [""]
            raise CannotMeasure(f"{type(error).__name__}: {said[0]:.200}") from error

    def seconds(self, job: Job, like: Job | None = None) -> Bounds:
        """Seconds of `job` with all layers, from those of `like`, by default the same, in proportion to their operations."""
        like = like or job
        self.prepare([like])
        small, size = self._smaller(like), self.setup.size
        rounds = self._times[small]
        low = min(self._whole(small, [each.low for each in times]) for times in rounds)
        high = fmean(self._whole(small, [each.high for each in times]) for times in rounds)
        low, high = low * _AROUND.low, high * _AROUND.high
        found = Bounds(min(low, high), high)
        if job.kind == "step":
            return found
        done, asked = (operations(size, each, checkpointing=self.setup.checkpointing) for each in (small, job))
        return found.times(asked / done)

    def _whole(self, job: Job, times: list[float]) -> float:
        """
        The time with all layers, of one with each number of them. What stands around the layers takes some time, so that a layer takes at most its
        share of the larger model; and it takes at least half of what its operations (of the optimizer: its weights) say.
        """
        if len(times) == 1:
            return times[0]
        first, last = self.depths
        size, few = self.setup.size, replace(self.setup.size, layers=last)
        if job.kind == "step":
            weights = layer_weights(few)
            share = weights / (weights + size.vocab * size.hidden)
        else:
            share = 1 - operations(replace(size, layers=0), job) / operations(few, job)
        layer = min(max((times[1] - times[0]) / (last - first), 0.5 * share * times[1] / last), times[1] / last)
        return times[1] + (size.layers - last) * layer

    def _smaller(self, job: Job) -> Job:
        """What is done in its place: on a processor fewer rows, and a forward with its backward."""
        if job.kind == "check":
            job = replace(job, kind="train")
        if job.kind == "step" or self.device.type != "cpu":
            return job
        first = replace(job, kind="read") if job.kind == "decode" else job
        few = replace(self.setup.size, layers=min(self.depths[-1], self.setup.size.layers))
        rows = int(job.rows * _OPERATIONS / operations(few, first))
        each = max(1, round(job.rows / job.prompts))  # rows of a prompt, which stay together if there are that many
        return job.part(max(rows // each * each or rows, 1)) if rows < job.rows else job

    def _check_memory(self, jobs: list[Job]) -> None:
        size = self.setup.size
        few = replace(size, layers=sum(self.depths))
        weights = layer_weights(few) + len(self.depths) * 2 * size.vocab * size.hidden
        states = 4 * 4 * weights  # with gradients and moments
        longest = round(max(job.prompt + job.completion for job in jobs))
        kept = max(job.tokens for job in jobs) * layer_bytes(size, longest)
        needed = states + 2 * self.depths[-1] * kept + _AT_LEAST
        if self.device.type == "cpu":
            free = psutil.virtual_memory().available
        else:
            free = torch.cuda.mem_get_info(self.device)[0]
        if needed > _SHARE_OF_MEMORY * free:
            raise CannotMeasure(
                f"{self.depths[-1]} layers of it would take {needed / 2**30:.1f} GiB, which is more than half of the {free / 2**30:.1f} GiB that are free"
            )

    def _build(self, depth: int) -> nn.Module:
        config = copy.deepcopy(self._config)
        text = config.get_text_config()
        text.num_hidden_layers = depth
        if getattr(text, "layer_types", None):
            text.layer_types = text.layer_types[:depth]
        options = {"attn_implementation": self._attention} if self._attention else {}
        half = self.setup.half and (self.setup.sharding.stage > 0 or self.setup.weight_bytes == 2)
        with torch.random.fork_rng([]), self.device:
            model = AutoModelForCausalLM.from_config(
                config, dtype=torch.bfloat16 if half else torch.float32, **options
            )
            add_token_selection(model, 1.0)
            if self._lora is not None:
                model = get_peft_model(model, copy.deepcopy(self._lora))
        base = causal_lm(model)
        if why_not_exact(base, dropout="of attention") is None:
            install_prefix_attention(base)
        if self.setup.checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            if self._lora is not None:
                model.enable_input_require_grads()
        return model

    def _task(self, model: nn.Module, job: Job) -> Callable[[], Bounds]:
        """Does a job once, and returns how many seconds it took."""
        base = causal_lm(model)
        if job.kind == "train":
            shares = self.setup.shared or job.alike > 0
            return self._timed(model, lambda: _train(model, job, self.device, half=self.setup.half, shares=shares))
        if job.kind == "step":
            return self._timed(model, _optimizer_step(model))
        texts = _texts(replace(job, completion=0), base.config.get_text_config().vocab_size)
        if job.kind == "read":
            return self._timed(model, lambda: read_prefill(base, _LABELS, texts, 1.0, 0), training=False)
        one, more = (
            self._timed(model, lambda tokens=tokens: _write(model, texts, tokens), training=False)
            for tokens in (1, 1 + _STEPS)
        )

        def step() -> Bounds:
            return Bounds(*(max(b - a, 0.0) / _STEPS for a, b in zip(one(), more(), strict=True)))

        return step

    def _timed(self, model: nn.Module, do: Callable[[], object], *, training: bool = True) -> Callable[[], Bounds]:
        def timed() -> Bounds:
            model.train(training)
            start = self._clock()
            # What training generates runs in its autocast; a backward does not
            half = self.setup.half and not training
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
                do()
            return Bounds(*(end - begin for begin, end in zip(start, self._clock(), strict=True)))

        return timed

    def _rounds(self, tasks: list[Callable[[], Bounds]], budget: float) -> list[list[Bounds]]:
        """Seconds of each task in each round: in turns, so that a moment in which the machine is slow is one for all of them."""
        rounds: list[list[Bounds]] = []
        start = self._clock().high
        while len(rounds) < _ROUNDS:
            rounds.append([task() for task in tasks])
            if self._clock().high - start > budget:
                break
        return rounds[1:] or rounds


def _processor_clock() -> Bounds:
    return Bounds(process_time() / torch.get_num_threads(), perf_counter())


def _device_clock() -> Bounds:
    torch.cuda.synchronize()
    return Bounds(perf_counter(), perf_counter())


def _texts(job: Job, vocab: int) -> list[list[int]]:
    """Random tokens of all rows, prompt and completion; prompts that are shared follow each other."""
    generator = torch.Generator().manual_seed(0)

    def draw(length: float) -> list[int]:
        return torch.randint(min(5, vocab - 1), vocab, (max(round(length), 0),), generator=generator).tolist()

    beginning = draw(job.alike)
    prompts = [beginning + draw(max(round(job.prompt), 2) - len(beginning)) for _ in range(job.prompts)]
    return [prompts[i * job.prompts // job.rows] + draw(job.completion) for i in range(job.rows)]


def _train(model: nn.Module, job: Job, device: torch.device, *, half: bool, shares: bool) -> None:
    """Forward and backward of a micro-batch, as the trainers do it."""
    model.zero_grad()
    base = causal_lm(model)
    texts = _texts(job, base.config.get_text_config().vocab_size)
    completion = max(round(job.completion), 2)
    ids = torch.tensor(texts, device=device)  # all are of one length
    labels = ids.clone()
    labels[:, :-completion] = -100
    scores = torch.full((len(ids),), ids.size(1) - 2, device=device)  # a label, and the end
    batch = labels, ids, torch.ones_like(ids), scores, _LABELS
    exact = why_not_exact(base, dropout="of attention") is None
    forward = pack_sequences(*batch, share=shares) if exact else pad_sequences(*batch, backbone(model))
    separate_rows(base)
    positions, targets = _flat(forward.rows, forward.targets, forward.num_labels, forward.inputs["input_ids"].size(1))
    asked = TokenSelection.of_tokens(positions, torch.arange(len(positions), device=device), targets)
    selection = asked.and_trees(TokenSelection.of_trees(_LABELS, forward.edges, forward.rests))
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
        output = model(**forward.inputs, selection=selection)
    (-output.log_probs.mean()).backward()


def _flat(rows: Tensor, targets: Tensor, num_labels: int, width: int) -> tuple[Tensor, Tensor]:
    """Positions counted over all rows of tokens, and what is asked for there."""
    offsets = torch.arange(len(rows), device=rows.device).unsqueeze(1) * width  # (B, 1)
    asked = targets[:, :num_labels] != -100  # (B, R)
    return (rows[:, :num_labels] + offsets)[asked], targets[:, :num_labels][asked]


def _optimizer_step(model: nn.Module) -> Callable[[], None]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-9, fused=True)
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)

    def step() -> None:
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()

    return step


@torch.no_grad()
def _write(model: nn.Module, prompts: list[list[int]], tokens: int) -> None:
    config = GenerationConfig(
        max_new_tokens=tokens, min_new_tokens=tokens, do_sample=True, top_k=0, pad_token_id=0, eos_token_id=1
    )
    generate_groups(model, prompts, config, 0)
