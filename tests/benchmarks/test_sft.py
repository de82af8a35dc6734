# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`benchmarks.sft` on a tiny model: both trainers see the same tokens, ours without padding, and what the JSON says."""

import json

import pytest

from benchmarks import sft

TINY = ["--shape", "tiny", "--layers", "2", "--rows", "5", "--batch_size", "2", "--repeats", "2", "--json"]


@pytest.fixture(autouse=True)
def short_rows(monkeypatch):
    monkeypatch.setattr(sft, "_PROMPT_TOKENS", (20, 60))
    monkeypatch.setattr(sft, "_COMPLETION_TOKENS", (12, 20))


@pytest.fixture
def trainers(monkeypatch):
    """The trainers that a run makes, by name."""
    made = {}

    class Kept(sft.TimedTrainer):
        def __init__(self, way, *args):
            super().__init__(way, *args)
            made[way] = self

    monkeypatch.setattr(sft, "TimedTrainer", Kept)
    return made


def report_of(capsys, argv=TINY):
    sft.main(argv)
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(("option", "other"), sft.BASELINES.items())
def test_both_train_on_the_same_tokens(capsys, trainers, option, other):
    report = report_of(capsys, [*TINY, "--baseline", option])
    assert {"update_ratio", "update_seconds", "tokens_per_second", "tokens", "positions"} <= report.keys()
    assert report["update_ratio"] > 0 and {len(times) for times in report["update_seconds_all"].values()} == {2}
    batches = trainers[other].seen
    assert trainers["RAFT"].seen == batches and [len(batch) for batch in batches] == [2, 2, 1]
    lengths = [[len(ids) for ids, _ in batch] for batch in batches]
    assert report["rows"] == 5 and report["steps"] == 3 and report["tokens"] == sum(map(sum, lengths))
    assert all(32 <= length <= 80 for batch in lengths for length in batch)
    # Completion only, and every completion ends with a score and EOS
    labels = [[label for label in labels if label != -100] for batch in batches for _, labels in batch]
    assert all(12 <= len(row) <= 20 for row in labels) and report["completion_tokens"] == sum(map(len, labels))
    tokenizer = trainers[other].trainer.processing_class
    assert all(
        tokenizer.decode(row).endswith(tuple(f"So the overall score is {k} <eos>" for k in "12345")) for row in labels
    )
    assert report["baseline"] == other and report["positions"] == {
        other: sum(len(batch) * max(batch) for batch in lengths),
        "RAFT": report["tokens"] - report["rows"],  # the last token of a sequence predicts nothing
    }


@pytest.mark.slow
def test_other_tokens_are_noticed(monkeypatch):
    """A trainer that loses rows would win the race."""

    class Lazy(sft.TimedTrainer):
        def __init__(self, way, model, tokenizer, rows, *args):
            super().__init__(way, model, tokenizer, rows.select(range(3)) if way == "RAFT" else rows, *args)

    monkeypatch.setattr(sft, "TimedTrainer", Lazy)
    with pytest.raises(RuntimeError, match="did not see the same tokens"):
        sft.main(TINY)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "a", "--layers", "2"], "--shape and --layers are for random weights"),
        (["--data", "mt_bench_eval.json"], "--data needs --model"),
        (["--rows", "0"], "--rows 0: must be at least 1"),
    ],
)
def test_options_that_exclude_each_other(capsys, options, message):
    with pytest.raises(SystemExit):
        sft.main(options)
    assert message in capsys.readouterr().err
