# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Rows of supervised training as tokens: the prompt as the judge will be asked it, and its completion."""

from functools import partial
from typing import Any

from real_trl.prompts.allowed_controls import own_words
from real_trl.prompts.answer import answer_to
from real_trl.prompts.encoding import PromptEncoding
from real_trl.prompts.format import answer_message, prompt_text
from real_trl.prompts.template import plain_prompt
from real_trl.score_space import ScoreSpace


class RowTokenizer:
    """
    A row's prompt and completion as TRL's tokenized columns, `input_ids` and `completion_mask`, the prompt's as those of the
    judge that is trained; those of a `direct` judge stand right behind it. It knows no trainer, so that `datasets` can recognise rows that it has tokenized before.
    """

    def __init__(self, encoding: PromptEncoding, space: ScoreSpace | None = None, *, direct: bool = False) -> None:
        self.encoding, self.direct = encoding, direct
        # Without a score space nothing is known of the judge's own words
        self.words = None
        if space is not None:
            opened = space.thinking.opened_by(encoding.generation_tail)
            self.words = partial(own_words, space, opened=opened)

    def __call__(self, row: dict[str, Any]) -> dict[str, list[int]]:
        prompt = prompt_text(row, self.encoding.format)
        completion = row["completion"]
        if self.direct:  # which is read behind its own marker, whatever blanks these data have before it
            prompt = prompt if self.encoding.format.chat else plain_prompt(prompt)
            completion = answer_to(prompt, answer_message(completion)["content"].strip(), self.encoding.format.chat)
        prompt_ids, completion_ids = self.encoding.with_completion(prompt, completion, self.words)
        mask = [0] * len(prompt_ids) + [1] * len(completion_ids)
        return {"input_ids": prompt_ids + completion_ids, "completion_mask": mask}
