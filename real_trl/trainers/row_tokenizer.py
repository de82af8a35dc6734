# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Rows of supervised training as tokens: the prompt as the judge will be asked it, and its completion."""

from functools import partial
from typing import Any

from real_trl.prompts.allowed_controls import own_words
from real_trl.prompts.encoding import PromptEncoding
from real_trl.prompts.format import prompt_text
from real_trl.score_space import ScoreSpace


class RowTokenizer:
    """
    A row's prompt and completion as TRL's tokenized columns, `input_ids` and `completion_mask`, the prompt's as those of the
    judge that is trained. It knows no trainer, so that `datasets` can recognise rows that it has tokenized before.
    """

    def __init__(self, encoding: PromptEncoding, space: ScoreSpace | None = None) -> None:
        self.encoding = encoding
        # Without a score space nothing is known of the judge's own words
        opened = space and space.thinking.opened_by(encoding.generation_tail)
        self.words = space and partial(own_words, space, opened=opened)

    def __call__(self, row: dict[str, Any]) -> dict[str, list[int]]:
        prompt = prompt_text(row, self.encoding.format)
        prompt_ids, completion_ids = self.encoding.with_completion(prompt, row["completion"], self.words)
        mask = [0] * len(prompt_ids) + [1] * len(completion_ids)
        return {"input_ids": prompt_ids + completion_ids, "completion_mask": mask}
