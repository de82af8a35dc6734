# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The service over real sockets: answers, refusals, clients that misbehave, load, and its end."""

import json
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from benchmarks import serve as benchmark
from real_trl import Judge
from real_trl.scripts import serve
from real_trl.serving.app import Limits, create_app
from real_trl.serving.batching import Batcher
from real_trl.serving.server import Server
from real_trl.serving.sockets import bind, url_of
from tests.helpers.served_judges import save_judge, started
from tests.serving.test_batching import SETTINGS, GatedJudge
from tests.tiny import LINES, PROMPT

KEY = "a-key-of-the-tests"
ROWS = [{"instruction": PROMPT, "response": "\n".join(LINES[: n + 1])} for n in range(3)]
LIMITS = Limits(max_body_bytes=20_000, max_rows=4, max_waiting=8, request_timeout=30, body_timeout=0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_judge(tmp_path_factory.mktemp("judge"))


@contextmanager
def service(folder, limits=LIMITS, key=None, settings=SETTINGS, **connections):
    """A judge that can be held up, and a client of its service."""
    judge = GatedJudge.from_pretrained(folder, **settings)
    listener, batcher = bind("127.0.0.1", 0), Batcher(judge, batch_size=4, max_waiting=limits.max_waiting)
    server = Server(create_app(judge, batcher, "tiny", limits, key), batcher, grace=0, **connections)
    thread = threading.Thread(target=server.serve_until_stopped, args=[listener])
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        with httpx.Client(base_url=url_of(listener), timeout=60) as client:
            yield judge, client
    finally:
        judge.gate.set()
        server.should_exit = True
        thread.join(60)
        listener.close()
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def open_service(folder):
    with service(folder) as pair:
        yield pair


@pytest.fixture
def client(open_service):
    yield open_service[1]
    # Whatever the test did, the service still answers
    assert open_service[1].post("/score", json=ROWS[0]).status_code == 200


def test_a_row_and_several(client, folder):
    judge = Judge.from_pretrained(folder, **SETTINGS)
    answers = [
        client.post("/score", json=ROWS[0]).json(),
        *client.post("/score", json={"rows": ROWS}).json()["scores"],
    ]
    for answer, expected in zip(answers, judge.score([ROWS[0], *ROWS]), strict=True):
        assert answer["expected_score"] == pytest.approx(expected.expected_score, abs=1e-5)
        assert list(answer["probabilities"]) == ["1", "2", "3", "4", "5"]
        assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
        assert answer["spread"] == pytest.approx(expected.spread, abs=1e-5)
        assert answer["tokens"] == {"prompt": expected.prompt_tokens, "completion": expected.num_tokens}
        for name in ("sampled_score", "most_likely_score", "rationale", "status"):
            assert answer[name] == getattr(expected, name)


def test_health_and_description(client):
    health = client.get("/health").json()
    assert health["ready"] and health["judge"] == "tiny" and health["fields"] == ["instruction", "response", "rubric"]
    assert health["scale"] == {"labels": list("12345"), "values": [1.0, 2.0, 3.0, 4.0, 5.0]}
    described = client.get("/openapi.json").json()["paths"]["/score"]["post"]
    rows = described["requestBody"]["content"]["application/json"]["schema"]["properties"]["rows"]
    assert "response" in rows["anyOf"][0]["items"]["properties"]


@pytest.mark.parametrize(
    ("request_", "status", "field"),
    [
        ({"content": b"{"}, 400, None),
        ({"json": {**ROWS[0], "response": 3}}, 422, "response"),
        ({"json": {"instruction": PROMPT}}, 422, "response"),
        ({"json": {"rows": ROWS * 2}}, 413, "rows"),
        ({"json": {**ROWS[0], "response": "right " * 300}}, 413, "prompt"),
        ({"json": {**ROWS[0], "response": "x" * 30_000}}, 413, "body"),
        ({"content": b"x" * 5_000_000}, 413, "body"),
        ({"content": (b"x" * 1000 for _ in range(5000))}, 413, "body"),  # in pieces, without saying how much comes
        ({"json": ROWS[0], "headers": {"Content-Type": "text/plain"}}, 415, "Content-Type"),
    ],
)
def test_refusals(client, request_, status, field):
    request_ = {**request_, "headers": {"Content-Type": "application/json", **request_.get("headers", {})}}
    response = client.post("/score", **request_)
    error = response.json()["error"]
    assert (response.status_code, error["status"], error["field"]) == (status, status, field)
    assert error["message"].rstrip().endswith(".")


def test_other_addresses(client):
    for method, path, status in (
        ("GET", "/", 404),
        ("GET", "/score", 405),
        ("POST", "/health", 405),
        ("GET", "/docs", 404),
    ):
        response = client.request(method, path)
        assert response.status_code == status and "POST /score" in response.json()["error"]["message"]


def test_a_body_that_does_not_come_gets_408(client):
    with socket.create_connection((client.base_url.host, client.base_url.port)) as slow:
        slow.sendall(
            b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"
        )
        slow.settimeout(30)
        assert b" 408 " in slow.recv(1000)


def test_who_hangs_up_leaves_the_queue_and_disturbs_nobody(open_service):
    judge, client = open_service
    judge.hold()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.post, "/score", json=ROWS[0])
        assert judge.entered.wait(60)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{client.base_url}/score", json={"rows": [ROWS[1]] * 4}, timeout=httpx.Timeout(60, read=0.3))
        end = time.monotonic() + 30
        while client.get("/health").json()["waiting"] and time.monotonic() < end:
            time.sleep(0.05)
        assert client.get("/health").json()["waiting"] == 0
        second = pool.submit(client.post, "/score", json=ROWS[2])
        before = len(judge.batches)
        judge.gate.set()
        assert first.result(60).status_code == second.result(60).status_code == 200
    assert judge.batches[before:] == [judge.prompts([ROWS[2]])]  # and the engine had no work for it


def test_too_many_get_503_with_a_time(open_service):
    judge, client = open_service
    judge.hold()
    with ThreadPoolExecutor(3) as pool:
        accepted = [pool.submit(client.post, "/score", json=ROWS[0])]
        assert judge.entered.wait(60)
        accepted += [pool.submit(client.post, "/score", json={"rows": [ROWS[1]] * 4}) for _ in range(2)]
        end = time.monotonic() + 30
        while client.get("/health").json()["waiting"] < 8 and time.monotonic() < end:
            time.sleep(0.05)
        refused = client.post("/score", json=ROWS[2])
        assert refused.status_code == 503 and int(refused.headers["Retry-After"]) >= 1
        assert "8 prompts are waiting" in refused.json()["error"]["message"]
        judge.gate.set()
        assert [future.result(60).status_code for future in accepted] == [200, 200, 200]


def test_what_takes_too_long_gets_504(folder):
    with service(folder, Limits(request_timeout=2)) as (judge, client):
        judge.hold()
        response = client.post("/score", json=ROWS[0])
        assert response.status_code == 504 and "within 2 s" in response.json()["error"]["message"]
        judge.gate.set()
        # The next may still be too late for it on a slow machine, but not all of them
        assert any(client.post("/score", json=ROWS[0]).status_code == 200 for _ in range(20))


def test_the_key_is_needed(folder):
    with service(folder, key=KEY) as (_, client):
        for headers in ({}, {"Authorization": "Bearer no"}, {"Authorization": KEY}, {"Authorization": f"Basic {KEY}"},
                        {"Authorization": f"Bearer {KEY}x"}, {"Authorization": b"Bearer \xe9"}):  # fmt: skip
            response = client.post("/score", json=ROWS[0], headers=headers)
            assert response.status_code == 401 and response.headers["WWW-Authenticate"] == "Bearer"
            assert KEY not in response.text
        assert client.get("/openapi.json").status_code == 401
        health = client.get("/health")
        assert health.status_code == 200 and KEY not in health.text
        assert client.post("/score", json=ROWS[0], headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
        assert client.post("/score", json=ROWS[0], headers={"Authorization": f"bearer {KEY}"}).status_code == 200


@pytest.mark.slow
def test_under_load(folder, tmp_path, capsys):
    """The benchmark, shortly: the real process with a key, clients, and others that send what has to be refused."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    options = "--clients 1 12 --seconds 1 4 --disturbances 4 --warm_seconds 0.5 --json"
    benchmark.main(
        ["--judge", str(folder), "--rows", str(rows), *options.split()]
    )  # raises if an answer was wrong or lost
    *_, last = capsys.readouterr().out.splitlines()
    runs = json.loads(last)["runs"]
    assert all(run["answers"] > 0 and not run["errors"] and not run["wrong"] for run in runs)
    assert "broken JSON: 400" in runs[1]["refused"] and "wrong type: 422" in runs[1]["refused"]


def test_stopped_it_answers_everybody_and_tells_nobody_the_key(folder):
    options = f"--judge {folder} --port 0 --batch_size 1 --max_rows 200 --max_waiting 800 --shutdown_timeout 0".split()
    with started("serve", "Serving ", *options, REAL_TRL_API_KEY=KEY) as (process, line):
        output = [line]
        reader = threading.Thread(target=lambda: output.extend(process.stdout))
        reader.start()
        url, key = line.split(" at ")[1].split()[0], {"Authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=url, timeout=60) as client, ThreadPoolExecutor(4) as pool:

            def health():
                while True:
                    try:
                        return client.get("/health").json()
                    except httpx.ConnectError:
                        assert process.poll() is None
                        time.sleep(0.1)

            assert health()["ready"]
            assert client.post("/score").status_code == 401
            assert client.post("/score", json={"prompt": ""}, headers=key).status_code == 422
            assert client.post("/score", json=ROWS[0], headers=key).status_code == 200
            futures = [
                pool.submit(client.post, "/score", json={"rows": ROWS[:1] * 200}, headers=key) for _ in range(4)
            ]
            # Whoever comes after the signal finds nobody listening, so all four have to be there; 600 rows are three
            while health()["waiting"] <= 600:
                assert not any(future.done() for future in futures)
            process.send_signal(signal.SIGTERM)
            responses = [future.result(60) for future in futures]
        assert process.wait(60) == 0
        reader.join(60)
        for response in responses:
            assert response.status_code == 503 and "shutting down" in response.text and response.headers["Retry-After"]
    text = "".join(output)
    assert '"POST /score HTTP/1.1" 401' in text and KEY not in text and "Traceback" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--judge", "./nowhere"], "the directory './nowhere' does not exist"),
        (["--judge", "./nowhere", "--port", "70000"], "port: got 70000"),
        (["--judge", "./nowhere", "--host", "no.such.host.invalid"], "host: got 'no.such.host.invalid'"),
        (["--judge", "./nowhere", "--api_key_env", "NO_SUCH_VARIABLE"], "api_key_env: the environment variable NO_SUCH"),
        (["--judge", "./nowhere", "--max_rows", "0"], "max_rows: got 0"),
        (["--judge", "./nowhere", "--max_rows", "300"], "no more than max_waiting=256 may wait"),
        (["--judge", "./nowhere", "--shutdown_timeout", "-1"], "shutdown_timeout: got -1.0"),
        (["--judge", "./nowhere", "--prot", "1"], "Did you mean '--port'?"),
    ],
)  # fmt: skip
def test_options_are_checked_before_anything_is_loaded(options, message, capsys, monkeypatch):
    monkeypatch.delenv("REAL_TRL_API_KEY", raising=False)
    with pytest.raises(SystemExit) as stopped:
        serve.main([*options, *([] if "--port" in options else ["--port", "0"])])
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_a_taken_port_and_an_impossible_key(capsys, monkeypatch):
    with bind("127.0.0.1", 0) as listener:
        listener.listen()
        port = str(listener.getsockname()[1])
        with pytest.raises(SystemExit):
            serve.main(["--judge", "./nowhere", "--port", port])
    assert f"port: 127.0.0.1:{port} cannot be used" in capsys.readouterr().err
    for key in ("", "two words", "line\nbreak", "clé"):
        monkeypatch.setenv("REAL_TRL_API_KEY", key)
        with pytest.raises(SystemExit):
            serve.main(["--judge", "./nowhere", "--port", "0"])
        error = capsys.readouterr().err
        assert "environment variable REAL_TRL_API_KEY" in error and (not key or key not in error)
