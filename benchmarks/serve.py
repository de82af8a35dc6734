# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
`real-trl serve` under load: throughput and latencies at 1, 16 and 64 clients, and whether every answer is right.

    python -m benchmarks.serve --judge outputs/quickstart/seed-0/real --seconds 20 20 120

    python -m benchmarks.serve --judge outputs/quickstart/seed-0/real --hostile

Starts the real service on a free port of the loopback address. Each client sends one row at a time and the next when it has its
answer, which is compared with what `Judge` says directly, greedily, one row at a time. In the last run others
send meanwhile what the service has to refuse (broken JSON, wrong types, too much, prompts that are too long, no key) or hang up. Prints
requests a second, latencies, errors, wrong answers and the service's resident memory; `--json` ends with one line of JSON.

With `--hostile` there are 64 clients for two minutes, beside 160 sockets that say nothing, 160 that have sent half a head or half a
body, and 24 requests of a megabyte at a time. An error or a wrong answer, a `/health`
that takes longer than `--health_seconds`, or memory that has grown by more than 64 MiB in the second half, ends with status 1.
"""

import argparse
import asyncio
import gc
import itertools
import json
import os
import secrets
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import torch

from benchmarks.common import describe_machine
from benchmarks.hostile import Attack
from real_trl.data.homework import make_dataset
from real_trl.judge import Judge
from real_trl.serving.wire import Score
from real_trl.text.json_text import to_json

ANSWERED = ("rationale", "status", "sampled_score", "most_likely_score", "tokens")
MEASURED = ("expected_score", "spread", "mass")
TOLERANCE = 1e-4  # of probabilities: the same row in another batch is added up in another order


@contextmanager
def running_service(judge: str, key: str, *options: str) -> Iterator[tuple[str, psutil.Process]]:
    """A service on a free port: its address and process. It is stopped, and has to end with status 0."""
    command = [sys.executable, "-m", "real_trl.scripts.serve", "--model", judge, "--port", "0", *options]
    environment = {**os.environ, "REAL_TRL_API_KEY": key}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as service:
        try:
            line = next((line for line in service.stdout if line.startswith("Serving ")), None)
            if line is None:
                raise SystemExit(f"the service did not start: {' '.join(command)}")
            url = line.split(" at ")[1].split()[0]
            # The lines of its access log must not fill the pipe
            sink = subprocess.Popen(["cat"], stdin=service.stdout, stdout=subprocess.DEVNULL)
            service.stdout.close()
            while True:
                try:
                    if httpx.get(f"{url}/health").json()["ready"]:
                        break
                except httpx.ConnectError:
                    time.sleep(0.1)
            yield url, psutil.Process(service.pid)
        finally:
            service.send_signal(signal.SIGTERM)
            status = service.wait(60)
            sink.wait(10)
    if status != 0:
        raise SystemExit(f"the service ended with status {status}")


def wrong(answer: dict[str, Any], expected: dict[str, Any]) -> float | None:
    """The largest difference of two scores' figures; `None` if they differ in more than that."""
    if any(answer[name] != expected[name] for name in ANSWERED):
        return None
    pairs = [(answer[name], expected[name]) for name in MEASURED]
    pairs += [(answer["probabilities"][label], p) for label, p in expected["probabilities"].items()]
    return max(abs(a - b) for a, b in pairs)


class Load:
    """
    Clients, for some seconds.

    Args:
        url (`str`):
            The service.
        key (`str`):
            Its key.
        rows (`Sequence[dict]`):
            What they send.
        expected (`Sequence[dict]`):
            The answers.
    """

    def __init__(self, url: str, key: str, rows: Sequence[dict[str, Any]], expected: Sequence[dict[str, Any]]) -> None:
        self.url, self.key, self.headers = url, key, {"Authorization": f"Bearer {key}"}
        self.rows, self.expected = rows, expected
        self.latencies: list[float] = []
        self.errors: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.num_wrong, self.largest_difference = 0, 0.0
        self._next = itertools.count()

    async def run(
        self, num_clients: int, seconds: float, disturbances: float, process: psutil.Process, hostile: bool = False
    ) -> dict[str, Any]:
        """The figures of one run."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=num_clients)
        memory = [process.memory_info().rss]
        async with httpx.AsyncClient(base_url=self.url, timeout=120, limits=limits) as http:
            started, cpu = time.perf_counter(), _cpu_seconds(process)
            end = started + seconds
            work = [self._client(http, end) for _ in range(num_clients)]
            work += [self._disturb(end, disturbances)] if disturbances else []
            attack = Attack(self.url, self.key, end) if hostile else None
            work += [attack.run()] if attack else []
            work += [self._watch(process, memory, end, seconds / 10)]
            await asyncio.gather(*work)
            taken, cpu = time.perf_counter() - started, _cpu_seconds(process) - cpu
        ordered = sorted(self.latencies)
        return {
            "clients": num_clients,
            "seconds": taken,
            "answers": len(ordered),
            "answers_a_second": len(ordered) / taken,
            "answers_a_cpu_second": len(ordered) / cpu,
            "latency_ms": {
                "median": 1000 * statistics.median(ordered),
                "p95": 1000 * ordered[int(0.95 * (len(ordered) - 1))],
                "largest": 1000 * ordered[-1],
            },
            "errors": dict(self.errors),
            "wrong": self.num_wrong,
            "largest_difference": self.largest_difference,
            "refused": dict(sorted(self.refusals.items())),
            "memory_mib": [round(rss / 2**20, 1) for rss in memory],
        } | ({"hostile": attack.figures()} if attack else {})

    async def _client(self, http: httpx.AsyncClient, end: float) -> None:
        while time.perf_counter() < end:
            row = next(self._next) % len(self.rows)
            started = time.perf_counter()
            try:
                response = await http.post("/score", json=self.rows[row], headers=self.headers)
            except httpx.HTTPError as error:
                self.errors[type(error).__name__] += 1
                continue
            self.latencies.append(time.perf_counter() - started)
            if response.status_code != 200:
                self.errors[str(response.status_code)] += 1
                continue
            difference = wrong(response.json(), self.expected[row])
            self.num_wrong += difference is None or difference > TOLERANCE
            self.largest_difference = max(self.largest_difference, difference or 0.0)

    async def _disturb(self, end: float, rate: float) -> None:
        """Requests that have to be refused, each with its status, and clients that hang up, in turns."""
        row = self.rows[0]
        text = next(name for name, value in row.items() if isinstance(value, str))
        kinds = {
            "broken JSON": (400, {"content": b'{"prompt": '}),
            "wrong type": (422, {"json": {**row, text: 5}}),
            "unknown field": (422, {"json": {**row, "respones": "x"}}),
            "body too large": (413, {"content": b'{"prompt": "' + b"x" * 2**21 + b'"}'}),
            "prompt too long": (413, {"json": {**row, text: row[text] * 200}}),
            "no key": (401, {"json": row, "headers": {}}),
            "wrong key": (401, {"json": row, "headers": {"Authorization": "Bearer no"}}),
            "hangs up": (None, {"json": row, "timeout": httpx.Timeout(30, read=0.005)}),
        }
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as http:
            for name, (status, request) in itertools.cycle(kinds.items()):
                if time.perf_counter() > end:
                    return
                request = {"headers": self.headers, **request}
                request["headers"] = {**request["headers"], "Content-Type": "application/json"}
                try:
                    got = (await http.post("/score", **request)).status_code
                except httpx.ReadTimeout:
                    got = None  # this is how a client hangs up
                except httpx.HTTPError as error:
                    got = type(error).__name__
                self.refusals[f"{name}: {got or 'hung up'}"] += 1
                if got != status and name != "hangs up":
                    self.errors[f"{name} got {got}"] += 1
                await asyncio.sleep(1 / rate)

    async def _watch(self, process: psutil.Process, memory: list[int], end: float, every: float) -> None:
        while (left := end - time.perf_counter()) > 0:
            await asyncio.sleep(min(every, left))
            memory.append(process.memory_info().rss)


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def expected_scores(judge: Judge, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What `Judge` says of each row alone."""
    return [Score.of(judge.score([row])[0]).model_dump() for row in rows]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", required=True, help="directory of a judge")
    parser.add_argument(
        "--rows", type=Path, help="JSON Lines with a request a line. Default: sheets of the embedded task"
    )
    parser.add_argument("--num_rows", type=int, default=200, help="rows that are sent, in turns")
    parser.add_argument("--clients", type=int, nargs="+", help="default: 1 16 64; with --hostile: 64")
    parser.add_argument("--seconds", type=float, nargs="+", help="for each of them; default: 20 20 120, or 120")
    parser.add_argument("--hostile", action="store_true", help="hostile clients beside them")
    parser.add_argument("--health_seconds", type=float, default=1.0, help="longest that /health may take beside those")
    parser.add_argument(
        "--disturbances", type=float, default=5, help="refused and abandoned requests a second in the last run"
    )
    parser.add_argument("--warm_seconds", type=float, default=3, help="load before anything is measured")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    args.clients = args.clients or ([64] if args.hostile else [1, 16, 64])
    args.seconds = args.seconds or ([120] if args.hostile else [20, 20, 120])
    if len(args.seconds) != len(args.clients):
        parser.error(f"--seconds: got {len(args.seconds)} for {len(args.clients)} numbers of clients; give as many")

    if args.rows is None:
        rows = [{"prompt": prompt} for prompt in make_dataset("id", args.num_rows)["prompt"]]
    else:
        lines = args.rows.read_text(encoding="utf-8").splitlines()[: args.num_rows]
        rows = [json.loads(line) for line in lines]
    expected = expected_scores(Judge.from_pretrained(args.judge, do_sample=False), rows)
    print(f"{len(rows)} rows, {len({row['rationale'] for row in expected})} different rationales", flush=True)
    gc.collect()
    gc.freeze()  # a full collection of ours, of a second, would be taken for the service's
    key, runs = secrets.token_hex(16), []
    with running_service(args.judge, key, "--batch_size", str(args.batch_size)) as (url, process):
        asyncio.run(Load(url, key, rows, expected).run(4, args.warm_seconds, 0, process))
        for place, (clients, seconds) in enumerate(zip(args.clients, args.seconds, strict=True)):
            rate = args.disturbances if place == len(args.clients) - 1 and not args.hostile else 0
            run = asyncio.run(Load(url, key, rows, expected).run(clients, seconds, rate, process, args.hostile))
            runs.append(run)
            latency = ", ".join(f"{name} {value:.0f}" for name, value in run["latency_ms"].items())
            print(
                f"{clients} clients, {run['seconds']:.0f} s: {run['answers']} answers, {run['answers_a_second']:.1f}/s "
                f"({run['answers_a_cpu_second']:.1f} for each second of the service's CPU time), "
                f"latency in ms {latency}; errors {run['errors'] or 0}, wrong {run['wrong']} (probabilities differ by at most "
                f"{run['largest_difference']:.1e}); memory {run['memory_mib'][0]:.0f} → {run['memory_mib'][-1]:.0f} MiB "
                f"(largest {max(run['memory_mib']):.0f})",
                flush=True,
            )
            if rate:
                print(f"  disturbances: {run['refused']}", flush=True)
            if args.hostile:
                print(f"  hostile: {run['hostile']}", flush=True)
    for run in runs[1:]:
        ratio, cpu = (run[name] / runs[0][name] for name in ("answers_a_second", "answers_a_cpu_second"))
        print(
            f"{run['clients']} clients / {runs[0]['clients']}: {ratio:.1f} x the throughput, {cpu:.1f} x per CPU second"
        )
    if args.json:
        print(to_json({"runs": runs, "settings": vars(args), **describe_machine(torch.device("cpu"))}, default=str))
    if any(run["errors"] or run["wrong"] for run in runs):
        raise SystemExit("there were errors or wrong answers")
    for run in runs if args.hostile else []:
        memory = run["memory_mib"][len(run["memory_mib"]) // 2 :]
        if run["hostile"]["errors"] or run["hostile"]["health_ms"]["largest"] > 1000 * args.health_seconds:
            raise SystemExit("/health was late, or hostile clients were not answered as they should")
        if sum(args.seconds) >= 30 and memory[-1] - memory[0] > 64:
            raise SystemExit(f"memory grew by {memory[-1] - memory[0]:.0f} MiB in the second half")


if __name__ == "__main__":
    main()
