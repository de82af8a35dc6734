# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A line of each row, by which people recognise it. Predictions hold prompts, of which what all share says nothing."""

from collections.abc import Iterable

import pandas as pd

_LENGTH = 140  # characters


def snippets(frame: pd.DataFrame) -> list[str]:
    """
    What a row has of its own, on one line.

    Args:
        frame (`pandas.DataFrame`): Predictions with the column `prompt`, and optionally `group` or `id`.

    Returns:
        `list[str]`: Of every row the beginning of its prompt, at most 140 characters, without the lines that all prompts hold; of several
        prompts of one group also without those that these share. So of answers to one question it is the answer that is shown, and of
        questions with one answer each the question.
    """
    prompts = [str(text) for text in frame["prompt"]] if "prompt" in frame else [""] * len(frame)
    key = next((name for name in ("group", "id") if name in frame), None)
    groups = [str(name) for name in frame[key]] if key else list(map(str, range(len(frame))))
    texts: dict[str, set[str]] = {}
    for group, prompt in zip(groups, prompts, strict=True):
        texts.setdefault(group, set()).add(prompt)
    of_all = _shared(prompts)
    of_group = {group: _shared(several) if len(several) > 1 else frozenset() for group, several in texts.items()}
    return [_snippet(prompt, of_all, of_group[group]) for group, prompt in zip(groups, prompts, strict=True)]


def _shared(prompts: Iterable[str]) -> frozenset[str]:
    return frozenset.intersection(*(frozenset(text.splitlines()) for text in set(prompts)))


def _snippet(prompt: str, of_all: frozenset[str], of_group: frozenset[str]) -> str:
    lines = prompt.splitlines()
    own = [line for line in lines if line not in of_all]
    alone = [line for line in own if line not in of_group]
    text = " ".join(" ".join(next((each for each in (alone, own, lines) if any(each)), [])).split())
    return text if len(text) <= _LENGTH else f"{text[: _LENGTH - 1].rstrip()}…"
