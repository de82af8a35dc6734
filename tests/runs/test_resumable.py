# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What the loop of all generated outputs asks for, stores and merges, run after run."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from accelerate import PartialState

from real_trl.engines import Judgment
from real_trl.runs.batches import batch_seed
from real_trl.runs.folder import GeneratedFolder
from real_trl.runs.resumable import Resumable

PROMPTS = ["a", "b", "c", "d", "e"]
BATCHES = [[0, 1], [2, 3], [4]]


class Asked:
    """Answers every prompt but those in `silent`, and keeps what it was asked."""

    def __init__(self, silent: str = "") -> None:
        self.silent, self.calls = silent, []

    def check(self, prompts: Sequence[str]) -> None:
        assert prompts == PROMPTS

    def judge(self, prompts: Sequence[str], *, seed: int):
        self.calls.append((list(prompts), seed))
        for index, prompt in reversed(list(enumerate(prompts))):  # in any order
            error = f"no answer to {prompt}" if prompt in self.silent else None
            yield index, Judgment(prompt, prompt, "ok", 1.0, 1.0, 1.0, None, None, None, 0.0, 1, 1, error=error)


def go_on(folder: Path, engine: Asked | None):
    """Unanswered units of a run, and whether the output is complete then. Without an engine, loading one fails."""

    def load() -> Asked:
        if engine is None:
            raise ValueError("the judge cannot be loaded")
        return engine

    output = GeneratedFolder(folder, {"data": {"rows": 5}}, "all.json")
    assert not output.check()
    unanswered = Resumable(
        output,
        PROMPTS,
        BATCHES,
        ask=lambda engine, units, seed: engine.judge([PROMPTS[unit] for unit in units], seed=seed),
        as_row=lambda unit, judgment: {"unit": unit, "said": judgment.completion, "error": judgment.error},
        merge=lambda rows: ({"all.json": json.dumps(list(rows))}, {"rows": 5}),
        seed=3,
        desc="",
    ).run(load, PartialState())
    return unanswered, output.check()


def test_what_has_no_answer_is_asked_for_again_and_nothing_else(tmp_path, capsys):
    folder, first, second = tmp_path / "out", Asked(silent="de"), Asked()
    unanswered, complete = go_on(folder, first)
    assert first.calls == [(["a", "b"], batch_seed(3, 0)), (["c", "d"], batch_seed(3, 1)), (["e"], batch_seed(3, 2))]
    assert [(unit, row["error"]) for unit, row in unanswered] == [(3, "no answer to d"), (4, "no answer to e")]
    assert not complete and capsys.readouterr().out == ""
    assert go_on(folder, second) == ([], True)
    assert second.calls == [(["d"], batch_seed(3, 1)), (["e"], batch_seed(3, 2))]
    assert capsys.readouterr().out == (
        f"Going on in {folder}: 5 completions are there; 2 without an answer are asked for again\n"
    )
    merged = json.loads((folder / "all.json").read_text())
    assert merged == [{"unit": i, "said": prompt, "error": None} for i, prompt in enumerate(PROMPTS)]
    assert sorted(path.name for path in folder.iterdir()) == ["all.json", "provenance.json"]


def test_a_torn_line_is_asked_for_again_and_what_is_all_there_loads_nothing(tmp_path):
    folder, again = tmp_path / "out", Asked()
    assert go_on(folder, Asked(silent="e"))[1] is False
    part = folder / "parts" / "00000.jsonl"
    lines = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(lines[0] + lines[1][:20])
    assert go_on(folder, again) == ([], True)
    assert [prompts for prompts, _ in again.calls] == [["c", "d"], ["e"]]

    other = tmp_path / "killed"  # when all was stored, before the result was written
    other.mkdir()
    record = json.loads((folder / "provenance.json").read_text())
    (other / "provenance.json").write_text(json.dumps({**record, "complete": False}))
    (other / "parts").mkdir()
    rows = json.loads((folder / "all.json").read_text())
    stored = [{"batch": number, "rows": [rows[unit] for unit in units]} for number, units in enumerate(BATCHES)]
    (other / "parts" / "00000.jsonl").write_text("".join(json.dumps(batch) + "\n" for batch in stored[::-1]))
    assert go_on(other, None) == ([], True)
    assert (other / "all.json").read_bytes() == (folder / "all.json").read_bytes()


def test_nothing_is_written_before_the_judge_is_loaded(tmp_path):
    with pytest.raises(ValueError, match="cannot be loaded"):
        go_on(tmp_path / "out", None)
    assert list(tmp_path.iterdir()) == []
