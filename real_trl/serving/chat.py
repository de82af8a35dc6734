# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The judge as a model of OpenAI's chat completions.

A request has the judge's prompt in one of two forms:

- `messages` with one user message: its text is the judge's complete prompt, and the judge's template is not applied. A system message
  may stand before it only if it is the judge's own, which is sent in any case.
- `row` (the client's `extra_body={"row": {…}}`), an object with the fields of the judge's template as `/score` takes them, and
  `messages` empty.

The answer's message is what the judge wrote; of a direct judge, which writes nothing, its marker and most likely label. The judgment as
`/score` gives it is the field `judgment` of the answer. What would change how the judge answers (`temperature`, `stop`, …) is refused unless it has the
value that the judge answers with anyway; what changes nothing (`user`, `metadata`, …) is taken.
"""

import time
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

from real_trl.engines import Judgment
from real_trl.serving.wire import Refused, RowReader, Score, parsed, shown_name
from real_trl.text.json_text import finite, to_json

_NO_EFFECT = frozenset(
    "user metadata store service_tier safety_identifier prompt_cache_key prompt_cache_retention parallel_tool_calls".split()
)
_READ = frozenset(("model", "messages", "row"))
_LONGEST = ("max_tokens", "max_completion_tokens")
# Name → the values that ask for what the judge does anyway
_ONLY: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "stream": (False,),
    "stream_options": (),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "stop": ([],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
    "verbosity": (),
    "web_search_options": (),
}


class ChatRequest(NamedTuple):
    """What a request asks: the judge's complete prompt, and the group of its row (see [`Judge.group`])."""

    prompt: str
    group: str | None


class ChatReader:
    """
    Turns the body of a chat completion's request into a prompt.

    Args:
        rows ([`RowReader`]):
            What reads the fields of `row`.
        name (`str`):
            What `model` has to be.

    Attributes:
        longest (`int`): Tokens that the judge writes at most, 0 if it writes nothing.
    """

    def __init__(self, rows: RowReader, name: str) -> None:
        self.rows, self.name = rows, name
        decoding = rows.judge.engine.decoding
        self._system, self.longest = decoding.system_prompt, decoding.max_new_tokens if decoding.rationale else 0
        greedy = not decoding.do_sample
        self._only = {
            **_ONLY,
            "temperature": (0 if greedy else decoding.temperature,),
            "top_p": (decoding.top_p,),
            "seed": (),
        }
        self._no_effect = _NO_EFFECT | {"seed", "top_p"} if greedy else _NO_EFFECT

    def read(self, body: bytes) -> ChatRequest:
        """
        The prompt of a request.

        Raises:
            [`Refused`]: with 400 if a field is wrong, missing or not supported, 404 if the model is another one, 413 if the prompt is too
                long. Its `field` is what OpenAI calls `param`.
        """
        try:
            return self._read(parsed(body))
        except Refused as error:
            error.status = 400 if error.status == 422 else error.status  # as OpenAI has it
            raise

    def _read(self, given: object) -> ChatRequest:
        if not isinstance(given, dict):
            raise Refused(400, 'the body is no object. Send {"model": …, "messages": […]}.', "body")
        self.rows.check_count(given, "the request")
        self._check_model(given.get("model"))
        for name, value in given.items():
            self._check_setting(name, value)
        messages, row = given.get("messages"), given.get("row")
        if row is None:
            return ChatRequest(self._prompt(messages), None)
        if messages not in (None, []):
            raise Refused(400, "row has all that the judge reads. Give messages=[], or no row.", "messages")
        return ChatRequest(self.rows.row(row, "row"), self.rows.judge.group(row))

    def _check_model(self, model: object) -> None:
        if model is None:
            raise Refused(400, f"there is none. Set it to {self.name!r}.", "model")
        if model != self.name:
            said = f"there is no model {str(model)[:100]!r} here. Set it to {self.name!r}."
            raise Refused(404, said, "model", code="model_not_found")

    def _check_setting(self, name: str, value: object) -> None:
        if value is None or name in _READ or name in self._no_effect:
            return
        if name in _LONGEST:
            if not isinstance(value, int) or value < self.longest:
                said = f"the judge writes up to {self.longest} tokens (max_new_tokens). Leave it out, or set it to no less."
                raise Refused(400, said, name, code="unsupported_value")
            return
        if name not in self._only:
            raise Refused(400, "there is no such field. Leave it out.", shown_name(name), code="unknown_parameter")
        if value not in self._only[name]:
            said = f"it is not supported. Leave it out{_or_set(self._only[name])}."
            raise Refused(400, said, name, code="unsupported_value")

    def _prompt(self, messages: object) -> str:
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            raise Refused(400, 'give a list of messages: [{"role": "user", "content": "…"}].', "messages")
        if len(messages) > 2:
            said = (
                f"got {len(messages)}, and a judge reads one user message, which is its whole prompt. Send that alone."
            )
            raise Refused(400, said, "messages")
        prompt = None
        for place, message in enumerate(messages):
            where, role = f"messages[{place}]", message.get("role")
            if role in ("system", "developer"):
                self._check_system(_text(message, where), where)
            elif role != "user":
                said = f"got {str(role)[:100]!r}, and a judge reads one user message, which is its whole prompt. Send that alone."
                raise Refused(400, said, f"{where}.role")
            elif prompt is not None:
                raise Refused(400, "a judge reads one user message, and this is the second. Send one.", where)
            else:
                try:
                    prompt = self.rows.row({"prompt": _text(message, where)}, "")
                except Refused as error:
                    error.field = f"{where}.content"
                    raise
        if prompt is None:
            raise Refused(
                400, "there is no user message. Give one, or the fields of the judge's prompt in row.", "messages"
            )
        return prompt

    def _check_system(self, text: str, where: str) -> None:
        if text != self._system:
            has = "has none" if self._system is None else "has another, which it gets in any case"
            raise Refused(400, f"the judge was made for one system message, and {has}. Leave it out.", where)


def _or_set(values: tuple[Any, ...]) -> str:
    """What a setting may be instead of left out."""
    return f", or set it to {' or '.join(to_json(each) for each in values)}" if values else ""


def _text(message: Mapping[str, Any], where: str) -> str:
    """The text of a message: its content, or that of its parts."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts: list[Any] = [
        part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in parts
    ]
    if not all(isinstance(text, str) for text in texts):
        raise Refused(400, "a judge reads text only. Give text, or parts of type text.", f"{where}.content")
    return "".join(texts)


def completion(judgment: Judgment, reader: ChatReader) -> dict[str, Any]:
    """The answer's JSON."""
    space = reader.rows.judge.engine.score_space
    said = judgment.completion
    if not said and judgment.sampled_score is not None:
        said = f"{space.marker}{space.label_of(judgment.sampled_score)}"
    score = Score.of(judgment)
    cut = judgment.status != "ok" and judgment.num_tokens >= reader.longest > 0
    tokens = {"prompt_tokens": score.tokens.prompt, "completion_tokens": score.tokens.completion}
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": reader.name,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": said, "refusal": None},
                "logprobs": None,
                "finish_reason": "length" if cut else "stop",
            }
        ],
        "usage": {**tokens, "total_tokens": sum(tokens.values())},
        "judgment": finite(score.model_dump()),
    }


def models(reader: ChatReader, since: int) -> dict[str, Any]:
    """OpenAI's list of models, which is the judge, with its scale and the fields of its prompt; `since` is a Unix time."""
    judge = reader.rows.judge
    scale = {"labels": list(judge.labels), "values": list(judge.values)}
    one = {"id": reader.name, "object": "model", "created": since, "owned_by": "real_trl"}
    return {"object": "list", "data": [{**one, "scale": scale, "fields": reader.rows.fields}]}
