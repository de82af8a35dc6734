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

The out-of-domain split has rubrics and operations in combinations that training never shows (the lenient rubric on
differences, sums and differences on one sheet) and more results below zero.
"""

import random
import zlib
from dataclasses import dataclass
from typing import Literal

import torch
from datasets import Dataset
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

Split = Literal["base", "sft", "rl", "id", "ood"]
SPLITS: tuple[Split, ...] = ("base", "sft", "rl", "id", "ood")
TEST_SPLITS: tuple[Split, ...] = ("id", "ood")
SCORE_LABELS = ("1", "2", "3", "4", "5")
MARKER = "So the overall score is "

INSTRUCTION = "Grade this homework from 1 to 5."
RUBRICS = {
    "strict": "Rubric: a close line costs one point.",
    "lenient": "Rubric: a close line costs half a point.",
}
OPERANDS = range(1, 6)
LENGTHS = (3, 4)
MAX_PROMPT_TOKENS = 42
MAX_COMPLETION_TOKENS = 43  # with the end of the sequence
# The sheets that training knows. Differences count twice: they are what the teacher gets wrong.
_TRAINED = (("sums", "strict"), ("sums", "lenient"), ("differences", "strict"), ("differences", "strict"))
_PUNCTUATION = ".,:"


@dataclass(frozen=True)
class Line:
    """One line of a homework sheet: `a op b = claim`."""

    a: int
    op: str
    b: int
    claim: int

    @property
    def result(self) -> int:
        """What the line should say."""
        return self.a + self.b if self.op == "+" else self.a - self.b

    @property
    def expression(self) -> str:
        """The left-hand side, one word: `2-5`."""
        return f"{self.a}{self.op}{self.b}"


def verdict(result: int, claim: int) -> str:
    """Says how far `claim` is from `result`: `right`, `close` (off by one) or `wrong`."""
    return {0: "right", 1: "close"}.get(abs(result - claim), "wrong")


def exact_score(lines: list[Line], rubric: str) -> float:
    """Returns the exact score of a sheet on the 1-5 scale, in steps of one half."""
    cost = {"right": 0.0, "close": 0.5 if rubric == "lenient" else 1.0, "wrong": 1.0}
    return max(1.0, 5.0 - sum(cost[verdict(line.result, line.claim)] for line in lines))


def _noisy_label(score: float, rater_noise: float, rng: random.Random) -> float:
    """Rounds `score` at random (right on average), then moves it by one with probability `rater_noise`."""
    label = int(score) + (rng.random() < score % 1)
    if rng.random() < rater_noise:
        label += rng.choice((-1, 1))
    return float(min(5, max(1, label)))


def _line(op: str, negative_rate: float, quality: float, rng: random.Random) -> Line:
    """Draws one line; the pupil is right with probability `quality`."""
    a, b = rng.choice(OPERANDS), rng.choice(OPERANDS)
    if op == "-" and (a < b) != (rng.random() < negative_rate):
        a, b = b, a
    result = a + b if op == "+" else a - b
    if rng.random() < quality:
        return Line(a, op, b, result)
    slip = rng.random()
    if slip < 0.45:
        claim = result + rng.choice((-1, 1))
    elif slip < 0.8 and result < 0:
        claim = -result
    else:
        claim = result + rng.choice((-3, 3))
    return Line(a, op, b, claim)


def _rationale(lines: list[Line], flaw: float, rng: random.Random) -> str:
    """Checks a sheet line by line; a negative result loses its sign with probability `flaw`."""
    checks = []
    for number, line in enumerate(lines, 1):
        result = line.result
        if result < 0 and rng.random() < flaw:
            result = -result
        checks.append(f"{number}) {line.expression} is {result}, {line.claim} is {verdict(result, line.claim)}.")
    return " ".join(checks)


def _sheet(split: Split, rng: random.Random) -> tuple[str, str, list[Line]]:
    """Draws rubric, operation and lines of one sheet for `split`."""
    if split == "ood":
        operation = rng.choice(("differences", "mixed"))
        rubric = "lenient" if operation == "differences" else rng.choice(tuple(RUBRICS))
        negative_rate = 0.6
    else:
        operation, rubric = rng.choice(_TRAINED)
        negative_rate = 0.5
    quality = rng.uniform(0.2, 1.0)
    ops = {"sums": "+", "differences": "-", "mixed": "+-"}[operation] * (max(LENGTHS) + 1)
    # A mixed sheet alternates, so that it holds both operations, and begins with either.
    start = rng.randrange(2)
    length = rng.choice(LENGTHS)
    return rubric, operation, [_line(op, negative_rate, quality, rng) for op in ops[start : start + length]]


def make_dataset(
    split: Split, size: int, seed: int = 0, rater_noise: float = 0.2, teacher_flaw: float = 0.65
) -> Dataset:
    """Generates `size` graded homework sheets.

    The same arguments give the same rows. A prompt belongs to one split only, whatever the sizes and seeds, and occurs once
    in a dataset.

    Args:
        split (`str`):
            `"base"`, `"sft"` and `"rl"` for training (noisy whole labels), `"id"` and `"ood"` for tests (exact labels).
        size (`int`):
            Number of rows.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the generator.
        rater_noise (`float`, *optional*, defaults to `0.2`):
            Probability that a training label is off by one. Not used for the test splits.
        teacher_flaw (`float`, *optional*, defaults to `0.65`):
            Probability that a training rationale drops the minus sign of a negative result. Not used for the test splits.

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
    for name, value in (("rater_noise", rater_noise), ("teacher_flaw", teacher_flaw)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name}={value} is a probability; use a number from 0 to 1.")
    rng = random.Random(f"{split}-{seed}")
    test = split in TEST_SPLITS
    rows: dict[str, dict] = {}
    while len(rows) < size:
        rubric, operation, lines = _sheet(split, rng)
        response = "\n".join(f"{i}) {line.expression} = {line.claim}" for i, line in enumerate(lines, 1))
        prompt = f"{INSTRUCTION}\n{RUBRICS[rubric]}\n{response}\nFeedback:"
        # The checksum assigns every possible prompt to one split, so that no test prompt can be met in training.
        if zlib.crc32(prompt.encode()) % len(SPLITS) != SPLITS.index(split) or prompt in rows:
            continue
        exact = exact_score(lines, rubric)
        score = exact if test else _noisy_label(exact, rater_noise, rng)
        feedback = _rationale(lines, 0.0 if test else teacher_flaw, rng)
        rows[prompt] = {
            "prompt": prompt,
            "score": score,
            "feedback": feedback,
            "orig_instruction": INSTRUCTION,
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


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Builds the word-level tokenizer of the task.

    A word, a number, an expression such as `2-5`, a punctuation mark and a line break are one token each, and decoding gives
    the text back as it was written.
    """
    specials = ["<pad>", "<eos>", "<unk>"]
    texts = [INSTRUCTION, *RUBRICS.values(), "Feedback", MARKER, "is right close wrong ="]
    words = {word for text in texts for word in text.replace(".", " ").replace(",", " ").replace(":", " ").split()}
    numbers = [str(n) for n in range(-7, 14)]
    expressions = [f"{a}{op}{b}" for op in "+-" for a in OPERANDS for b in OPERANDS]
    counters = [f"{n})" for n in range(1, max(LENGTHS) + 1)]
    vocabulary = [*specials, *_PUNCTUATION, "\n", *counters, *numbers, *expressions]
    vocabulary += sorted(words - set(vocabulary))
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
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


def build_model(seed: int = 0, hidden_size: int = 128, num_layers: int = 2, num_heads: int = 4) -> LlamaForCausalLM:
    """Builds the untrained judge, a Llama of a third of a million parameters in float32.

    Args:
        seed (`int`, *optional*, defaults to `0`):
            Seed of the initial weights. The random state of the caller is left alone.
        hidden_size (`int`, *optional*, defaults to `128`):
            Width of the model.
        num_layers (`int`, *optional*, defaults to `2`):
            Number of layers.
        num_heads (`int`, *optional*, defaults to `4`):
            Number of attention heads.
    """
    tokenizer = build_tokenizer()
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
