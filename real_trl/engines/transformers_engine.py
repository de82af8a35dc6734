# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Judging with Transformers in one pass: the rationale and the score distribution come from the same generation. At every
step the log-probabilities of the labels' first tokens are recorded, a few numbers a completion. What is then still missing
(later tokens of labels that have several, the marker of a malformed completion) is read with one short forward on the KV
cache of the generation, so that no sequence is read twice. Completions of the same prompt share its part of that cache.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from trl.trainer.utils import pad

from real_trl.engines.base import Decoding, Judgment
from real_trl.engines.prompt_encoder import PromptEncoder
from real_trl.forward.generation import FinishedRows, generate_groups, prefix_attention_installed
from real_trl.forward.logits import float32_logits
from real_trl.forward.packing import batches_that_share
from real_trl.forward.prefill import read_prefill
from real_trl.forward.support import can_read_from_cache
from real_trl.forward.tree_after_generation import (
    ScorePlace,
    read_by_forward,
    read_from_cache,
    read_from_rows,
)
from real_trl.prompts.completion_parts import spoken
from real_trl.prompts.context_length import context_length
from real_trl.score_space import ScoreSpace
from real_trl.text.tokens import decoded
from real_trl.weights.finite import check_finite
from real_trl.weights.pretrained import distributed_state, eos_ids

logger = logging.getLogger(__name__)
T = TypeVar("T")

_BROKEN = "the model's logits are no distribution (NaN or infinite)"


class _Recorder(LogitsProcessor):
    """
    Records the log-probabilities of `token_ids` at `temperature`, before any top-p or top-k truncation, and the entropy
    of the whole distribution. A row whose logits are no distribution (NaN, infinite) ends, with `stop_id`: nothing can be drawn
    from it, and the others of its batch are not to blame.
    """

    def __init__(self, num_rows: int, token_ids: list[int], temperature: float, stop_id: int) -> None:
        self.token_ids, self.temperature, self.stop_id = token_ids, temperature, stop_id
        self._rows, self._left = num_rows, list(range(num_rows))
        self._steps: list[tuple[list[int], Tensor, Tensor, Tensor]] = []

    def keep_rows(self, rows: Sequence[int]) -> None:
        """From now on, only these of the rows are generated; see [`~real_trl.forward.generation.FollowsRows`]."""
        self._left = [self._left[row] for row in rows]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        logits = scores.float() / self.temperature
        normalizer = logits.logsumexp(-1, keepdim=True)
        log_probs = logits - normalizer
        broken = ~normalizer.isfinite()
        entropy = -(log_probs.exp() * log_probs).sum(-1)
        self._steps.append((self._left, log_probs[:, self.token_ids], entropy, broken.squeeze(1)))
        stop = torch.arange(scores.size(1), device=scores.device) == self.stop_id
        return torch.where(broken, torch.where(stop, 0.0, -torch.inf).to(scores.dtype), scores)

    def recorded(self) -> tuple[Tensor, Tensor, list[bool]]:
        """
        Log-probabilities `(N, steps, len(token_ids))` in double precision, in which the tree subtracts them and which not every
        accelerator has, and entropies `(N, steps)`, both on the CPU; NaN where a row had ended. And which of the `N` rows ended
        because their logits were no distribution.
        """
        shape = self._rows, len(self._steps), len(self.token_ids)
        log_probs, entropies = torch.full(shape, torch.nan, dtype=torch.float64), torch.full(shape[:2], torch.nan)
        broken = torch.zeros(self._rows, dtype=torch.bool)
        for step, (rows, *values) in enumerate(self._steps):
            log_probs[rows, step], entropies[rows, step] = values[0].cpu().double(), values[1].cpu()
            broken[rows] |= values[2].cpu()
        return log_probs, entropies, broken.tolist()


@contextmanager
def _no_decoding_defaults(model: PreTrainedModel) -> Iterator[None]:
    """
    `generate` fills whatever a generation config leaves open from the model's own, such as an instruction-tuned
    model's repetition penalty. That would change the CoT's policy and the recorded score distribution, so it is put
    aside meanwhile.
    """
    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


def _first_size(device: torch.device) -> int:
    """The batch size that is tried first, where it is to be found."""
    return 8 if device.type == "cpu" else 64


def _random_state() -> tuple[Tensor, list[Tensor]]:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


def _set_random_state(state: tuple[Tensor, list[Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])


class TransformersEngine:
    """
    Generates judgments with a Transformers model.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Causal LM, on the device where it is to run. In half precision, its logits are computed in float32.
        batch_size (`int` or `"auto"`, *optional*, defaults to `8`):
            Prompts per generation batch. `"auto"`: on a GPU at first 64, and half as many each time that the memory does not do, which holds
            from then on; on a CPU, whose memory is not refused in time, 8. A judgment is the same in any batch, up to rounding; what is
            sampled depends on the batch as it does on the seed.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        score_space: ScoreSpace,
        decoding: Decoding | None = None,
        *,
        batch_size: int | str = 8,
    ) -> None:
        decoding = decoding or Decoding()
        self.model, self.tokenizer, self.score_space = model.eval(), tokenizer, score_space
        self.decoding, self._finds_size = decoding, isinstance(batch_size, str)
        self.batch_size: int = _first_size(model.device) if isinstance(batch_size, str) else batch_size
        self.stop_ids = eos_ids(tokenizer, model.generation_config) or eos_ids(tokenizer, model.config)
        if not self.stop_ids:
            raise ValueError(
                "eos_token: neither the tokenizer nor the model says which token ends a completion. Set the tokenizer's eos_token."
            )
        self.pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.stop_ids[0]
        self.encode = PromptEncoder(tokenizer, score_space, decoding, context_length(model.config))
        self.context_length = self.encode.context_length
        self.generation_config = GenerationConfig(
            max_new_tokens=decoding.max_new_tokens,
            do_sample=decoding.do_sample,
            temperature=decoding.temperature if decoding.do_sample else None,
            top_p=decoding.top_p if decoding.do_sample else None,
            top_k=0 if decoding.do_sample else None,
            pad_token_id=self.pad_id,
            eos_token_id=self.stop_ids,
            return_dict_in_generate=True,
        )
        self._root_edges = [index for index, (node, _) in enumerate(score_space.tree.edges) if node == 0]
        self._warned = False

    @classmethod
    def from_source(cls, source: Any, asked: Any, decoding: Decoding, **options: Any) -> "TransformersEngine":
        """Options are those of `from_pretrained`; see [`~real_trl.engines.Engine`]."""
        safe = {} if "gguf_file" in options else {"use_safetensors": True}
        if asked.device is not None:
            options["device_map"] = asked.device
        model = source.load_weights(dtype=asked.dtype, **{**safe, **options})
        if not getattr(model, "is_quantized", False) and "device_map" not in options:  # else placed as it loads
            model = model.to(distributed_state().device)
        engine = cls(model, source.tokenizer, source.space, decoding, batch_size=asked.batch_size)
        check_finite(engine.model, source.name)
        return engine

    def check(self, prompts: Sequence[str]) -> None:
        """`ValueError` if one of `prompts` is too long for the model."""
        self.encode(prompts)

    def judge(self, prompts: Sequence[str], seed: int | None = None) -> Iterator[tuple[int, Judgment]]:
        """See [`~real_trl.engines.Engine`]: in batches of similar length, the longest first. `seed` is set with `torch.manual_seed`."""
        if not self.decoding.rationale:
            yield from self.read(prompts)
            return
        prompt_ids = self.encode(prompts)
        if seed is not None:
            torch.manual_seed(seed)
        for batch in self.batches(prompt_ids):
            for part, judgments in self._as_fits(batch, lambda part: self._judge_batch([prompt_ids[i] for i in part])):
                yield from zip(part, judgments, strict=True)

    def _as_fits(self, batch: list[int], run: Callable[[list[int]], T]) -> Iterator[tuple[list[int], T]]:
        """What `run` makes of a batch, or of parts of it that fit the memory, if the batch size is to be found."""
        while batch:
            part = batch[: self.batch_size] if self._finds_size else batch
            drawn = _random_state() if self._finds_size else None
            try:
                with float32_logits(self.model):
                    made = run(part)
            except RuntimeError as error:
                if drawn is None or len(part) == 1 or not should_reduce_batch_size(error):
                    raise
            else:
                yield part, made
                batch = batch[len(part) :]
                continue
            # Without the error, whose frames hold what is to be freed
            self.batch_size = len(part) // 2
            clear_device_cache(garbage_collection=True)
            _set_random_state(drawn)
            logger.warning("batch_size: %d do not fit the memory; going on with %d.", len(part), self.batch_size)

    def read(self, prompts: Sequence[str], rationales: Sequence[str] | None = None) -> Iterator[tuple[int, Judgment]]:
        """See [`~real_trl.engines.Engine`]: prompts that begin alike are read together, and that beginning once in a batch."""
        parts = self.encode.with_openings(prompts, rationales)
        texts = [prompt_ids + opening for prompt_ids, opening in parts]
        order = sorted(range(len(texts)), key=texts.__getitem__)
        for places in batches_that_share([texts[i] for i in order], self.batch_size):
            whole = [order[place] for place in places]
            for i, row in self._prefilled_rows(whole, texts):
                yield (
                    i,
                    Judgment.read(
                        row,
                        self.score_space,
                        normalize=self.decoding.normalize_expectation,
                        prompt_tokens=len(parts[i][0]),
                        rationale=rationales[i] if rationales else "",
                        fault=_BROKEN if row.isnan().any() else None,
                    ),
                )

    def _prefilled_rows(self, batch: list[int], texts: Sequence[list[int]]) -> Iterator[tuple[int, Tensor]]:
        for part, scores in self._as_fits(batch, lambda part: self._prefilled([texts[i] for i in part])):
            yield from zip(part, scores, strict=True)

    def _prefilled(self, texts: list[list[int]]) -> Tensor:
        """Log-probabilities `(n, L)` of the labels behind each text."""
        tree = self.score_space.tree
        log_probs = read_prefill(self.model, tree, texts, self.decoding.temperature, self.pad_id)
        return tree.label_log_probs(*log_probs.split(tree.num_log_probs, dim=1))

    def batches(self, prompt_ids: Sequence[list[int]]) -> list[list[int]]:
        """
        Indices into `prompt_ids` of what is generated together: prompts of similar length, and the samples of a prompt beside
        each other, which then share it.
        """
        order = sorted(range(len(prompt_ids)), key=lambda i: (-len(prompt_ids[i]), prompt_ids[i]))
        return [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]

    @torch.no_grad()
    def _judge_batch(self, prompt_ids: list[list[int]]) -> list[Judgment]:
        space = self.score_space
        root_tokens = [space.tree.edges[index][1] for index in self._root_edges]
        recorder = _Recorder(len(prompt_ids), root_tokens, self.decoding.temperature, self.stop_ids[0])
        with _no_decoding_defaults(self.model):
            output = generate_groups(
                self.model, prompt_ids, self.generation_config, self.pad_id, LogitsProcessorList([recorder])
            )
        sequences = output.sequences[:, max(map(len, prompt_ids)) :].tolist()
        completions = [self._until_stop(ids) for ids in sequences]
        opened = [space.opened_by(ids) for ids in prompt_ids]
        found = [space.place(ids, self.stop_ids, tags) for ids, tags in zip(completions, opened, strict=True)]

        recorded, entropies, broken = recorder.recorded()  # (N, steps, edges of the root), (N, steps)
        sizes = space.tree.num_log_probs
        log_probs = recorded.new_full((len(completions), sum(sizes)), torch.nan)
        places, of_tight, tight = [], [], space
        for row, (ids, (written_in, location)) in enumerate(zip(completions, found, strict=True)):
            if not location.ok and self.decoding.malformed == "drop":
                continue
            if written_in is not space:
                of_tight.append(ScorePlace(row, ids[: location.position], forced=[]))
                tight = written_in
            elif location.position is not None and location.status != "outside":
                log_probs[row, self._root_edges] = recorded[row, location.position]
                if space.tree.context_tokens:
                    places.append(ScorePlace(row, ids[: location.position], forced=[]))
            else:
                forced = space.forced_ids(ids, location, opened[row])
                places.append(ScorePlace(row, self._without_stop(ids), forced))
        if places:
            read = self._read(output.past_key_values, prompt_ids, places)
            rows = [place.row for place in places]
            log_probs[rows] = torch.where(read.isnan(), log_probs[rows], read)
        score_log_probs = space.tree.label_log_probs(*log_probs.split(sizes, dim=1))
        if of_tight:  # in tokens that were not recorded
            tree = tight.tree
            read = read_by_forward(self.model, tree, prompt_ids, of_tight, self.decoding.temperature, self.pad_id)
            rows = [place.row for place in of_tight]
            score_log_probs[rows] = tree.label_log_probs(*read.split(tree.num_log_probs, dim=1))
        return [
            Judgment.from_distribution(
                decoded(self.tokenizer, ids, skip_special_tokens=True),
                location,
                score_log_probs[row] if location.ok or self.decoding.malformed == "force" else None,
                space,
                normalize=self.decoding.normalize_expectation,
                prompt_tokens=len(prompt_ids[row]),
                num_tokens=len(ids),
                entropy=entropies[row, : len(ids)].mean().item(),
                said=spoken(space, ids, opened[row]),
                fault=_BROKEN if broken[row] else None,
            )
            for row, (ids, (_, location)) in enumerate(zip(completions, found, strict=True))
        ]

    def _read(self, cache: Any, prompt_ids: list[list[int]], places: list[ScorePlace]) -> Tensor:
        """Log-probabilities `(n, E + R)` of the tree at `places`; NaN where those recorded while generating are to be used."""
        tree, temperature = self.score_space.tree, self.decoding.temperature
        if isinstance(cache, FinishedRows):
            with prefix_attention_installed(self.model):
                return read_from_rows(self.model, tree, cache, places, temperature)
        if can_read_from_cache(self.model, cache):
            prompt_mask = pad([torch.ones(len(ids), dtype=torch.long) for ids in prompt_ids], 0, "left")
            return read_from_cache(self.model, tree, cache, prompt_mask.to(self.model.device), places, temperature)
        if not self._warned:
            logger.warning(
                "%s does not keep every token in its cache, or its attention takes no mask for each query: scores that are not "
                "found while generating are read by forwards over the whole sequence, which is slower.",
                type(self.model).__name__,
            )
            self._warned = True
        return read_by_forward(self.model, tree, prompt_ids, places, temperature, self.pad_id)

    def _until_stop(self, ids: list[int]) -> list[int]:
        stop = next((i for i, token in enumerate(ids) if token in self.stop_ids), len(ids))
        return ids[: stop + 1]

    def _without_stop(self, ids: list[int]) -> list[int]:
        return ids[:-1] if ids and ids[-1] in self.stop_ids else ids
