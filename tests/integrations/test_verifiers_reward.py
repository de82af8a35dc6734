# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`VerifiersJudge` in real episodes of verifiers, whose model is a service on the loopback address that recites."""

import asyncio
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec

import pytest

from tests.integrations.judges import (
    INSTRUCTIONS,
    RESPONSES,
    RUBRIC,
    SETTINGS,
    TOO_LONG,
    Watched,
    own_judgments,
    save_judge,
)
from tests.tiny import PROMPT

pytestmark = [
    pytest.mark.integrations,
    pytest.mark.skipif(find_spec("verifiers") is None, reason="verifiers is not installed: make test-adapters"),
]
os.environ |= {"PRIME_DISABLE_VERSION_CHECK": "1", "DO_NOT_TRACK": "1"}
ANSWERS = dict(zip(INSTRUCTIONS, RESPONSES, strict=True)) | {PROMPT: TOO_LONG}

TASKSET = """
import httpx
import verifiers.v1 as vf

QUALITY = None  # the test's judge


class Data(vf.TaskData):
    rubric: str


class Homework(vf.Task[Data]):
    @vf.reward(weight=2.0)
    async def twice(self, trace: vf.Trace) -> float:
        return await QUALITY(self.data, trace)


class Plugged(vf.Taskset[Homework]):
    def load(self):
        for text, rubric in ROWS:
            yield Homework(Data(prompt=text, rubric=rubric), self.config.task)


class OneCall(vf.Harness[vf.HarnessConfig]):
    NEEDS_CONTAINER = EXECUTES_CODE = False

    async def launch(self, ctx, trace, runtime, endpoint, secret, mcp_urls, data):
        body = {"model": "recite", "messages": [{"role": "user", "content": data.prompt}]}
        async with httpx.AsyncClient() as client:
            answer = await client.post(
                f"{endpoint}/chat/completions", json=body, headers={"Authorization": f"Bearer {secret}"}, timeout=60
            )
        answer.raise_for_status()
        return vf.ProgramResult(exit_code=0, stdout="", stderr="")


__all__ = ["Plugged", "OneCall"]
"""


class Recites(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = {"role": "assistant", "content": ANSWERS[body["messages"][-1]["content"]]}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        answer = {"id": "1", "object": "chat.completion", "created": 0, "model": "recite", "choices": [choice]}
        data = json.dumps({**answer, "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def url():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Recites)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def test_ten_episodes_and_one_that_has_no_score(tmp_path, monkeypatch, url):
    import verifiers.v1 as vf
    from verifiers.v1.utils.loaders import load_environment, resolve_env_config

    from real_trl.integrations import VerifiersJudge

    folder = save_judge(tmp_path / "judge")
    judge = Watched.from_pretrained(folder, do_sample=False, **SETTINGS)
    (tmp_path / "homework_env.py").write_text(TASKSET)
    monkeypatch.syspath_prepend(str(tmp_path))
    import homework_env

    homework_env.ROWS = [(text, RUBRIC) for text in ANSWERS]
    homework_env.QUALITY = VerifiersJudge(judge, name="quality")
    plugged = {"rewards": {"quality": {"fn": "homework_env:QUALITY"}}}
    config = {"taskset": {"id": "homework-env", "task": plugged}, "agent": {"runtime": {"type": "subprocess"}}}
    env = load_environment(resolve_env_config(config))
    client = vf.EvalClientConfig(base_url=url, api_key_var="NO_KEY")
    monkeypatch.setenv("NO_KEY", "none")

    async def run():
        context = vf.ModelContext(model="recite", client=client, sampling=vf.SamplingConfig())
        async with env.serving():
            return await asyncio.gather(*(env.run_episode(task, context) for task in env.taskset))

    *episodes, last = asyncio.run(run())
    del sys.modules["homework_env"]
    for episode, own in zip(episodes, own_judgments(folder), strict=True):
        (trace,) = episode.traces
        assert episode.ok, trace.errors
        reward = (own.expected_score - 1) / 4
        assert trace.rewards["quality"].score == pytest.approx(reward, abs=1e-4)
        assert trace.reward == pytest.approx(3 * reward, abs=1e-4)  # and twice the same from the task's own
        assert trace.metrics["quality_expected_score"] == pytest.approx(own.expected_score, abs=1e-4)
        assert trace.info["quality"]["explanation"] == own.rationale
    (trace,) = last.traces
    assert not last.ok and trace.rewards["quality"] is None and "tokens" in str(trace.errors[-1].message)
    assert trace.info["quality"]["status"] == "too_long"
    assert sum(judge.sizes) == 20 and len(judge.sizes) < 20
