# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Whether vLLM, where it is installed, writes what the trainer's weights say: before and after they are sent to it.

A small model of the recipe's architecture is run by both. What vLLM may be off by is a few times what the trainer's own forward in that type is
off from float64.
"""

import gc
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol

import torch
from accelerate.utils import patch_environment
from torch import Tensor
from transformers import PreTrainedModel

from real_trl.doctor.findings import Finding, judged, skipped
from real_trl.doctor.kernels import as_batch, prepared
from real_trl.doctor.subject import TREES, VOCABULARY, Subject, dtype_name
from real_trl.forward.dense import policy_forward
from real_trl.planning.setup import GIB

_PROMPT, _WRITTEN, _ROWS = 300, 24, 4  # longer than the blocks in which vLLM keeps what it has read
_CONTEXT = 512
_TREE = TREES["digits"]
_LABELS = [path[0] for path in _TREE.paths]
_FACTOR = 8.0  # measured: in float32 both are alike, in bfloat16 vLLM is up to 5 times as far from the trainer as that is from float64
_RESOLUTION = 1e-4  # of log-probabilities, that is no error
_FLOAT32_GAP, _HALF_GAP = (
    1e-3,
    0.6,
)  # by which a greedy token may be less likely than the most likely one, with both rounded
_NOT_EXAMINED = "not examined here: all weights are sent, in the type of the recipe, without TRL's VLLMGeneration"
_SYNC_ADVICE = "Completions would be sampled from other weights than those that are trained, and nothing else would say so. Train with use_vllm: false, and report this."


class Written(NamedTuple):
    """A completion: its tokens, the log-probability of each, and those of the labels `(tokens, L)` where each stands."""

    tokens: list[int]
    log_probs: Tensor
    labels: Tensor


class Sampler(Protocol):
    """What is compared with the trainer."""

    def write(self, prompts: Sequence[list[int]]) -> list[Written]:
        """Greedy completions of `_WRITTEN` tokens each."""
        ...

    def load(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Take the trainer's weights, as TRL sends them, and forget what was read before."""
        ...


@dataclass
class VLLMSampler:
    """vLLM in this process."""

    llm: Any

    def write(self, prompts: Sequence[list[int]]) -> list[Written]:
        """See [`Sampler`]."""
        from vllm import SamplingParams

        common = {"temperature": 0.0, "max_tokens": _WRITTEN, "ignore_eos": True, "detokenize": False}
        inputs = [{"prompt_token_ids": ids} for ids in prompts]
        asked = (SamplingParams(**common, logprobs=0), SamplingParams(**common, logprob_token_ids=_LABELS))
        own, labels = (self.llm.generate(inputs, params, use_tqdm=False) for params in asked)
        found = []
        for first, second in zip(own, labels, strict=True):
            tokens = list(first.outputs[0].token_ids)
            mine = [step[token].logprob for token, step in zip(tokens, first.outputs[0].logprobs, strict=True)]
            of_labels = [[step[label].logprob for label in _LABELS] for step in second.outputs[0].logprobs]
            found.append(Written(tokens, torch.tensor(mine), torch.tensor(of_labels)))
        return found

    def load(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """See [`Sampler`]; as TRL's `VLLMGeneration.sync_weights` does it in process."""
        model = self.llm.llm_engine.model_executor.driver_worker.model_runner.model
        for name, weight in weights:
            model.load_weights([(name, weight)])
        self.llm.reset_prefix_cache()


def random_prompts(seed: int) -> list[list[int]]:
    """Prompts that no other seed has."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(10, VOCABULARY, (_ROWS, _PROMPT), generator=generator).tolist()


class Reading(NamedTuple):
    """What the trainer's forward says about completions: of their tokens `(N, tokens)`, and of the labels at their last place `(N, L)`."""

    tokens: Tensor
    labels: Tensor


@torch.no_grad()
def trainer_reading(model: PreTrainedModel, prompts: Sequence[list[int]], written: Sequence[Written]) -> Reading:
    """By a `model` that is [`~real_trl.doctor.kernels.prepared`]."""
    rows = [(prompt, each.tokens, len(each.tokens) - 1) for prompt, each in zip(prompts, written, strict=True)]
    output = policy_forward(model, **as_batch(rows, model.device), tree=_TREE)
    return Reading(output.log_probs.cpu().double(), output.score_log_probs.cpu().double())


class Trainer:
    """The same weights in the recipe's type, and in float64."""

    def __init__(self, subject: Subject, model: PreTrainedModel) -> None:
        self.model = prepared(model.to(subject.dtype), subject.device, shared=False).eval()
        self.exact = prepared(model.double(), torch.device("cpu"), shared=False).eval()
        model.to(subject.dtype)

    def compare(
        self, prompts: Sequence[list[int]], written: Sequence[Written]
    ) -> dict[str, tuple[float, float, float]]:
        """For tokens and labels: mean and largest `|Δ log π|` of what was written, and the mean that is allowed."""
        mine, exact = (trainer_reading(model, prompts, written) for model in (self.model, self.exact))
        theirs = Reading(
            torch.stack([each.log_probs for each in written]).double(),
            torch.stack([each.labels[-1] for each in written]).double(),
        )
        found = {}
        for name in ("tokens", "labels"):
            difference = (getattr(theirs, name) - getattr(mine, name)).abs()
            own = (getattr(mine, name) - getattr(exact, name)).abs().mean().item()
            found[name] = difference.mean().item(), difference.max().item(), _FACTOR * own + _RESOLUTION
        return found

    @torch.no_grad()
    def gap(self, prompts: Sequence[list[int]], written: Sequence[Written]) -> float:
        """How much less likely than the most likely token, in float64, a greedy one is at most."""
        worst = 0.0
        for prompt, each in zip(prompts, written, strict=True):
            logits = self.exact(torch.tensor([prompt + each.tokens[:-1]])).logits[0, len(prompt) - 1 :]
            chosen = logits.gather(1, torch.tensor(each.tokens)[:, None]).squeeze(1)
            worst = max(worst, (logits.amax(-1) - chosen).max().item())
        return worst


def compare_distributions(subject: Subject, sampler: Sampler, trainer: Trainer) -> dict[str, Finding]:
    """What is written with the weights that the sampler began with."""
    prompts = random_prompts(0)
    written = sampler.write(prompts)
    gap, name = trainer.gap(prompts, written), dtype_name(subject.dtype)
    allowed = _FLOAT32_GAP if subject.dtype == torch.float32 else _HALF_GAP
    advice = "vLLM reads this model in another way than Transformers (attention, positions, or the output layer): train with use_vllm: false, and report this."
    findings = {
        "greedy tokens": judged(
            gap < allowed, f"at most {gap:.1e} less likely than the most likely one", f"{allowed:g} in {name}", advice
        )
    }
    for what, title in (("tokens", "log π of tokens"), ("labels", "log π of labels")):
        mean, largest, bound = trainer.compare(prompts, written)[what]
        shown = f"|Δ| to the trainer's: mean {mean:.1e}, at most {largest:.1e}"
        findings[title] = judged(
            mean <= bound, shown, f"mean {bound:.1e}, {_FACTOR:g} x the trainer's rounding", advice
        )
    return findings


def compare_after_sync(subject: Subject, sampler: Sampler, old: Trainer, new: Trainer) -> dict[str, Finding]:
    """
    What is written once the weights of `new` have been sent in the place of those of `old`: after prompts that were never read, and after one
    that was, whose keys and values must have been forgotten.
    """
    seen, fresh = random_prompts(1), random_prompts(2)
    before = sampler.write(seen)
    sampler.load((name, p.data) for name, p in new.model.named_parameters())
    written = {"seen": sampler.write(seen), "fresh": sampler.write(fresh)}
    mean, _, bound = new.compare(fresh, written["fresh"])["tokens"]
    unchanged = old.compare(fresh, written["fresh"])["tokens"][0]
    shown = f"|Δ log π| to the new weights {mean:.1e}, to the old ones {unchanged:.1e}"
    if unchanged <= bound:
        shown += ": nothing has changed"
    findings = {"weights after a sync": judged(mean <= bound < unchanged, shown, f"{bound:.1e}", _SYNC_ADVICE)}
    if findings["weights after a sync"].status == "failed":
        return findings | {"prefix cache after it": skipped("the weights are not the new ones")}
    mean, _, bound = new.compare(seen, written["seen"])["tokens"]
    same = sum(a.tokens == b.tokens for a, b in zip(before, written["seen"], strict=True))
    shown = f"after a prompt read before: |Δ log π| {mean:.1e}, {same} of {len(seen)} completions as before"
    findings["prefix cache after it"] = judged(mean <= bound, shown, f"{bound:.1e}", _SYNC_ADVICE)
    return findings


def _sleep_and_wake(subject: Subject, sampler: VLLMSampler, trainer: Trainer) -> Finding:
    if not subject.is_gpu:
        return skipped("needs a GPU")
    free = [torch.cuda.mem_get_info(subject.device)[0]]
    sampler.llm.sleep(level=2)  # as TRL: weights are discarded
    free.append(torch.cuda.mem_get_info(subject.device)[0])
    sampler.llm.wake_up(tags=["weights"])
    sampler.load((name, p.data) for name, p in trainer.model.named_parameters())
    sampler.llm.wake_up(tags=["kv_cache"])
    prompts = random_prompts(3)
    mean, _, bound = trainer.compare(prompts, sampler.write(prompts))["tokens"]
    shown = f"{(free[1] - free[0]) / GIB:.1f} GiB free in sleep; afterwards |Δ log π| {mean:.1e}"
    advice = "Set vllm_enable_sleep_mode: false, and report this."
    return judged(mean <= bound and free[1] > free[0], shown, f"more than 0; {bound:.1e}", advice)


@contextmanager
def _started(subject: Subject, folder: str) -> Iterator[VLLMSampler]:
    """vLLM in this process with the options of real_trl's engine; on a CPU without its own form of the weights, into which none can be loaded."""
    with patch_environment(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_KVCACHE_SPACE="1", VLLM_LOGGING_LEVEL="ERROR"):
        from vllm import LLM
        from vllm.model_executor.layers import utils

        packing = utils.dispatch_cpu_unquantized_gemm
        if not subject.is_gpu:
            utils.dispatch_cpu_unquantized_gemm = _leave_as_they_are
        try:
            llm = LLM(
                model=folder,
                skip_tokenizer_init=True,
                dtype=dtype_name(subject.dtype),
                max_model_len=_CONTEXT,
                enforce_eager=True,
                enable_prefix_caching=True,
                generation_config="vllm",
                logprobs_mode="raw_logprobs",
                hf_overrides={"head_dtype": "float32"},
                **(
                    {"enable_sleep_mode": True, "gpu_memory_utilization": 0.3}
                    if subject.is_gpu
                    else {"enable_chunked_prefill": False}
                ),
            )
            yield VLLMSampler(llm)
            del llm
            gc.collect()
        finally:
            utils.dispatch_cpu_unquantized_gemm = packing


def _leave_as_they_are(layer: torch.nn.Module, remove_weight: bool) -> None:
    layer.cpu_linear = torch.nn.functional.linear


def check_vllm(subject: Subject) -> dict[str, Finding]:
    """All of it, with one engine."""
    if find_spec("vllm") is None:
        wanted = subject.recipe is not None and getattr(subject.recipe.config, "use_vllm", False)
        found = Finding("failed", "not installed", "use_vllm", "pip install 'real_trl[vllm]', or use_vllm: false")
        return {"vLLM": found if wanted else skipped("not installed")}
    if not subject.is_gpu and subject.head_dim % 32:
        return {"vLLM": skipped(f"its build for processors has no attention for heads of {subject.head_dim}")}
    if subject.is_gpu:
        torch.cuda.empty_cache()
    with tempfile.TemporaryDirectory() as folder:
        model = subject.small_model(subject.dtype)
        model.save_pretrained(folder)
        old, new = Trainer(subject, model), Trainer(subject, subject.small_model(subject.dtype, seed=1))
        with _started(subject, folder) as sampler:
            findings = compare_distributions(subject, sampler, old) | compare_after_sync(subject, sampler, old, new)
            return findings | {"sleep and wake": _sleep_and_wake(subject, sampler, new)} | _other_weights(subject)


def _other_weights(subject: Subject) -> dict[str, Finding]:
    """Ways of sending weights that the recipe has and that nothing of this group goes."""
    model = None if subject.recipe is None else subject.recipe.model
    asked = {"LoRA": model is not None and model.use_peft, "4 bits": model is not None and model.load_in_4bit}
    return {f"sync with {name}": skipped(_NOT_EXAMINED) for name, has in asked.items() if has}
