# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A model or dataset on the Hub, where the Hub cannot be reached: said at once, and what is in the cache is used."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import datasets
import pytest
from huggingface_hub import constants

from real_trl.data.sources import HubUnreachable, read_source
from real_trl.weights import hub
from real_trl.weights.pretrained import load_tokenizer

SECONDS = 10  # the Hub's libraries take 30 for a file


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_unreachable", None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # where nobody listens


@pytest.fixture
def server() -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(404)  # it is there, whatever it says
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    listening = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    listening.server_close()


def test_a_model_without_a_network_is_refused_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(ValueError, match="'someone/no-such-judge'.*http://127.0.0.1:9 cannot be reached") as refused:
        load_tokenizer("someone/no-such-judge", None, False)
    assert time.monotonic() - started < SECONDS
    assert "hf download someone/no-such-judge" in str(refused.value) and "HF_HUB_OFFLINE=1" in str(refused.value)


def test_a_dataset_without_a_network_is_refused_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(
        HubUnreachable, match="'someone/no-such-data'.*http://127.0.0.1:9 cannot be reached.*HF_HUB_OFFLINE=1"
    ):
        read_source("someone/no-such-data", None, "train", {})
    assert time.monotonic() - started < SECONDS


def test_the_next_call_looks_again(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.look_for_hub("someone/judge")
    assert (
        constants.HF_HUB_OFFLINE
        and datasets.config.HF_HUB_OFFLINE
        and "cannot be reached" in (hub.why_offline() or "")
    )
    monkeypatch.setattr(constants, "ENDPOINT", server)
    hub.look_for_hub("someone/judge")
    assert not constants.HF_HUB_OFFLINE and not datasets.config.HF_HUB_OFFLINE and hub.why_offline() is None


def test_who_said_offline_is_not_overruled(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", server)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.look_for_hub("someone/judge")
    assert constants.HF_HUB_OFFLINE and hub.why_offline() == "HF_HUB_OFFLINE is set"
