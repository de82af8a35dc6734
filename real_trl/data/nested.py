# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Dotted paths into nested cells, `data.question`: what annotation tools export, and conversations.

A part of a path is a key of a mapping. In a list it is a position, from 0, if it is a number; else the path goes on in every item, and
gives a list, with `None` where an item has nothing there. Lists in lists become one list, without these gaps. Beyond that:

- Label Studio's `annotations.result.NAME` is what each annotator said in the control called `NAME` (the `from_name` of a result);
- an answer is what is in it: `{"rating": 4}`, `{"choices": ["good"]}` (Label Studio), `{"value": 4, "user_id": …}` (Argilla); annotations
  that were cancelled, discarded or only drafted are none;
- of a conversation, a list of messages, `messages.response` is the last message, if that is the assistant's, and
  `messages.instruction` what stands before it: the user's message, or, of several, all of them with who said them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_ANSWERS = ("rating", "number", "choices", "text", "value")
_BESIDE_AN_ANSWER = ("user_id", "status", "score", "agent")  # the last two of Argilla's suggestions
_NOT_GIVEN = frozenset({"discarded", "draft", "pending"})
_SPEAKERS = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant"}
_MOST_PATHS = 200  # that are offered; of a mapping with a key for each row there is no end


def look_up(cell: Any, path: Sequence[str]) -> Any:
    """What is at a path in a cell; `None` if nothing is."""
    if not path:
        return answer(cell)
    name, *rest = path
    if isinstance(cell, Mapping):
        return look_up(cell.get(name), rest) if _given(cell) else None
    if not isinstance(cell, list | tuple):
        return None
    if not rest and name in ("instruction", "response") and is_conversation(cell):
        return split_conversation(cell)[name == "response"]
    if name.isdecimal():
        return look_up(cell[int(name)], rest) if int(name) < len(cell) else None
    if any(isinstance(item, Mapping) and "from_name" in item for item in cell):
        controls = [item for item in cell if isinstance(item, Mapping) and item.get("from_name") == name]
        named = [look_up(item.get("value"), rest) for item in controls]
        if named:
            return named[0] if len(named) == 1 else named
    found: list[Any] = []
    for value in (look_up(item, path) for item in cell):
        found += ([each for each in value if each is not None] or [None]) if isinstance(value, list) else [value]
    return found if any(value is not None for value in found) else None


def answer(cell: Any) -> Any:
    """What an annotator said, out of what annotation tools put around it; any other cell as it is."""
    if (
        isinstance(cell, list | tuple)
        and any(isinstance(item, Mapping) for item in cell)
        and not is_conversation(cell)
    ):
        return [answer(item) for item in cell]
    key = _answer_key(cell)
    if key is None:
        return cell
    if not _given(cell):
        return None
    said, status = cell[key], cell.get("status")
    if (
        isinstance(said, list) and isinstance(status, list) and len(said) == len(status)
    ):  # as `datasets` has lists of answers
        return [None if each in _NOT_GIVEN else value for value, each in zip(said, status, strict=True)]
    if key in ("choices", "text") and isinstance(said, list):
        return said[0] if len(said) == 1 else "\n".join(map(str, said)) if key == "text" else said
    return said


def paths_in(cell: Any, prefix: str) -> Iterator[str]:
    """The paths in a cell that end in something."""
    if isinstance(cell, Mapping) and _answer_key(cell) is None:
        for key, value in cell.items():
            if value is not None and "." not in str(key) and not str(key).isdecimal():
                yield from paths_in(value, f"{prefix}.{key}")
    elif isinstance(cell, list | tuple) and any(isinstance(item, Mapping) for item in cell):
        if is_conversation(cell):
            try:
                parts = zip(("instruction", "response"), split_conversation(cell), strict=True)
                yield from (f"{prefix}.{name}" for name, text in parts if text)
            except ValueError:  # said when it is read
                yield from (f"{prefix}.instruction", f"{prefix}.response")
            return
        for item in cell:
            if isinstance(item, Mapping) and "from_name" in item:
                yield f"{prefix}.{item['from_name']}"
            elif isinstance(item, Mapping) and isinstance(item.get("result"), list):
                yield from paths_in(item["result"], f"{prefix}.result")
            else:
                yield from paths_in(item, prefix)
    elif cell is not None:
        yield prefix


def all_paths(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The paths in the cells of rows, in the order in which they occur first."""
    found: dict[str, None] = {}
    for row in rows:
        for column, cell in row.items():
            if isinstance(cell, Mapping | list | tuple):
                found.update(dict.fromkeys(path for path in paths_in(cell, column) if path != column))
        if len(found) > _MOST_PATHS:
            break
    return list(found)[:_MOST_PATHS]


def is_of_people(column: str) -> bool:
    """Whether a column, or path, is one in which an annotation tool has what people said, and not a model."""
    return column.startswith(("annotations.", "completions.", "responses.")) or column.endswith(".responses")


def split_path(path: str, columns: Iterable[str]) -> tuple[str, list[str]] | None:
    """The column that a path begins with, the longest of several, and the rest of the path; `None` if it begins with none."""
    roots = [column for column in columns if path.startswith(f"{column}.")]
    root = max(roots, key=len, default=None)
    return None if root is None else (root, path[len(root) + 1 :].split("."))


def is_conversation(cell: Any) -> bool:
    """Whether a cell is a list of messages, each of which says who wrote it."""
    return isinstance(cell, list | tuple) and bool(cell) and all(_speaker(item) for item in cell)


def split_conversation(messages: Sequence[Mapping[str, Any]]) -> tuple[str | None, str | None]:
    """
    Instruction and response of a conversation, as the head of this module says; `None` for what it has not.

    Raises:
        `ValueError`: if a message holds something other than text.
    """
    said = [(_speaker(message), _content(message)) for message in messages]
    response = said.pop()[1] if said[-1][0] == "assistant" else None
    said = [(speaker, text) for speaker, text in said if text.strip()]
    if len(said) == 1 and said[0][0] == "user":
        return said[0][1], response
    return "\n\n".join(f"{speaker.capitalize()}: {text}" for speaker, text in said) or None, response


def _speaker(message: Any) -> str | None:
    if not isinstance(message, Mapping):
        return None
    keys = ("role", "content") if "role" in message else ("from", "value")
    if not isinstance(message.get(keys[0]), str) or keys[1] not in message:
        return None
    return _SPEAKERS.get(message[keys[0]], message[keys[0]])


def _content(message: Mapping[str, Any]) -> str:
    content = message["content"] if "role" in message else message["value"]
    parts = content if isinstance(content, list | tuple) else [] if content is None else [{"text": content}]
    texts: list[Any] = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"a message holds {content!r:.60}; a judge reads text only. Remove the row.")
    return "\n".join(texts)


def _answer_key(cell: Any) -> str | None:
    """Under which key of a cell an answer stands, if the cell is one."""
    keys = {key for key, value in cell.items() if value is not None} if isinstance(cell, Mapping) else set()
    found = [key for key in _ANSWERS if key in keys]
    if len(found) != 1 or not keys <= {*found, *_BESIDE_AN_ANSWER}:
        return None
    key, said = found[0], cell[found[0]]
    if key in ("choices", "text"):  # anything may have a text; what was typed as an answer is a list
        return key if isinstance(said, list) and all(isinstance(each, str) for each in said) else None
    return key if key == "value" or not isinstance(said, Mapping | list) else None


def _given(cell: Mapping[str, Any]) -> bool:
    return not cell.get("was_cancelled") and not ("user_id" in cell and str(cell.get("status")) in _NOT_GIVEN)
