# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""HTTP to an OpenAI-compatible server: retries, and errors that say what to do. The API key is in none of them."""

import logging
import os
import random
import re
import time
import weakref
from typing import Any

import httpx

from real_trl.engines.server_answer import (
    TRANSIENT,
    NoAnswer,
    StaysBusy,
    TooSlow,
    check_answer,
    is_too_long,
    kind_of,
    words_of,
)
from real_trl.text.redaction import redact_text

logger = logging.getLogger(__name__)

API_KEY_VARIABLE = "OPENAI_API_KEY"
_OF_THE_KEY = re.compile(
    r"\bkey\b|api[_-]?key|credential|authenti|authoriz|unauthor|\btoken (is )?(missing|invalid|expired)|(invalid|expired|missing) token",
    re.IGNORECASE,
)
_LONGEST_PAUSE = 30.0  # seconds
_LONGEST_WORDS = 500  # characters of what a server says


class ServerClient:
    """
    Posts to one server. It can be used by several threads.

    Args:
        base_url (`str`):
            Address of the API, e.g. `"http://127.0.0.1:8000/v1"`; `/v1` is added to an address without a path.
        model (`str`):
            Name under which the server knows the model.
        api_key (`str`, *optional*):
            Defaults to the environment variable `OPENAI_API_KEY`; without either, none is sent.
        timeout (`float`, *optional*, defaults to `600.0`):
            Seconds that one answer may take.
        max_retries (`int`, *optional*, defaults to `4`):
            How often a request is repeated that did not get through, or that the server was too busy for, with pauses
            that double from half a second on (or as the server says).
        answers_as (`str`, *optional*):
            Name of the model in the server's answers, where it is another than `model`. An answer of another model is none.

    Raises:
        `ValueError`: if the address or the key cannot be one.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        timeout: float = 600.0,
        max_retries: int = 4,
        answers_as: str | None = None,
    ) -> None:
        try:
            url = httpx.URL(base_url)
        except (httpx.InvalidURL, TypeError):
            url = httpx.URL("")
        if url.scheme not in {"http", "https"} or not url.host:
            raise ValueError("base_url: not an address. Set it to one such as http://127.0.0.1:8000/v1.")
        url = url.copy_with(path=url.path.rstrip("/") or "/v1")
        self.url = str(url.copy_with(userinfo=b"", query=None))  # for messages
        self.model, self.answers_as, self.max_retries = model, answers_as or model, max_retries
        self._key = (api_key or os.environ.get(API_KEY_VARIABLE) or "").strip()
        if not (self._key.isascii() and self._key.isprintable()) or " " in self._key:
            raise ValueError(
                f"api_key: holds characters that a key cannot have. Correct it, or the environment variable {API_KEY_VARIABLE}."
            )
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0)),
            limits=httpx.Limits(max_connections=None),
        )
        weakref.finalize(self, self._client.close)

    def model_entry(self) -> dict[str, Any]:
        """
        What the server says about the model; empty if it lists none.

        Raises:
            `ConnectionError`, `PermissionError`: see [`ServerClient.post`].
            `ValueError`: if the server has other models only; it names them.
        """
        try:
            answer = self._request("GET", "models", retries=min(self.max_retries, 1))
        except ValueError:  # not every server has this list
            return {}
        entries = {
            entry["id"]: entry for entry in answer.get("data") or [] if isinstance(entry, dict) and "id" in entry
        }
        if entries and self.model not in entries:
            raise ValueError(self._unknown_model(sorted(entries)))
        return entries.get(self.model, {})

    def post(self, path: str, payload: dict[str, Any], *, retries: int | None = None) -> dict[str, Any]:
        """
        The server's answer to a request, which holds a choice.

        Args:
            path (`str`):
                `"completions"` or `"chat/completions"`.
            payload (`dict[str, Any]`):
                The request, the model's name excepted.
            retries (`int`, *optional*):
                Defaults to `max_retries`.

        Raises:
            `ConnectionError`: if no server answers; [`StaysBusy`] if it stays too busy.
            [`TooSlow`]: if the answer takes longer than `timeout`.
            `PermissionError`: if the server does not accept the key.
            `ValueError`: if the server does not know the model; [`NoAnswer`] if it refuses the request otherwise (a prompt that is
                too long, a content filter, a parameter), or if what it sends is no answer.
        """
        return self._request("POST", path, {"model": self.model, **payload}, retries=retries)

    def _request(
        self, method: str, path: str, payload: dict[str, Any] | None = None, *, retries: int | None = None
    ) -> dict[str, Any]:
        retries = self.max_retries if retries is None else retries
        reason: Exception | str
        for attempt in range(retries + 1):
            pause = min(0.5 * 2**attempt, _LONGEST_PAUSE) * random.uniform(0.75, 1.25)
            try:
                response = self._client.request(method, path, json=payload)
            except httpx.ConnectTimeout as error:
                reason = error
            except httpx.TimeoutException as error:
                raise TooSlow(
                    f"{self.url} did not answer within the timeout of {self._client.timeout.read:g} s. Raise timeout, or lower "
                    "max_concurrency or max_new_tokens."
                ) from error
            except httpx.TransportError as error:
                reason = error
            else:
                pause = max(pause, min(_retry_after(response), _LONGEST_PAUSE))
                if response.status_code in TRANSIENT:
                    reason = f"status {response.status_code}: {self._words(response)}"
                else:
                    try:
                        return self._checked(response, check=method == "POST")
                    except NoAnswer as error:
                        if error.about != "busy":
                            raise
                        reason = error
            if attempt < retries:
                logger.info("%s: %s; once more in %.1f s", self.url, reason, pause)
                time.sleep(pause)
        if isinstance(reason, (httpx.ConnectError, httpx.ConnectTimeout)):
            raise ConnectionError(
                f"base_url: no server answers at {self.url} ({type(reason).__name__}: {reason}). Start one, for instance with "
                f"`vllm serve {self.model} --port 8000`, or correct the address."
            ) from reason
        if isinstance(reason, NoAnswer):
            raise reason
        if isinstance(reason, httpx.TransportError):
            reason = f"a broken connection ({type(reason).__name__}: {reason})"
        raise StaysBusy(
            f"{self.url} refused {attempt + 1} times with {reason}. Lower max_concurrency, or try later."
        ) from None

    def _checked(self, response: httpx.Response, *, check: bool) -> dict[str, Any]:
        """The body, if it is an answer; with `check`, to a request for a completion."""
        status, answer, words = response.status_code, _json(response), self._words(response)
        if status == 401 or (status == 403 and (_OF_THE_KEY.search(words) or not response.text.strip())):
            raise self._not_accepted(f" (status {status})", words)
        if status == 404 and "model" in words.lower():
            raise ValueError(self._unknown_model(None, words))
        if status >= 400 and is_too_long(words):
            raise NoAnswer(
                f"The prompt and its completion are too long for the server. It says: {words}. Shorten the prompt, lower "
                "max_new_tokens, or start the server with a longer context.",
                "prompt",
            )
        if status != 200:
            about = kind_of(answer if answer is not None else words)
            about = "server" if about == "busy" else about  # its status says that it is not
            refusal = NoAnswer(f"{self.url} refused the request with status {status}. It says: {words}", about)
        elif not isinstance(answer, dict):
            refusal = NoAnswer(f"base_url: {self.url} does not speak the OpenAI API. It says: {words}")
        elif not check:
            return answer
        else:
            try:
                check_answer(answer, self.answers_as)
                return answer
            except NoAnswer as error:
                words = self._masked(str(error))
                refusal = NoAnswer(words, error.about)
        if refusal.about == "key":
            raise self._not_accepted("", words)
        if refusal.about == "model":
            raise ValueError(self._unknown_model(None, words))
        raise refusal

    def _not_accepted(self, status: str, words: str) -> PermissionError:
        state = "was not accepted" if self._key else "is missing"
        says = f" It says: {words}" if words else ""
        return PermissionError(
            f"{self.url}: the API key {state}{status}. Put it into the environment variable {API_KEY_VARIABLE}.{says}"
        )

    def _words(self, response: httpx.Response) -> str:
        """What the server says, cut to a readable length, without the key, which some servers repeat."""
        answer = _json(response)
        return self._masked(words_of(response.text if answer is None else answer))

    def _masked(self, words: str) -> str:
        return redact_text(words, self._key)[:_LONGEST_WORDS]

    def _unknown_model(self, known: list[str] | None, words: str = "") -> str:
        if known is None:
            return f"model: {self.url} does not know {self.model!r}. It says: {words}"
        shown = ", ".join(known[:20]) + (" …" if len(known) > 20 else "")
        return f"model: {self.url} does not serve {self.model!r}. Set it to one of: {shown}."


def _json(response: httpx.Response) -> Any:
    """The body, `None` if it is no JSON."""
    try:
        return response.json()
    except ValueError:
        return None


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks to wait, 0 if it does not say."""
    try:
        return float(response.headers.get("retry-after", 0))
    except ValueError:  # a date
        return 0.0
