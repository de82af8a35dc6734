# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Small real tokenizers, trained in code, one for each way in which judges' tokenizers treat a score.

| name     | stands for       | how "So the overall score is 10" ends                        |
|----------|------------------|--------------------------------------------------------------|
| `smollm` | SmolLM2          | `Ġis Ġ 1 0`: byte-level BPE, every digit apart               |
| `qwen`   | Qwen             | the same through Qwen's own pattern                          |
| `mistral`| Mistral, Llama-2 | `▁is ▁ 1 0`: leading dummy `▁`, byte fallback, digits apart  |
| `llama3` | Llama-3          | `Ġis Ġ 10`: up to three digits in one token                  |
| `gpt2`   | GPT-2            | `Ġis Ġ10`: the space belongs to the number                   |
| `words`  | a toy judge      | `is 10`: whole words, joined with spaces when decoded        |
"""

import json
from collections.abc import Callable
from functools import cache

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

_SENTENCES = (
    "The response answers the question in full and gives its reasons.",
    "It misses one point of the rubric, so the highest score is not deserved.",
    "The feedback is clear, concrete and polite. The tone fits the task.",
    "Overall the text is good, but two claims are wrong and one is missing.",
    "So the overall score is high, low or absolutely average.",
    "A is better than B, B than C, C than D and D than E: grade A, grade B, grade C, grade D, grade E.",
    "It earns 4 out of 5 points, or 4/5. [RESULT] 4",
)
_CORPUS = [
    *_SENTENCES * 20,
    *(f"It is good. So the overall score is {grade}" for grade in "ABCDE" for _ in range(20)),
    *(f"So the overall score is {number}" for number in range(101) for _ in range(20)),
]
_DIGITS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())


def _wrap(tokenizer: Tokenizer, **special_tokens: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special_tokens)


def _byte_level(pre_tokenizer: pre_tokenizers.PreTokenizer) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=800, special_tokens=["<|end|>", "<|pad|>"], initial_alphabet=_BYTES, show_progress=False
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return _wrap(tokenizer, eos_token="<|end|>", pad_token="<|pad|>")


@cache
def smollm() -> PreTrainedTokenizerFast:
    """Byte-level BPE, digits split off before the byte-level pattern: `"Ġ", "5"`."""
    digits = pre_tokenizers.Digits(individual_digits=True)
    return _byte_level(pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]))


def _tiktoken_like(numbers: str) -> PreTrainedTokenizerFast:
    split = pre_tokenizers.Split(Regex(_DIGITS % numbers), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return _byte_level(pre_tokenizers.Sequence([split, byte_level]))


@cache
def qwen() -> PreTrainedTokenizerFast:
    r"""Byte-level BPE with single digits by pattern (`\p{N}`): `"Ġ", "5"`, and `"ĠA"` for letters."""
    return _tiktoken_like(r"\p{N}")


@cache
def llama3() -> PreTrainedTokenizerFast:
    r"""Byte-level BPE with up to three digits in a token (`\p{N}{1,3}`): `"Ġ", "10"`. Has a start token."""
    tokenizer = _tiktoken_like(r"\p{N}{1,3}")
    tokenizer.add_special_tokens({"bos_token": "<|begin|>"})
    template = processors.TemplateProcessing(
        single="<|begin|> $A", pair="<|begin|> $A $B", special_tokens=[("<|begin|>", tokenizer.bos_token_id)]
    )
    tokenizer.backend_tokenizer.post_processor = template
    return tokenizer


@cache
def gpt2() -> PreTrainedTokenizerFast:
    """Byte-level BPE that joins the space to the number: `"Ġ5"`."""
    return _byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))


@cache
def mistral() -> PreTrainedTokenizerFast:
    """SentencePiece-like BPE over the whole text: dummy `"▁"` in front, byte fallback, single digits."""
    normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizer
    # SentencePiece learns no merge across words or into digits; the finished tokenizer needs no pre-tokenizer then.
    words = pre_tokenizers.Split("▁", behavior="merged_with_next")
    trained.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.Digits(individual_digits=True)])
    trained.train_from_iterator(_CORPUS, trainers.BpeTrainer(vocab_size=500, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *model["vocab"]]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    merges = [tuple(merge) for merge in model["merges"]]

    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocab["<s>"])])
    return _wrap(tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<unk>")


@cache
def words() -> PreTrainedTokenizerFast:
    """Whole words and punctuation marks, unknown ones as `"<unk>"`; decoding joins them with spaces."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=["<unk>", "<eos>", "<pad>"], show_progress=False)
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return _wrap(tokenizer, unk_token="<unk>", eos_token="<eos>", pad_token="<pad>")


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    builder.__name__: builder for builder in (smollm, qwen, mistral, llama3, gpt2, words)
}
"""Every tokenizer of the zoo by name. Each is built once; treat it as read-only."""

SUBWORD = tuple(name for name in TOKENIZERS if name != "words")
"""The ones that can write any text, and the same text in several ways."""


def encode(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """The ids of `text` as a completion would hold them: no special tokens."""
    return tokenizer.encode(text, add_special_tokens=False)


def spell(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """The ids of the ASCII `text` with a token for every character, as no tokenizer would encode it by itself."""
    space = "▁" if "▁" in tokenizer.get_vocab() else "Ġ"
    ids = tokenizer.convert_tokens_to_ids([space if character == " " else character for character in text])
    assert None not in ids and (tokenizer.unk_token_id is None or tokenizer.unk_token_id not in ids)
    return ids
