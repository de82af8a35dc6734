# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How long a recipe's prompts and completions are, and what prompts begin with alike."""

import random
from collections.abc import Callable, Sequence
from functools import cache
from statistics import fmean

from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from real_trl.data.homework import build_tokenizer
from real_trl.forward.packing import shared_beginnings
from real_trl.planning.models import starting_model
from real_trl.planning.recipe import Lengths, Recipe

_MEASURED_ROWS = 500
_CHARACTERS_PER_TOKEN = 3.5  # of English text; only where the model's tokenizer is not at hand
_AROUND = 30  # tokens of a chat template
_LABEL = 2  # tokens of a label and of the end, behind the marker
_BATCHES = 20


def token_lengths(recipe: Recipe, dataset: Dataset | None) -> Lengths:
    """
    Lengths measured on the first rows where data and tokenizer are on this machine; estimated from characters where only the data are, and else the
    usual ones.
    """
    direct = is_direct(recipe, dataset)
    marker = recipe.config.score_marker
    tokenizer = recipe_tokenizer(recipe)
    count = text_counter(tokenizer)
    answer = count(marker) + _LABEL
    if dataset is None:
        usual = Lengths()
        return Lengths(completion=answer, alike=None, direct=True) if direct else usual
    rows = dataset.select(range(min(_MEASURED_ROWS, len(dataset))))
    around = 0 if recipe.stage_args.chat is False else chat_tokens(tokenizer)
    prompts = [around + count(prompt) for prompt in rows["prompt"]]
    alike = 0.0
    if direct:
        completion = float(answer)
        alike = around + alike_tokens(rows["prompt"], count, recipe.config.per_device_train_batch_size)
    else:
        texts = [text for text in rows["feedback"] if text] if "feedback" in rows.column_names else []
        limit = getattr(recipe.config, "max_completion_length", None)
        completion = fmean(count(text) + answer for text in texts) if texts else Lengths().completion
        completion = min(completion, limit or completion)
    return Lengths(
        prompt=fmean(prompts),
        completion=completion,
        longest_prompt=max(prompts),
        alike=min(alike, min(prompts) - 1),
        direct=direct,
        source=f"{'measured' if tokenizer else 'estimated from characters'} on the first {len(rows)} rows",
    )


def is_direct(recipe: Recipe, dataset: Dataset | None) -> bool:
    """Whether a recipe trains a judge that answers with its score at once."""
    if recipe.stage != "sft":
        return False
    if recipe.config.rationale is None:
        return dataset is not None and "feedback" not in dataset.column_names
    return not recipe.config.rationale


def recipe_tokenizer(recipe: Recipe) -> PreTrainedTokenizerBase | None:
    """The tokenizer of the model that a recipe starts from, if it is on this machine; nothing is downloaded."""
    if recipe.data.dataset_name == "synthetic":
        return build_tokenizer()
    return local_tokenizer(starting_model(recipe.model.model_name_or_path, recipe.path))


@cache
def local_tokenizer(model: str) -> PreTrainedTokenizerBase | None:
    """The tokenizer of `model`, if it is on this machine; nothing is downloaded."""
    try:
        return AutoTokenizer.from_pretrained(model, local_files_only=True)
    except (OSError, ValueError):
        return None


def text_counter(tokenizer: PreTrainedTokenizerBase | None) -> Callable[[str], int]:
    """Counts the tokens of a text, or estimates them from its characters."""
    if tokenizer is None:
        return lambda text: max(1, round(len(text) / _CHARACTERS_PER_TOKEN))
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def chat_tokens(tokenizer: PreTrainedTokenizerBase | None) -> int:
    """Tokens that the chat template puts around a prompt; 0 if there is none."""
    if tokenizer is None:
        return _AROUND
    if not tokenizer.chat_template:
        return 0
    try:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": "x"}], add_generation_prompt=True, tokenize=False
        )
    except Exception:  # a template that wants more than a user's message
        return _AROUND
    return len(tokenizer(text, add_special_tokens=False)["input_ids"]) - 1


def alike_tokens(prompts: Sequence[str], count: Callable[[str], int], batch: int, *, in_order: bool = False) -> float:
    """
    Tokens that `batch` prompts begin with, on average over batches: as many as, if all of them had them in common, saved what sharing saves.

    Args:
        in_order (`bool`, *optional*, defaults to `False`):
            Whether batches are of prompts that are alike, as in an evaluation, or drawn at random, as in training.
    """
    batch = min(batch, len(prompts))
    if batch < 2:
        return 0.0
    if in_order:
        order = sorted(prompts)
        batches = [order[start : start + batch] for start in range(0, len(order) - batch + 1, batch)]
    else:
        drawn = random.Random(0)
        batches = [drawn.sample(list(prompts), batch) for _ in range(_BATCHES)]
    saved = []
    for texts in batches[:_BATCHES]:
        texts = sorted(texts)
        groups = shared_beginnings([[*text] for text in texts])  # of characters
        saved.append(sum((len(rows) - 1) * count(texts[rows[0]][:length]) for length, rows in groups if len(rows) > 1))
    return fmean(saved) / (batch - 1)
