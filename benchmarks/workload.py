# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Models, prompts and completions that updates and generation are timed on: no weights and no data are needed."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from itertools import cycle, islice
from typing import Any, TypeVar

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen3Config,
)
from trl.trainer import utils as trl_utils

from real_trl.score_space import ScoreSpace

_Trainer = TypeVar("_Trainer")

_PROMPT_SPREAD = 0.2
_WORDS = 4096  # different tokens of random text, at most

_QWEN3 = {
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": True,
}
# The published configurations of SmolLM2-135M and Qwen3, and one for tests
SHAPES: dict[str, tuple[type[PreTrainedConfig], dict[str, int | bool]]] = {
    "smollm2-135m": (
        LlamaConfig,
        {
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "vocab_size": 49152,
            "max_position_embeddings": 8192,
            "tie_word_embeddings": True,
        },
    ),
    "qwen3-0.6b": (Qwen3Config, {"hidden_size": 1024, "intermediate_size": 3072, **_QWEN3}),
    "qwen3-1.7b": (Qwen3Config, {"hidden_size": 2048, "intermediate_size": 6144, **_QWEN3}),
    "tiny": (
        LlamaConfig,
        {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 128,
            "max_position_embeddings": 512,
            "tie_word_embeddings": True,
        },
    ),
}


def build_model(
    shape: str, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype, device: torch.device, layers: int | None = None
) -> PreTrainedModel:
    """
    A causal LM with random weights.

    Args:
        shape (`str`):
            One of [`SHAPES`].
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Its special tokens become the model's.
        dtype (`torch.dtype`), device (`torch.device`):
            Of the weights.
        layers (`int`, *optional*):
            Instead of the shape's own number.
    """
    config_class, values = SHAPES[shape]
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    config = config_class(**{**values, **special, **({"num_hidden_layers": layers} if layers else {})})
    torch.manual_seed(0)
    with device:
        return AutoModelForCausalLM.from_config(config, dtype=dtype)


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace, *counts: str) -> None:
    """Refuse options of a model that contradict each other, a GPU that is not there, and `counts` below 1."""
    if args.model and (args.shape or args.layers):
        parser.error("--shape and --layers are for random weights: leave them out, or leave out --model")
    if args.data and not args.model:
        parser.error("--data needs --model: the tokenizer of random weights knows no English")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch sees no GPU here")
    for name in counts:
        if getattr(args, name) < 1:
            parser.error(f"--{name} {getattr(args, name)}: must be at least 1")


def build_tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """A token for each of `vocab_size` words, those of the default marker and the labels 1-5 among them."""
    known = ["<pad>", "<eos>", "<unk>", *["So", "the", "overall", "score", "is"], *"12345"]
    words = [*known, *(f"w{i}" for i in range(vocab_size - len(known)))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)  # joins words with spaces
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )


@dataclass(frozen=True)
class Workload:
    """
    Prompts, and completions with a score, of one optimizer step.

    Attributes:
        prompts (`list[str]`):
            One for each group.
        prompt_ids (`list[list[int]]`):
            Their tokens.
        completion_ids (`list[list[list[int]]]`):
            Tokens of each group's `K` completions: random text, the marker, a label, EOS.
        read_lengths (`list[list[int]]`):
            How many of them precede the score.
    """

    prompts: list[str]
    prompt_ids: list[list[int]]
    completion_ids: list[list[list[int]]]
    read_lengths: list[list[int]]

    @property
    def prompt_lengths(self) -> list[int]:
        """Tokens of each prompt."""
        return [len(ids) for ids in self.prompt_ids]

    @property
    def completion_lengths(self) -> list[list[int]]:
        """Tokens of each group's completions."""
        return [[len(ids) for ids in group] for group in self.completion_ids]

    @property
    def num_generations(self) -> int:
        """K."""
        return len(self.completion_ids[0])

    @property
    def completion_tokens(self) -> int:
        """Tokens of all completions."""
        return sum(map(sum, self.completion_lengths))

    @property
    def sequence_tokens(self) -> int:
        """Tokens of all completions, each with its own copy of the prompt."""
        return self.completion_tokens + self.num_generations * sum(self.prompt_lengths)


def build_workload(
    space: ScoreSpace,
    prompt_tokens: int,
    completion_tokens: int,
    num_generations: int,
    groups: int = 1,
    texts: Sequence[str] | None = None,
) -> Workload:
    """
    The same workload for the same arguments.

    Args:
        space ([`~real_trl.score_space.ScoreSpace`]):
            Labels and marker of the completions, and the tokenizer.
        prompt_tokens (`int`):
            Mean length of the prompts; over several groups they spread evenly by ± 20 %.
        completion_tokens (`int`):
            Length of the longest completion; the others have at least half of it.
        num_generations (`int`):
            K.
        groups (`int`, *optional*, defaults to `1`):
            Prompts.
        texts (`Sequence[str]`, *optional*):
            Text that prompts are cut from, or put together where it is too short. Default: random words. A tokenizer
            that does not split text as it was joined gives prompts of nearly, not exactly, the length.

    Raises:
        ValueError: if the shortest completion does not hold the marker and a score.
    """
    tokenizer, generator = space.tokenizer, torch.Generator().manual_seed(0)
    closings = [[*space.marker_ids, *label, tokenizer.eos_token_id] for label in space.token_ids]
    shortest, needed = completion_tokens // 2, max(map(len, closings))
    if shortest < needed:
        raise ValueError(
            f"completion_tokens: got {completion_tokens}, whose half must hold the marker, a score and EOS ({needed} tokens). "
            f"Set it to {2 * needed} or more."
        )
    words = _word_tokens(tokenizer, generator)

    def random_tokens(count: int) -> list[int]:
        return words[torch.randint(len(words), (count,), generator=generator)].tolist()

    spread = torch.linspace(-_PROMPT_SPREAD, _PROMPT_SPREAD, groups) if groups > 1 else torch.zeros(1)
    lengths = [round(prompt_tokens * (1 + share)) for share in spread.tolist()]
    if texts is None:
        prompts = [_cut(tokenizer, [tokenizer.decode(random_tokens(2 * length))], length) for length in lengths]
    else:
        prompts = [_cut(tokenizer, [*texts[i:], *texts[:i]], length) for i, length in enumerate(lengths)]
    completion_ids = []
    for _ in range(groups):
        sizes = torch.randint(shortest, completion_tokens + 1, (num_generations,), generator=generator).tolist()
        sizes[0] = completion_tokens
        endings = islice(cycle(closings), num_generations)
        completion_ids.append([random_tokens(n - len(end)) + end for n, end in zip(sizes, endings, strict=True)])
    locations = [[space.locate(ids) for ids in group] for group in completion_ids]
    if not all(location.ok for group in locations for location in group):
        raise ValueError("the score of a random completion is not found with this tokenizer. Use another --model.")
    read_lengths = [[location.position for location in group] for group in locations]
    return Workload(prompts, tokenizer(text=prompts)["input_ids"], completion_ids, read_lengths)


def _word_tokens(tokenizer: PreTrainedTokenizerBase, generator: torch.Generator) -> torch.Tensor:
    """Tokens that are a word, or the beginning of one."""
    special = set(tokenizer.all_special_ids)
    order = torch.randperm(len(tokenizer), generator=generator)[: 4 * _WORDS].tolist()
    texts = ((token, tokenizer.decode([token]).strip()) for token in order if token not in special)
    words = [token for token, text in texts if text.isascii() and text.isalnum() and not text.isdigit()]
    return torch.tensor(words[:_WORDS])


def _cut(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int) -> str:
    """The last `length` tokens of as many of `texts`, again and again, as are needed."""
    ids: list[int] = []
    for text in cycle(texts):
        ids += tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) >= length:
            return tokenizer.decode(ids[-length:])
    raise ValueError("there is no text to make prompts of")


def in_own_dtype(model: PreTrainedModel, build: Callable[[], _Trainer]) -> _Trainer:
    """
    A trainer of `model` in the type of its weights, to be timed. Trainers refuse those in half precision, in which nothing of what is
    learned would be kept.
    """
    dtype = model.dtype
    model.float()
    trainer = build()
    model.to(dtype)
    return trainer


def read_labelled_rows_only(model: PreTrainedModel) -> None:
    """Make TRL's LM head choose its rows as it does where Triton runs; what is done with them stays as it is here."""
    forward = model.forward

    @wraps(forward)  # `generate` validates its arguments against the signature
    def with_labelled_rows(*args: Any, **kwargs: Any) -> Any:
        own, trl_utils._use_triton = trl_utils._use_triton, lambda device: True
        try:
            return forward(*args, **kwargs)
        finally:
            trl_utils._use_triton = own

    model.forward = with_labelled_rows
