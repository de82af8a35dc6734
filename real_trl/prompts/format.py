# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What stands around a judge's prompts; saved with the judge, so that prompts are formatted at inference as in training."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from real_trl.option_values import FieldError
from real_trl.text.json_text import to_json

Messages = list[dict[str, Any]]

REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
"""Fields of an assistant's message in which chat templates look for its reasoning."""
TRAINING_DATE = "2026-01-01"
"""Day that judges which are trained here read in templates that write the date of today."""

_OWN_ARGUMENTS = frozenset(
    {"conversation", "messages", "add_generation_prompt", "continue_final_message", "tokenize", "return_dict"}
    | {"padding", "truncation", "max_length", "return_tensors", "return_assistant_tokens_mask", "tokenizer_kwargs"}
)


@dataclass(frozen=True)
class PromptFormat:
    """
    How a judge's prompt becomes what the model reads.

    Args:
        chat (`bool`, *optional*, defaults to `False`):
            Wrap it in the tokenizer's chat template, as a user's message.
        system_prompt (`str`, *optional*):
            A system message before it.
        chat_template_kwargs (`Mapping[str, Any]`, *optional*):
            Further arguments of the chat template: `{"enable_thinking": False}`, `{"tools": […]}`. Nothing but JSON.
        template_date (`str`, *optional*):
            Day (`2026-11-28`) that a chat template writes which writes the date of today, so that a judge reads the same
            prompt on every day. By default, today.

    Raises:
        ValueError: naming the field, if one has an impossible value.
    """

    chat: bool = False
    system_prompt: str | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    template_date: str | None = None

    def __post_init__(self) -> None:
        check_template_arguments(self.chat_template_kwargs)
        if self.system_prompt is not None and not isinstance(self.system_prompt, str):
            said = f": got a {type(self.system_prompt).__name__}"
            raise FieldError("system_prompt", self.system_prompt, "Set it to text.", said)
        if not self.chat and (self.system_prompt is not None or self.chat_template_kwargs):
            name = "chat_template_kwargs" if self.system_prompt is None else "system_prompt"
            said = f": got {getattr(self, name)!r:.80}, but prompts do not go through a chat template (chat is false)"
            raise FieldError(name, getattr(self, name), "Leave it out, or set chat to true.", said)

    @classmethod
    def of(cls, settings: Any) -> "PromptFormat":
        """The format that an object with these fields says; `None` stands for the default."""
        said = {each.name: getattr(settings, each.name) for each in fields(cls)}
        return cls(**{name: value for name, value in said.items() if value is not None})

    def messages(self, prompt: str) -> Messages:
        """The conversation that the chat template gets."""
        system = [] if self.system_prompt is None else [{"role": "system", "content": self.system_prompt}]
        return [*system, {"role": "user", "content": prompt}]

    @property
    def day(self) -> datetime | None:
        """`template_date` as a date; `ValueError` if it is none."""
        if self.template_date is None:
            return None
        try:
            return datetime.fromisoformat(self.template_date)
        except ValueError as error:
            raise FieldError("template_date", self.template_date, "Set it to a day, as 2026-11-28.") from error


def check_template_arguments(arguments: Any) -> None:
    """`ValueError` if `chat_template_kwargs` cannot be saved with a judge, or sets what the judge sets itself."""
    if not isinstance(arguments, Mapping):
        raise FieldError("chat_template_kwargs", arguments, "Set it to a mapping such as {enable_thinking: false}.")
    if taken := sorted(_OWN_ARGUMENTS & set(arguments)):
        said = f": {taken[0]!r} is not for the chat template"
        raise FieldError("chat_template_kwargs", taken[0], "Remove it.", said)
    for name, value in arguments.items():
        try:
            same = json.loads(to_json({name: value})) == {name: value}
        except (TypeError, ValueError):
            same = False
        if not same:
            said = f": {name!r} is {value!r:.80}, which cannot be saved with the judge"
            fix = "Give plain values: text, numbers, true or false, lists and mappings of them."
            raise FieldError("chat_template_kwargs", name, fix, said)


def is_conversation(prompt: Any) -> bool:
    """Whether a prompt or completion is a list of messages."""
    return isinstance(prompt, Sequence) and not isinstance(prompt, str) and all(isinstance(m, Mapping) for m in prompt)


def training_format(dataset: Any, tokenizer: Any, args: Any) -> PromptFormat:
    """
    The format that training data ask for, by their first row: a chat if its prompt is one, with its system message, and its
    `tools` and `chat_template_kwargs` if there are such columns. That the other rows agree is for [`prompt_text`] to see.

    Args:
        dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]):
            Rows with a `prompt`. A stream is opened once more for its first row, as TRL does; none is lost.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Its chat template is the one, unless `args.chat_template_path` gives another.
        args ([`~transformers.TrainingArguments`]):
            With the trainer's own `chat_template_kwargs`.

    Raises:
        ValueError: if a judge could not be asked that way.
    """
    row: dict[str, Any] = next(iter(dataset), {}) if dataset is not None else {}
    arguments = {**(args.chat_template_kwargs or {}), **_row_arguments(row)}
    prompt = row.get("prompt")
    if not prompt or not is_conversation(prompt):
        return PromptFormat(chat_template_kwargs=arguments)
    template_comes = getattr(args, "chat_template_path", None)
    writes_date = template_comes or "strftime_now" in str(tokenizer.chat_template)
    return PromptFormat(
        chat=True,
        system_prompt=message_text(prompt[0], "row 0") if prompt[0].get("role") == "system" else None,
        chat_template_kwargs=arguments,
        template_date=TRAINING_DATE if writes_date else None,
    )


def _row_arguments(row: Mapping[str, Any]) -> dict[str, Any]:
    arguments = {name: value for name, value in (row.get("chat_template_kwargs") or {}).items() if value is not None}
    if tools := row.get("tools"):
        arguments["tools"] = json.loads(tools) if isinstance(tools, str) else tools
    return arguments


def prompt_text(row: Mapping[str, Any], prompt_format: PromptFormat, where: str = "a row") -> str:
    """
    The text of a row's prompt, with which a judge of this format reads what the row says.

    Raises:
        ValueError: naming the row, if no text does: the prompt has several turns, another system message or other tools than
            the rows before, or is a conversation among texts.
    """
    prompt = row["prompt"]
    if is_conversation(prompt) != prompt_format.chat:
        kinds = ("text", "messages") if prompt_format.chat else ("messages", "text")
        raise ValueError(
            f"column 'prompt' is {kinds[0]} in {where}, and {kinds[1]} in the first row. A judge is asked in one way: make all "
            "of them text, or all of them messages."
        )
    if not prompt_format.chat:
        if not isinstance(prompt, str):
            raise ValueError(f"column 'prompt' is {prompt!r:.80} in {where}. Fill it with text, or with messages.")
        return prompt
    roles = [message.get("role") for message in prompt]
    if roles not in (["user"], ["system", "user"]):
        raise ValueError(
            f"column 'prompt' has messages of {', '.join(map(repr, roles)) or 'nobody'} in {where}. A judge is asked with one user's "
            "message, before which a system message may stand. Write the conversation that is judged into that message."
        )
    system = message_text(prompt[0], where) if len(prompt) > 1 else None
    arguments = {**prompt_format.chat_template_kwargs, **_row_arguments(row)}
    if "tools" in row and not row["tools"]:
        arguments.pop("tools", None)
    for name, own, first in (
        ("system message", system, prompt_format.system_prompt),
        ("tools or chat_template_kwargs", arguments, dict(prompt_format.chat_template_kwargs)),
    ):
        if own != first:
            raise ValueError(
                f"column 'prompt' comes with the {name} {own!r:.80} in {where}, and with {first!r:.80} in the first row. A judge "
                "has one for all its prompts: make them equal, or write what differs into the user's message."
            )
    return message_text(prompt[-1], where)


def message_text(message: Mapping[str, Any], where: str = "a row") -> str:
    """The text of a message; `ValueError` if it holds something else as well."""
    more = sorted(name for name, value in message.items() if name not in ("role", "content") and value)
    content = message.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str) and len(content) == 1:  # [{"type": "text", …}]
        content = content[0].get("text") if content[0].get("type") == "text" else None
    if more or not isinstance(content, str):
        found = f"a field {more[0]!r}" if more else f"the content {message.get('content')!r:.80}"
        raise ValueError(
            f"a message of {message.get('role')!r} has {found} in {where}. A judge reads text: give each message a role and one text."
        )
    return content


def answer_message(completion: Any, where: str = "a row") -> dict[str, str]:
    """
    A completion, text or messages, as the one message of a judge: `content`, and its reasoning where that is apart
    (`reasoning_content`); `ValueError` naming the row if it is no such thing.
    """
    if isinstance(completion, str):
        return {"content": completion}
    roles = [message.get("role") for message in completion] if is_conversation(completion) else [f"{completion!r:.80}"]
    if roles != ["assistant"]:
        raise ValueError(
            f"column 'completion' has {', '.join(map(str, roles)) or 'nothing'} in {where}. A judge answers with text, or with one "
            "message of 'assistant'."
        )
    rest = {name: value for name, value in completion[0].items() if name not in REASONING_FIELDS}
    reasoning = {name: completion[0][name] for name in REASONING_FIELDS if completion[0].get(name)}
    return {"content": message_text(rest, where), **reasoning}
