# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How commands end: by signals, and with the process that started them."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
import torch

from real_trl import cli
from real_trl.runs.processes import LAUNCHER

STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130}


def start(*command: str, **environment: str) -> subprocess.Popen:
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path, **environment}
    out = subprocess.PIPE
    return subprocess.Popen([sys.executable, *command], env=environment, stdout=out, stderr=out, text=True)


def start_code(code: str, **environment: str) -> subprocess.Popen:
    """A command, which is ready when it has written a line."""
    head = "import os, signal, sys, time\nfrom real_trl.runs.processes import command_started\n"
    process = start("-c", head + textwrap.dedent(code), **environment)
    process.first = process.stdout.readline().strip()
    return process


def gone(process: int, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(process).status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.02)
                continue
        return True
    return False


@pytest.mark.parametrize("number", STATUS)
@pytest.mark.parametrize(
    "command",
    [
        ("real_trl.cli", "sft", "--config", "quickstart/raft.yaml"),
        ("real_trl.cli", "score", "rows.jsonl"),
        ("real_trl.scripts.rl",),
    ],
    ids=["launched", "not launched", "module"],
)
def test_a_command_that_is_stopped_while_it_imports(command: Sequence[str], number: int):
    process = start("-m", *command)
    time.sleep(1.5)
    assert process.poll() is None
    process.send_signal(number)
    said = process.communicate(timeout=60)
    assert process.returncode == STATUS[number]
    assert said == ("", "")


@pytest.mark.parametrize("number", STATUS)
def test_what_is_registered_for_the_end_is_done_wherever_a_signal_comes(tmp_path, number):
    # An exception that is raised in a destructor is printed and swallowed
    process = start_code(
        f"""
        import tempfile
        command_started()
        folder = tempfile.TemporaryDirectory(dir={str(tmp_path)!r})
        class Waits:
            def __del__(self):
                time.sleep(60)
        print("ready", flush=True)
        Waits()
        """
    )
    assert list(tmp_path.iterdir())
    process.send_signal(number)
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == STATUS[number]
    assert not list(tmp_path.iterdir())


def test_an_end_that_hangs_is_cut_short():
    process = start_code(
        """
        import atexit
        from real_trl.runs import processes
        processes._EXIT_SECONDS = 0.2
        command_started()
        atexit.register(time.sleep, 60)
        print("ready", flush=True)
        time.sleep(60)
        """
    )
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143
    process.communicate()


def test_a_signal_that_is_ignored_stays_ignored():
    """As those of a command in the background of a script."""
    process = start_code(
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        command_started()
        print("ready", flush=True)
        time.sleep(1)
        """
    )
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    process.communicate()


FORKS = """
command_started()
reads, writes = os.pipe()
child = os.fork()
if not child:
    os.write(writes, b"1")
    time.sleep(60)
    os._exit(0)
os.read(reads, 1)
print(child, flush=True)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are not forked")
def test_forked_workers_end_with_their_command():
    process = start_code(FORKS)
    process.kill()
    process.communicate()
    assert gone(int(process.first))


def test_forked_workers_take_signals_as_libraries_expect_it():
    process = start_code(FORKS)
    os.kill(int(process.first), signal.SIGTERM)
    assert process.communicate(timeout=20)[0] == f"{-signal.SIGTERM}\n"


SPAWNS = """
import multiprocessing
import os
import time
import real_trl.scripts

def work(pid):
    pid.put(os.getpid())
    time.sleep(60)

if __name__ == "__main__":
    from real_trl.runs.processes import command_started

    command_started()
    context = multiprocessing.get_context("spawn")
    pid = context.Queue()
    process = context.Process(target=work, args=(pid,))
    process.start()
    print(pid.get(), flush=True)
    process.join()
"""


def test_spawned_workers_end_with_their_command(tmp_path):
    script = tmp_path / "command.py"
    script.write_text(SPAWNS)
    process = start(str(script))
    child = int(process.stdout.readline())
    process.kill()
    assert gone(child)
    process.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are not forked")
def test_a_worker_that_a_thread_forks_does_not_end_with_the_thread():
    process = start_code(
        """
        import threading
        command_started()
        children = []
        def fork():
            children.append(os.fork())
            if not children[0]:
                time.sleep(0.5)
                os._exit(7)
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()
        print("ready", flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]))
        """
    )
    assert process.communicate(timeout=20)[0] == "7\n"


LAUNCHES = """
import subprocess
from real_trl.runs.processes import this_process
rank = "from real_trl.runs.processes import command_started as c; import time; c(); print('up', flush=True); time.sleep(60)"
rank = subprocess.Popen([sys.executable, "-c", rank], stdout=subprocess.PIPE, env={**os.environ, **ENVIRONMENT})
rank.stdout.readline()
print(rank.pid, flush=True)
rank.wait()
"""


@pytest.mark.parametrize("environment", ['{"LOCAL_RANK": "1"}', f'{{"{LAUNCHER}": this_process()}}'])
def test_ranks_end_with_their_launcher(environment):
    process = start_code(LAUNCHES.replace("ENVIRONMENT", environment))
    process.kill()
    process.communicate()
    assert gone(int(process.first))


def test_what_no_launcher_started_outlives_its_shell():
    process = start_code(LAUNCHES.replace("ENVIRONMENT", "{}"))
    process.kill()
    process.stdout.close()
    process.stderr.close()
    process.wait()
    assert not gone(int(process.first), 1.0)
    os.kill(int(process.first), signal.SIGKILL)


def test_a_rank_whose_launcher_has_ended_while_it_started():
    ended = start("-c", "")
    ended.communicate()
    command = "import socket; from real_trl.runs.processes import command_started; command_started(); print('alive')"
    host = subprocess.check_output([sys.executable, "-c", "import socket; print(socket.gethostname())"], text=True)
    process = start("-c", command, **{LAUNCHER: f"{host.strip()}:{ended.pid}"})
    assert process.communicate(timeout=20)[0] == "" and process.returncode == 137
    process = start("-c", command, **{LAUNCHER: f"elsewhere:{ended.pid}"})
    assert process.communicate(timeout=20)[0] == "alive\n"


def test_the_launcher_has_the_status_of_its_rank(tmp_path, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # of this process
    script = tmp_path / "stage.py"
    for code, status in {"raise SystemExit(2)": 2, "import os; os.kill(os.getpid(), 9)": 137, "": 0}.items():
        script.write_text(code)
        assert cli.launch([str(script)]) == status


def test_a_stage_without_a_configuration_has_all_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # of this process
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("accelerate.commands.config.default_config_file", str(tmp_path / "none.yaml"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    script = tmp_path / "stage.py"
    script.write_text("import torch; raise SystemExit(torch.get_num_threads() != 2)")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert cli.launch([str(script)]) == 0
    finally:
        torch.set_num_threads(before)
