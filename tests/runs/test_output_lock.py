# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""One writer for an output, and nothing that a killed one left behind."""

import errno
import json
import multiprocessing
import os
import signal
import socket
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from accelerate import PartialState
from filelock import SoftFileLock

from real_trl.runs import output_lock
from real_trl.runs.new_folder import new_folder
from real_trl.runs.output_lock import only_writer, write_whole, writing_path

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["real_trl.runs.new_folder"])


class NoLocks:
    """A lock on a file system that has none, or not here."""

    code = errno.ENOSYS

    def __init__(self, path: Path) -> None:
        pass

    def acquire(self, blocking: bool) -> None:
        raise OSError(self.code, os.strerror(self.code))


def without_locks(code: int | None) -> type:
    return SoftFileLock if code is None else type("NoLocks", (NoLocks,), {"code": code})


def _hold(output: Path, ready: Path, kind: int | str) -> None:
    if kind != "locks":
        output_lock.FileLock = without_locks(kind)
    with only_writer(output):
        writing_path(output).mkdir()
        (output / ".writing-rows").touch()
        ready.touch()
        time.sleep(120)


@contextmanager
def held(output: Path, kind: int | str | None = "locks"):
    """Another process that writes to a folder."""
    output.mkdir(exist_ok=True)
    ready = output.parent / "ready"
    process = PROCESSES.Process(target=_hold, args=(output, ready, kind))
    process.start()
    try:
        while not ready.exists():
            assert process.is_alive()
            time.sleep(0.01)
        ready.unlink()
        yield process
    finally:
        process.kill()
        process.join()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_second_writer_learns_who_the_first_one_is(tmp_path):
    output, link = tmp_path / "out", tmp_path / "link"
    with held(output) as process:
        link.symlink_to(output)
        for name in (output, link, tmp_path / "other" / ".." / "out", str(output)):
            words = "^--local_dir: another process is writing to '.*out' "
            with pytest.raises(ValueError, match=words) as refused, only_writer(name, "--local_dir"):
                pass
            assert f"(process {process.pid} on {socket.gethostname()}, " in str(refused.value)
        with only_writer(tmp_path / "other"):
            assert names(output) == [".writing-rows"]
    # killed: the lock has gone with it, and the next writer deletes what it left
    assert {".out.lock", ".out.lock.json", ".writing-out"} <= set(names(tmp_path))
    (tmp_path / ".writing-another").mkdir()
    with only_writer(output):
        assert names(output) == []
        assert ".writing-out" not in names(tmp_path)
    assert names(tmp_path) == [".writing-another", "link", "out"]


def test_a_process_does_not_write_twice_and_lets_go_after_an_error(tmp_path):
    with pytest.raises(KeyError), only_writer(tmp_path / "rows.jsonl"), only_writer(tmp_path / "out"):
        with (
            pytest.raises(ValueError, match="another process is writing to"),
            only_writer(tmp_path / "rows.jsonl"),
        ):
            pass
        raise KeyError
    with only_writer(tmp_path / "rows.jsonl"), only_writer(tmp_path / "out"):
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, None])
def test_a_file_system_without_locks(tmp_path, capsys, monkeypatch, code):
    output = tmp_path / "out"
    monkeypatch.setattr(output_lock, "FileLock", without_locks(code))
    with held(output, code) as process:
        with pytest.raises(ValueError, match=f"process {process.pid} on .*delete '.*lock'"), only_writer(output):
            pass
        assert capsys.readouterr().err == ""
    with only_writer(output):
        said = capsys.readouterr().err
        assert "has no locks, so the file" in said
        assert f"took over the lock of a run that has ended (process {process.pid} on " in said
        assert names(output) == []
    assert names(tmp_path) == ["out"]
    with only_writer(output):
        assert "took over" not in capsys.readouterr().err


def test_other_errors_are_no_reason_to_go_on_without_a_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(output_lock, "FileLock", without_locks(errno.EIO))
    with pytest.raises(OSError, match="Input/output"), only_writer(tmp_path / "out"):
        pass


def test_the_lock_of_a_mount_point_is_inside_it(tmp_path, monkeypatch):
    output = tmp_path / "out"
    output.mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path == output)
    with only_writer(output):
        assert names(tmp_path) == ["out"] and names(output) == [".lock", ".lock.json"]
    assert names(output) == []


def _rank(output: Path, results, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    try:
        with only_writer(output, state=PartialState(cpu=True)):
            results.put((os.environ["RANK"], names(output.parent)))
    except ValueError as error:
        results.put((os.environ["RANK"], str(error)))


def test_of_several_ranks_the_first_holds_the_lock_and_all_are_refused(tmp_path):
    def launch() -> dict[str, object]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
        results = PROCESSES.Queue()
        ranks = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
        processes = [PROCESSES.Process(target=_rank, args=(tmp_path / "out", results, rank)) for rank in ranks]
        for process in processes:
            process.start()
        found = dict(results.get(timeout=60) for _ in ranks)
        for process in processes:
            process.join(60)
        return found

    found = launch()
    assert ".out.lock" in found["0"] and set(found) == {"0", "1"} and isinstance(found["1"], list)
    with only_writer(tmp_path / "out"):
        found = launch()
    assert set(found) == {"0", "1"} and found["0"] == found["1"]
    assert f"process {os.getpid()} on" in found["0"]


def _make(folder: Path) -> None:
    with new_folder("--output_dir", folder) as target:
        target.mkdir()
        (target / "half").touch()
        time.sleep(120)


def test_a_new_folder_that_was_killed_half_way(tmp_path):
    folder = tmp_path / "new"
    process = PROCESSES.Process(target=_make, args=(folder,))
    process.start()
    while not (tmp_path / ".writing-new" / "half").exists():
        assert process.is_alive()
        time.sleep(0.01)
    words = "--output_dir: another process is writing"
    with pytest.raises(ValueError, match=words), new_folder("--output_dir", folder):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert ".writing-new" in names(tmp_path) and not folder.exists()
    with new_folder("--output_dir", folder) as target:
        target.mkdir()
        (target / "whole").touch()
    assert names(tmp_path) == ["new"] and names(folder) == ["whole"]
    with pytest.raises(ValueError, match="not empty"), new_folder("--output_dir", folder):
        pass


def test_no_option_of_the_command_is_written_down(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/bin/real-trl", "push", "--token", "hf_secretsecretsecret"])
    with only_writer(tmp_path / "out"):
        written = json.loads((tmp_path / ".out.lock.json").read_text())
    assert written["command"] == "real-trl" and "secret" not in str(written)


def test_what_another_writes_within_a_folder_is_no_left_over(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    left, live = folder / ".writing-left.jsonl", writing_path(folder / "live.jsonl")
    left.touch()
    with only_writer(folder / "live.jsonl"):
        live.touch()
        with only_writer(folder):
            assert live.exists() and not left.exists()
    with only_writer(folder):
        assert not live.exists()


@pytest.mark.parametrize("name", ["x" * 250, "ü" * 125])
def test_the_longest_names_have_locks(tmp_path, name):
    output = tmp_path / name
    with only_writer(output):
        write_whole(output, "text")
        with pytest.raises(ValueError, match="another process is writing to"), only_writer(output):
            pass
    assert [path.name for path in tmp_path.iterdir()] == [name]
