# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The demo answers its page, and takes no files by any door."""

import asyncio
import json

import httpx
import pytest
from starlette.responses import PlainTextResponse

from real_trl import Judge
from real_trl.serving.guard import Guard
from real_trl.serving.page_requests import PageRequests
from real_trl.serving.sockets import bind
from tests.helpers.served_judges import save_judge
from tests.tiny import LINES, PROMPT

FILE = {"path": "x", "url": "http://127.0.0.1:9/x", "meta": {"_type": "gradio.FileData"}}
MULTIPART = {"files": {"files": ("a.txt", b"contents", "text/plain")}}
JOIN = {"data": [PROMPT, LINES[0], ""], "fn_index": 0, "session_hash": "mine", "event_data": None, "trigger_id": 9}
REFUSED = [
    *(("POST", f"/gradio_api/{name}", MULTIPART, 403) for name in (
        "upload", "upload/", "process_recording", "component_server", "stream/1", "vibe-code", "run/other")),
    ("POST", "/upload", MULTIPART, 403),
    ("PUT", "/gradio_api/queue/join/x", {"content": b"x"}, 403),
    ("POST", "/gradio_api/queue/join", MULTIPART, 400),
    ("POST", "/gradio_api/queue/join", {"json": {**JOIN, "data": [PROMPT, FILE, ""]}}, 422),
    ("POST", "/gradio_api/run/score", {"json": {"data": [PROMPT, [FILE], ""]}}, 422),
    ("POST", "/gradio_api/run/score", {"json": {"data": FILE}}, 422),
    ("POST", "/gradio_api/call/v2/score", {"json": {"instruction": PROMPT, "response": FILE}}, 422),
    ("POST", "/gradio_api/queue/join", {"json": [1]}, 422),
    ("POST", "/gradio_api/queue/join", {"content": b"[" * 100_000}, 400),
    ("GET", "/gradio_api/proxy=http://127.0.0.1:9/x", {}, 403),
    ("GET", "/gradio_api/upload_progress?upload_id=1", {}, 403),
]  # fmt: skip


def test_files_are_refused_and_texts_passed_on():
    async def behind(scope, receive, send):
        body = (await receive())["body"]
        await PlainTextResponse(body)(scope, receive, send)

    async def ask():
        app = Guard(PageRequests(behind), key=None, max_body_bytes=200_000, body_timeout=5, max_held_bytes=10**6)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://page") as client:
            for method, path, request, status in REFUSED:
                answer = await client.request(method, path, **request)
                assert (answer.status_code, answer.json()["error"]["status"]) == (status, status), path
            assert (await client.post("/gradio_api/queue/join", json=JOIN)).json() == JOIN
            assert (await client.post("/gradio_api/cancel", json={"session_hash": "mine"})).status_code == 200
            assert (await client.get("/assets/index.js")).status_code == 200

    asyncio.run(ask())


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    pytest.importorskip("gradio", reason="needs the extra demo")
    from real_trl.serving.demo_page import build_page, launch

    folder = save_judge(tmp_path_factory.mktemp("judge"))
    judge = Judge.from_pretrained(folder, do_sample=False, max_new_tokens=20)
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    page = build_page(judge, "tiny")
    launch(page, "127.0.0.1", port)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        yield judge, client
    page.close()


@pytest.mark.integrations
def test_the_real_page_answers_and_takes_no_files(page):
    judge, client = page
    assert client.get("/").status_code == client.get("/config").status_code == 200
    for method, path, request, status in REFUSED:
        assert client.request(method, path, **request).status_code == status, path
    # As the page does it
    assert client.post("/gradio_api/queue/join", json=JOIN).status_code == 200
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": "mine"}) as stream:
        messages = (json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: "))
        done = next(message for message in messages if message["msg"] == "process_completed")
    expected = judge.score(instruction=PROMPT, response=LINES[0])
    assert done["success"] and done["output"]["data"][1] == expected.rationale
    assert f"{expected.expected_score:.4g}" in done["output"]["data"][0]


@pytest.mark.integrations
def test_the_real_page_refuses_a_prompt_of_too_many_bytes(page):
    judge, client = page
    judge.engine.judge = None  # it is not asked
    response = "right " * (6 * judge.engine.context_length)
    answer = client.post("/gradio_api/run/score", json={"data": [PROMPT, response, ""]}).json()
    assert "are read (max_prompt_bytes" in answer["data"][0]
