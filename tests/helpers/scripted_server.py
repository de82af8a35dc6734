# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Answers of an OpenAI-compatible server that are made up, to see what becomes of impossible ones."""

import copy
import math
import threading
from collections.abc import Callable
from typing import Any

from tests.helpers.tiny_server import MODEL_NAME

PIECES = ["Fine", ".", " So", " the", " overall", " score", " is", " ", "4"]
SCORE = len(PIECES) - 1
PROBABILITIES = {"4": 0.6, "3": 0.2, "5": 0.1, "2": 0.05, "1": 0.02}


def chat_answer() -> dict[str, Any]:
    """A chat API's answer of a judge that says 4, with the distribution `PROBABILITIES`."""
    entries = []
    for place, piece in enumerate(PIECES):
        top = PROBABILITIES if place == SCORE else {piece: 0.9, " other": 0.05}
        best = [{"token": name, "logprob": math.log(p), "bytes": list(name.encode())} for name, p in top.items()]
        entries.append({**best[0], "top_logprobs": best})
    return {
        "model": MODEL_NAME,
        "choices": [
            {
                "message": {"role": "assistant", "content": "".join(PIECES)},
                "logprobs": {"content": entries},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": len(PIECES)},
    }


def text_answer() -> dict[str, Any]:
    """The same of the completions API."""
    answer = chat_answer()
    choice = answer["choices"][0]
    entries = choice.pop("logprobs")["content"]
    choice["text"] = choice.pop("message")["content"]
    choice["logprobs"] = {
        "tokens": [entry["token"] for entry in entries],
        "token_logprobs": [entry["logprob"] for entry in entries],
        "top_logprobs": [{each["token"]: each["logprob"] for each in entry["top_logprobs"]} for entry in entries],
    }
    return answer


def changed(answer: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """A copy of an answer after `change(answer)`."""
    answer = copy.deepcopy(answer)
    change(answer)
    return answer


class ScriptedServer:
    """For [`~tests.helpers.tiny_server.serve`]: `behaviour(prompt, number of the request)` gives a body, or status and body."""

    def __init__(self, behaviour: Callable[[str, int], Any], models: tuple[str, ...] = (MODEL_NAME,)) -> None:
        self.behaviour, self.models = behaviour, models
        self.failures, self.requests, self.bodies = [], [], []
        self.busy = self.busiest = self.asked = 0
        self.lock = threading.Lock()

    def answer(self, path: str, authorization: str | None, body: dict | None) -> tuple[int, Any]:
        if path == "/v1/models":
            return 200, {"data": [{"id": name} for name in self.models]}
        with self.lock:
            self.asked += 1
            number = self.asked
        prompt = body["messages"][0]["content"] if "messages" in body else body["prompt"]
        answer = self.behaviour(prompt, number)
        return answer if isinstance(answer, tuple) else (200, answer)
