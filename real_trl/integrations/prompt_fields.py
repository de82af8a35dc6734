# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Filling a judge's prompt out of rows that were made for something else: a trainer's, an evaluation's, a user's file."""

from collections.abc import Mapping, Sequence
from typing import Any

from real_trl.judge_config import JudgeConfig
from real_trl.option_values import FieldError, as_mapping
from real_trl.prompts.template import PromptTemplate
from real_trl.score_space import ScoreSpace
from real_trl.text.cells import plain_row
from real_trl.text.thinking import KNOWN, ThinkingTags, without_thinking

Prompt = str | Sequence[Mapping[str, Any]]  # plain or conversational


class PromptFields:
    """
    Where the fields of a judge's prompt come from.

    Args:
        template ([`PromptTemplate`]):
            The judge's prompt.
        columns (`Mapping[str, str]`, *optional*):
            Field of the prompt → column it is read from. Columns that are called like a field, or as in
            Feedback-Collection, are found without it.
        texts (`Mapping[str, str]`, *optional*):
            Field of the prompt → the same text for every row; `None` is left out.
        tags (`Sequence[ThinkingTags]`, *optional*):
            See [`text_of`].
        pairs (`bool`, *optional*, defaults to `False`):
            Whether a prompt may show two responses, `response_a` and `response_b`, instead of one.

    Raises:
        `ValueError`: naming the field, if the prompt has no such field, shows no response, or if a field is given twice.
    """

    def __init__(
        self,
        template: PromptTemplate,
        space: ScoreSpace,
        columns: Mapping[str, str] | None = None,
        texts: Mapping[str, str | None] | None = None,
        tags: Sequence[ThinkingTags] = KNOWN,
        pairs: bool = False,
    ) -> None:
        self.tags = tags
        self.template, self.space, self.columns = template, space, _checked_columns(columns)
        self.texts = {name: text for name, text in (texts or {}).items() if text is not None}
        shows_two = pairs and {"response_a", "response_b"} <= template.variables
        if "response" not in template.variables and not shows_two:
            said = f": {template.name!r} does not show the response ({{{{ response }}}}), so every response would be judged alike"
            raise FieldError("prompt_template", template.name, "Use another template.", said)
        for name, text in self.texts.items():
            if not isinstance(text, str) or not text.strip():
                raise FieldError(name, text, "Give a text, or leave it out.")
            if name not in template.variables:
                raise template.no_such_field(name)
            if name in self.columns:
                raise ValueError(
                    f"{name}: given as a text, and in columns as {self.columns[name]!r}. Remove one of the two."
                )
        template.check_columns(self.columns, self.columns.values())

    def render(self, row: Mapping[str, Any], given: Mapping[str, Prompt] | None = None) -> str:
        """
        The complete prompt of a row.

        Args:
            row (`Mapping[str, Any]`):
                Column → value.
            given (`Mapping[str, str | list[dict]]`, *optional*):
                Fields that are not in the row, such as a completion, as text or a list of messages. They come before columns of their
                name, unless `columns` says otherwise.

        Raises:
            `ValueError`: naming the field, if it has no value or is no text.
        """
        row = plain_row(row)
        for field, column in self.columns.items():
            if column not in row:
                said = f": {field!r} is read from {column!r}, which does not exist"
                raise FieldError("columns", field, f"Existing columns: {list(row)}.", said)
        own = {**(given or {}), **self.texts}
        own = {name: text_of(text, self.tags) for name, text in own.items() if name not in self.columns}
        row = {**row, **own}
        columns = {**self.columns, **{name: name for name in own}}
        scale, marker = self.space.scale, self.space.marker
        return self.template.render(row, columns, scale=scale, marker=marker, strict=True)


def judge_template(config: JudgeConfig) -> PromptTemplate:
    """The template of a judge; `ValueError` if it was trained on complete prompts."""
    template = config.template()
    if template is None:
        raise ValueError(
            "prompt_template: the judge was trained on complete prompts, and does not say how one is made of an instruction and a "
            "response. Set prompt_template to the template that its prompts were made with, e.g. 'feedback_collection'."
        )
    return template


def text_of(prompt: Prompt, tags: Sequence[ThinkingTags] = KNOWN) -> str:
    """
    A prompt, plain or conversational, as one text: that of a single message, or of several messages with their roles. Of what an
    assistant said, without what it thought between `tags`.

    Raises:
        `ValueError`: if it is neither, or holds an image or other content that is no text.
    """
    if isinstance(prompt, str):
        return prompt
    said = [(message.get("role"), _said(message, tags)) for message in _messages("prompt", prompt)]
    messages = [(role, content) for role, content in said if content is not None] or [("user", "")]
    if len(messages) == 1:
        return messages[0][1]
    return "\n\n".join(f"{str(role).capitalize()}: {content}" for role, content in messages)


def _said(message: Mapping[str, Any], tags: Sequence[ThinkingTags]) -> str | None:
    """Text of a message; of an assistant's, its answer, and `None` for one that only begins to think."""
    content = content_of(message)
    return without_thinking(content, tags) if message.get("role") == "assistant" else content


def answer_of(
    completion: Prompt,
    tags: Sequence[ThinkingTags] = KNOWN,
    opened: ThinkingTags | None = None,
) -> str | None:
    """
    A completion, plain or conversational, as one text: what the assistant said last, without what it thought before.

    Args:
        tags (`Sequence[ThinkingTags]`, *optional*, defaults to [`KNOWN`][real_trl.text.thinking.KNOWN]):
            Tags of its thinking; none to leave it in.
        opened ([`ThinkingTags`], *optional*):
            Those of a block that the prompt has opened.

    Returns:
        `str`, or `None` if it has not answered: its thinking does not end, or there is nothing but thinking.

    Raises:
        `ValueError`: if it is neither, if the assistant said nothing, or something that is no text.
    """
    if isinstance(completion, str):
        return without_thinking(completion, tags, opened)
    said = [message for message in _messages("completion", completion) if message.get("role") == "assistant"]
    if not said:
        roles = [message.get("role") for message in completion]
        raise ValueError(f"completion: no message of the assistant in it, only of {roles}. Give one.")
    content, thought = content_of(said[-1]), any(said[-1].get(name) for name in ("reasoning_content", "reasoning"))
    if thought:  # it stands apart, and what is in the content follows it
        return content if content.strip() or not tags else None
    return without_thinking(content, tags, opened)


def content_of(message: Mapping[str, Any]) -> str:
    """Text of a message, whose content is text or a list of parts; a call of a tool alone is an empty text."""
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    parts = []
    for part in content if isinstance(content, Sequence) else [content]:
        if isinstance(part, Mapping) and part.get("type") in ("thinking", "reasoning"):
            continue
        text = part if isinstance(part, str) else part.get("text") if isinstance(part, Mapping) else None
        if text is None:
            raise ValueError(
                f"{message.get('role')} message: its content holds {part!r:.60}, which the judge cannot read. Give it as text, or map "
                "`instruction` to a column of text with `columns`."
            )
        parts.append(text)
    return "".join(parts)


def _messages(field: str, value: Any) -> Sequence[Mapping[str, Any]]:
    if isinstance(value, Sequence) and value and all(isinstance(message, Mapping) for message in value):
        return value
    said = f": got a {type(value).__name__}, {value!r:.60}"
    raise FieldError(field, value, "Give text, or a list of messages.", said)


def _checked_columns(columns: Mapping[str, str] | None) -> dict[str, str]:
    if isinstance(columns, str):
        columns = as_mapping("columns", columns)
    if columns is not None and not isinstance(columns, Mapping):
        raise FieldError("columns", columns, "Give a mapping from field to column, {rubric: criteria}.")
    for field, column in (columns or {}).items():
        if not isinstance(field, str) or not isinstance(column, str):
            said = f": got {field!r} → {column!r}"
            raise FieldError("columns", field, "Give the name of a column for each field.", said)
    return {field: column.strip() for field, column in (columns or {}).items()}
