# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The embedded default: grading arithmetic homework, with exact scores and a tiny judge that learns it in minutes.

A prompt holds a homework sheet of three or four lines and a rubric; the rationale checks the sheet line by line:

```text
Grade this homework from 1 to 5.
Rubric: a close line costs half a point.
1) 3+4 = 8
2) 2-5 = 3
3) 4-4 = 0
Feedback: 1) 3+4 is 7, 8 is close. 2) 2-5 is -3, 3 is wrong. 3) 4-4 is 0, 0 is right. So the overall score is 4
```

A sheet starts with 5 points. A wrong line costs one point; a close one (off by one) costs one point or half a point, as the
rubric says; the score never falls below 1. The sheet above is worth 3.5.

Two properties make the task a test bench for judges, and both are controlled here:

- *Rater noise.* Training labels are whole numbers: the exact score is rounded up or down at random, and then is off by one
  with probability `rater_noise`. The best judge is therefore uncertain, and the mean of its score distribution (RAIL)
  differs from the score it would decode. Test labels are exact and may be halves.
- *A careless teacher.* The rationales of the training splits drop the minus sign of results below zero (`2-5 is 3`) with
  probability `teacher_flaw`, while the labels are right. Imitation copies that habit; a reward on the score can undo it.

With `score_range="0-100"` the same sheets are graded on a scale whose labels are several tokens long: 1 becomes 0, 5
becomes 100, a point 25 points, and the noise grows with it.

The out-of-domain split has rubrics and operations in combinations that training never shows (the lenient rubric on
differences, sums and differences on one sheet) and more results below zero.
"""

import random
import zlib

import torch
from datasets import Dataset
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from real_trl.data.homework_sheets import (
    LENGTHS,
    OPERANDS,
    RUBRICS,
    SPLITS,
    TEST_SPLITS,
    ScoreRange,
    Split,
    exact_score,
    noisy_label,
    rationale,
    sheet,
)

SCORE_LABELS = ("1", "2", "3", "4", "5")
MARKER = "So the overall score is "

INSTRUCTION = "Grade this homework from 1 to 5."
_INSTRUCTIONS: dict[ScoreRange, str] = {"1-5": INSTRUCTION, "0-100": "Grade this homework from 0 to 100."}
MAX_PROMPT_TOKENS = 42
MAX_COMPLETION_TOKENS = 43  # with the end of the sequence; two more on 0-100
_PUNCTUATION = ".,:"


def make_dataset(
    split: Split,
    size: int,
    seed: int = 0,
    rater_noise: float = 0.2,
    teacher_flaw: float = 0.65,
    score_range: ScoreRange = "1-5",
) -> Dataset:
    """Generates `size` graded homework sheets.

    The same arguments give the same rows. A prompt belongs to one split only, whatever the sizes and seeds, and occurs once
    in a dataset.

    Args:
        split (`str`):
            `"base"`, `"sft"` and `"rl"` for training (noisy whole labels), `"id"` and `"ood"` for tests (exact labels).
        rater_noise (`float`, *optional*, defaults to `0.2`):
            Probability that a training label is off by one point (25 of 100). Not used for the test splits.
        teacher_flaw (`float`, *optional*, defaults to `0.65`):
            Probability that a training rationale drops the minus sign of a negative result. Not used for the test splits.
        score_range (`str`, *optional*, defaults to `"1-5"`):
            `"1-5"` or `"0-100"`. The sheets and the rationales are the same, the instruction and the scores are not.

    Returns:
        [`~datasets.Dataset`] with the columns `prompt`, `score` and `feedback`, the same content under the names of
        Feedback-Collection (`orig_instruction`, `orig_response`, `orig_criteria`, `orig_reference_answer`, `orig_feedback`,
        `orig_score`), and `exact_score`, `rubric` and `operation`.

    Raises:
        `ValueError`: if `split`, `size` or a probability is out of range.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is unknown; use one of {', '.join(SPLITS)}.")
    if size < 1:
        raise ValueError(f"size={size} must be at least 1.")
    _check_score_range(score_range)
    for name, value in (("rater_noise", rater_noise), ("teacher_flaw", teacher_flaw)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name}={value} is a probability; use a number from 0 to 1.")
    rng = random.Random(f"{split}-{seed}")
    test, instruction = split in TEST_SPLITS, _INSTRUCTIONS[score_range]
    rows: dict[str, dict] = {}
    while len(rows) < size:
        rubric, operation, lines = sheet(split, rng)
        response = "\n".join(f"{i}) {line.expression} = {line.claim}" for i, line in enumerate(lines, 1))
        prompt = f"{INSTRUCTION}\n{RUBRICS[rubric]}\n{response}\nFeedback:"
        # The checksum assigns every possible prompt to one split, so that no test prompt can be met in training. It is
        # that of the 1-5 scale on every scale, which makes the sheets the same.
        if zlib.crc32(prompt.encode()) % len(SPLITS) != SPLITS.index(split) or prompt in rows:
            continue
        exact = exact_score(lines, rubric)
        if score_range == "0-100":
            exact = 25 * (exact - 1)
        score = exact if test else noisy_label(exact, rater_noise, score_range, rng)
        feedback = rationale(lines, 0.0 if test else teacher_flaw, rng)
        rows[prompt] = {
            "prompt": prompt.replace(INSTRUCTION, instruction, 1),
            "score": score,
            "feedback": feedback,
            "orig_instruction": instruction,
            "orig_response": response,
            "orig_criteria": RUBRICS[rubric],
            "orig_reference_answer": "\n".join(
                f"{i}) {line.expression} = {line.result}" for i, line in enumerate(lines, 1)
            ),
            "orig_feedback": feedback,
            "orig_score": score,
            "exact_score": exact,
            "rubric": rubric,
            "operation": operation,
        }
    return Dataset.from_list(list(rows.values()))


def _check_score_range(score_range: str) -> None:
    if score_range not in _INSTRUCTIONS:
        raise ValueError(f"score_range={score_range!r} is unknown; use one of {', '.join(_INSTRUCTIONS)}.")


def build_tokenizer(score_range: ScoreRange = "1-5") -> PreTrainedTokenizerFast:
    """Builds the word-level tokenizer of the task.

    A word, a number, an expression such as `2-5`, a punctuation mark and a line break are one token each, and decoding gives
    the text back as it was written.

    Args:
        score_range (`str`, *optional*, defaults to `"1-5"`):
            Scale of the task. For `"0-100"` the score is written digit by digit: `100` after the marker is three tokens.
    """
    _check_score_range(score_range)
    specials = ["<pad>", "<eos>", "<unk>"]
    texts = [_INSTRUCTIONS[score_range], *RUBRICS.values(), "Feedback", MARKER, "is right close wrong ="]
    words = {word for text in texts for word in text.replace(".", " ").replace(",", " ").replace(":", " ").split()}
    numbers = [str(n) for n in range(-7, 14)]
    expressions = [f"{a}{op}{b}" for op in "+-" for a in OPERANDS for b in OPERANDS]
    counters = [f"{n})" for n in range(1, max(LENGTHS) + 1)]
    vocabulary = [*specials, *_PUNCTUATION, "\n", *counters, *numbers, *expressions]
    vocabulary += sorted(words - set(vocabulary))
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    cut, join = [], []
    if score_range == "0-100":
        # After the marker, "100" is read as "1", "0", "0", and "1 0 0" is put together again. Look-behinds are of fixed
        # length, hence one for each number of digits.
        before = "|".join(MARKER + r"\d" * count for count in range(4))
        cut = [pre_tokenizers.Split(Regex(rf"(?<={before})\d"), "isolated")]
        before = "|".join(MARKER + r"\d" + r" \d" * count for count in range(3))
        join = [decoders.Replace(Regex(rf"(?<={before}) (?=\d)"), "")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *cut,
            pre_tokenizers.Split(" ", "removed"),
            pre_tokenizers.Split(Regex(rf"[{_PUNCTUATION}\n]"), "isolated"),
        ]
    )
    # The first step joins the words with spaces, the others take away the spaces that the text did not have.
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=False),
            decoders.Fuse(),
            *(decoders.Replace(f" {mark}", mark) for mark in _PUNCTUATION),
            decoders.Replace(" \n", "\n"),
            decoders.Replace("\n ", "\n"),
            *join,
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=128,
    )


def build_model(
    seed: int = 0,
    hidden_size: int = 128,
    num_layers: int = 2,
    num_heads: int = 4,
    score_range: ScoreRange = "1-5",
) -> LlamaForCausalLM:
    """Builds the untrained judge, a Llama of a third of a million parameters in float32.

    Args:
        seed (`int`, *optional*, defaults to `0`):
            Seed of the initial weights. The random state of the caller is left alone.
        score_range (`str`, *optional*, defaults to `"1-5"`):
            Scale of the task, which decides the vocabulary.
    """
    tokenizer = build_tokenizer(score_range)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=num_heads,
        max_position_embeddings=256,
        initializer_range=0.05,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)
