# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Whether what a server sends is an answer at all. Status 200 does not say so: errors, refusals and nothing come with it as well."""

import re
from collections.abc import Mapping
from typing import Any, Literal

About = Literal["prompt", "server", "busy", "key", "model"]
TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})

# With these a completion has ended in an ordinary way; whatever else a server says, it has not
_FINISHED = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence", "stop_token", "complete"})
_CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_length", "", "none"})
_FILTERED = re.compile(
    r"content[ _-]?(filter|policy|management)|moderation|safety|flagged|policy[ _-]violation|prohibited|refusal|recitation|spii|"
    r"blocklist",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(
    r"context[ _](length|size|window)|max_model_len|(?<!took )too long(?! to )|too many tokens(?! per)", re.IGNORECASE
)
_BUSY = re.compile(
    r"overload|time[ds]?[ _-]?out|rate[ _-]?limit|too many requests|unavailable|try (it )?(again|later)|temporar|capacity|\bbusy\b|"
    r"internal (server )?error|server_error|bad gateway|\babort|insufficient_system_resource",
    re.IGNORECASE,
)
_THOUGHTS = frozenset({"thinking", "reasoning"})  # types of parts of a message
_CODES = ("code", "status", "status_code", "type")
# What follows a model's name where a server answers with a version of it: a date, in one of the forms that providers write, 001, latest
_YEAR, _MONTH, _DAY = r"20\d\d", r"(0[1-9]|1[0-2])", r"(0[1-9]|[12]\d|3[01])"
_DATE = rf"{_YEAR}-?{_MONTH}(-?{_DAY})?|{_MONTH}-?{_DAY}(-?{_YEAR})?|2\d{_MONTH}({_DAY})?"
_VERSION = re.compile(rf"[-@_](preview-)?({_DATE}|0\d\d|latest)(-preview)?")


class NoAnswer(ValueError):
    """
    What a server sent is no answer to a request.

    Attributes:
        about (`str`): `"prompt"`: it refuses this prompt, and might answer others. `"busy"`: it might answer it another time.
            `"key"`, `"model"`: it does not accept the key, or does not know the model, and answers none. `"server"`: unknown cause.
    """

    def __init__(self, message: str, about: About = "server") -> None:
        super().__init__(message)
        self.about: About = about


class StaysBusy(ConnectionError):
    """A server, or something on the way to it, did not answer a request that was repeated."""

    about: About = "busy"


class TooSlow(TimeoutError):
    """A server did not answer within the timeout."""

    about: About = "busy"


def words_of(answer: Any) -> str:
    """What a server says in an error, which has many forms, in one line."""
    words = answer
    for _ in range(4):
        if not isinstance(words, Mapping):
            break
        words = next(
            (words[key] for key in ("error", "message", "detail", "code", "type") if words.get(key)), str(dict(words))
        )
    return " ".join(str(words).split())


def kind_of(answer: Any) -> About:
    """What an error is about, as far as its words and codes say it."""
    text, codes = str(answer), {str(part.get(key)).lower() for part in _parts(answer) for key in _CODES}
    if codes & {"401", "invalid_api_key", "authentication_error"}:
        return "key"
    if "model_not_found" in codes:
        return "model"
    if codes & set(map(str, TRANSIENT - {500})):  # 500 comes with faults of a prompt, too
        return "busy"
    if _FILTERED.search(text) or _TOO_LONG.search(text):
        return "prompt"
    return "busy" if "500" in codes or _BUSY.search(text) else "server"


def is_too_long(words: str) -> bool:
    """Whether a server refuses a prompt for its length."""
    return bool(_TOO_LONG.search(words))


def check_answer(answer: Mapping[str, Any], model: str) -> Mapping[str, Any]:
    """
    The choice that an answer of either API (completions, chat) holds.

    Args:
        model (`str`):
            Name under which the model answers.

    Raises:
        [`NoAnswer`]: with the server's words, if it holds an error, no choice or no text, if the completion did not end in an
            ordinary way (a content filter, a refusal, an error), or if another model wrote it.
    """
    if error := answer.get("error") or (answer if answer.get("object") == "error" else None):
        raise NoAnswer(f"the server answered with an error: {words_of(error)}", kind_of(error))
    choices = answer.get("choices")
    if not isinstance(choices, list):
        raise NoAnswer(f"the server answered without choices: {words_of(answer)}", kind_of(answer))
    if not choices:
        raise NoAnswer("the server answered with an empty list of choices", "busy")
    choice = choices[0]
    if not isinstance(choice, Mapping):
        raise NoAnswer(f"the server's answer holds {choice!r:.60} in place of a choice")
    if error := choice.get("error"):
        raise NoAnswer(f"the server answered with an error: {words_of(error)}", kind_of(error))
    named = answer.get("model")
    if isinstance(named, str) and named and not _is_same_model(model, named):
        raise NoAnswer(
            f"model: {named!r} wrote the answer, not {model!r}. Correct the name; if it is another name of the same model, set "
            f"answers_as to {named!r}"
        )
    message = choice.get("message")
    if isinstance(message, Mapping) and message.get("refusal"):
        raise NoAnswer(f"the model refused to answer: {words_of(message['refusal'])}", "prompt")
    reason = choice.get("finish_reason")
    if not (reason is None or is_finished(choice) or str(reason).lower() in _CUT):
        about = kind_of(reason)
        about = "busy" if about == "server" and str(reason).lower() in {"error", "cancelled", "canceled"} else about
        raise NoAnswer(f"the completion ended with {reason!r} (finish_reason)", about)
    text_of_choice(choice)
    return choice


def is_finished(choice: Mapping[str, Any]) -> bool:
    """Whether the model ended its completion itself, by what the server says."""
    return str(choice.get("finish_reason")).lower() in _FINISHED


def thoughts_of(choice: Mapping[str, Any]) -> str:
    """What a server with a parser for reasoning took out of the completion, or gives as parts of their own; empty if nothing."""
    message = choice.get("message")
    if not isinstance(message, Mapping):
        return ""
    thoughts, content = message.get("reasoning_content") or message.get("reasoning"), message.get("content")
    if not thoughts and isinstance(content, list):
        thoughts = "".join(map(_thought_in, filter(_is_thought, content)))
    return thoughts if isinstance(thoughts, str) else ""


def text_of_choice(choice: Mapping[str, Any]) -> str:
    """
    The text of a choice: the content of its message, or of the completion.

    Raises:
        [`NoAnswer`]: if there is none.
    """
    message = choice.get("message")
    text = message.get("content") if isinstance(message, Mapping) else choice.get("text")
    if isinstance(text, list):  # parts, of which one server or another makes its messages
        parts: list[Any] = [
            part.get("text") if isinstance(part, Mapping) and part.get("type", "text") == "text" else None
            for part in text
            if not _is_thought(part)
        ]
        text = "".join(parts) if all(isinstance(part, str) for part in parts) else None
    if text is None and thoughts_of(choice):  # it was cut, or ended, in its thoughts
        return ""
    if not isinstance(text, str):
        raise NoAnswer("the server's answer holds no text (its content is null or something else)")
    return text


def _is_thought(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") in _THOUGHTS


def _thought_in(part: Any) -> str:
    """The text of a part with thoughts, which is in a field that is called like its type, as text or in parts again."""
    if isinstance(part, list):
        return "".join(map(_thought_in, part))
    if isinstance(part, Mapping):
        return _thought_in(next((part[name] for name in (part.get("type"), "text", "content") if part.get(name)), ""))
    return part if isinstance(part, str) else ""


def _is_same_model(asked: str, named: str) -> bool:
    """Whether two names are of one model: a folder or owner, a tag (`:latest`) and a version may be in one of them only."""
    (asked, tag), (named, other_tag) = _name_and_tag(asked), _name_and_tag(named)
    if tag and other_tag and tag != other_tag:
        return False
    paths = asked.split("/"), named.split("/")
    depth = min(map(len, paths))
    if paths[0][-depth:-1] != paths[1][-depth:-1]:
        return False
    shorter, longer = sorted((paths[0][-1], paths[1][-1]), key=len)
    return longer.startswith(shorter) and (longer == shorter or bool(_VERSION.fullmatch(longer[len(shorter) :])))


def _name_and_tag(name: str) -> tuple[str, str]:
    """A model's name without a tag that it ends with, and the tag, empty without one."""
    name = name.strip().lower().rstrip("/")
    untagged, _, tag = name.rpartition(":")
    return (untagged, tag) if tag and "/" not in tag and ":" in name else (name, "")


def _parts(answer: Any) -> list[Mapping[str, Any]]:
    """An error and the mappings in it."""
    if not isinstance(answer, Mapping):
        return []
    return [answer, *(part for each in answer.values() for part in _parts(each))]
