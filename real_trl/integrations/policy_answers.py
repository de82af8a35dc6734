# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a policy answers in a batch of completions, without what it thinks before."""

from collections.abc import Sequence

from real_trl.integrations.prompt_fields import Prompt, answer_of, content_of
from real_trl.text.thinking import ThinkingTags


def policy_answers(
    prompts: Sequence[Prompt], completions: Sequence[Prompt], tags: Sequence[ThinkingTags]
) -> list[str | None]:
    """
    The answer in each completion of a batch, `None` where there is none yet (see
    [`~real_trl.integrations.prompt_fields.answer_of`]).

    The chat template that the prompts go through later is not known here. It is the same for all of them: if one completion closes a
    block of thinking that it has not opened, the template opens it, and a completion without the closing tag is still thinking. A tag
    that is quoted within a sentence shows nothing about the others.

    Args:
        prompts, completions (`list[str]` or `list[list[dict]]`):
            As a trainer gives them to its reward functions.
        tags (`Sequence[ThinkingTags]`):
            Tags of thinking; none to leave it in.

    Raises:
        `ValueError`: naming the row, if a completion is no text of the assistant.
    """
    texts = [_answer(index, completion, ()) for index, completion in enumerate(completions)]
    said = [text for text in texts if text is not None]
    by_batch = next((each for each in tags if any(map(each.shows_an_opened_prompt, said))), None)
    opened = [_opened_by(prompt, tags) or by_batch for prompt in prompts]
    return [_answer(index, completion, tags, opened[index]) for index, completion in enumerate(completions)]


def _answer(
    index: int, completion: Prompt, tags: Sequence[ThinkingTags], opened: ThinkingTags | None = None
) -> str | None:
    try:
        return answer_of(completion, tags, opened)
    except ValueError as error:
        raise ValueError(f"row {index}: {error}") from error


def _opened_by(prompt: Prompt, tags: Sequence[ThinkingTags]) -> ThinkingTags | None:
    """The tags that a prompt itself ends with; of messages, if it is for the policy to go on with the last one."""
    if not isinstance(prompt, str):
        last = prompt[-1] if prompt else {}
        prompt = content_of(last) if last.get("role") == "assistant" else ""
    return next((each for each in tags if prompt.rstrip().endswith(each.opening)), None)
