# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The benchmarks of a step measure what they say: the same tokens for both trainers, operations as counted by hand, memory of
known size. No test depends on how long anything takes.
"""

import argparse
import copy
import gc
import json

import pytest
import torch

from benchmarks import limit, scaling, step
from benchmarks.common import PeakMemory, Stopwatch, describe_machine, in_turns, medians
from benchmarks.update import EndAt, build_trainer
from benchmarks.workload import SHAPES, build_model, build_tokenizer, build_workload
from real_trl.score_space import ScoreSpace

CPU = torch.device("cpu")
TOKENIZER = build_tokenizer(SHAPES["tiny"][1]["vocab_size"])
SPACE = ScoreSpace.from_labels("1-5", TOKENIZER)
SIZES = ["--prompt_tokens", "20", "--completion_tokens", "18", "--num_generations", "3", "--groups", "2"]
TINY = ["--shape", "tiny", *SIZES]


def tiny_model():
    return build_model("tiny", TOKENIZER, torch.float32, CPU)


@pytest.fixture(scope="module", autouse=True)
def quick_collections():
    """Trainers collect garbage before they train; what was imported need not be looked through every time."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def quick_rate(monkeypatch):
    monkeypatch.setattr(limit, "_SECONDS", 0.0)
    monkeypatch.setattr(limit, "_SQUARE", 64)


@pytest.fixture
def trainers(tmp_path):
    workload = build_workload(SPACE, 20, 18, num_generations=3, groups=2)
    model = tiny_model()
    return {
        way: build_trainer(way, copy.deepcopy(model), TOKENIZER, workload, str(tmp_path), gradient_checkpointing=True)
        for way in ("TRL", "REAL", "dense")
    }


@pytest.mark.parametrize("baseline", ["trl", "trl_labelled", "dense"])
def test_report_of_a_step(baseline, quick_rate, capsys):
    step.main([*TINY, "--baseline", baseline, "--repeats", "2", "--json"])
    output = capsys.readouterr().out
    assert "whole step, s" in output and "memory of the update, MiB" in output
    report = json.loads(output.splitlines()[-1])
    other = {"trl": "TRL", "trl_labelled": "TRL, labelled rows", "dense": "dense"}[baseline]
    assert report["baseline"] == other and report["shared_prefix"] is True
    for measure in ("update", "generation"):
        seconds = report[f"{measure}_seconds"]
        assert {name: len(times) for name, times in report[f"{measure}_seconds_all"].items()} == {other: 2, "REAL": 2}
        assert seconds == medians(report[f"{measure}_seconds_all"])
        assert report[f"{measure}_ratio"] == seconds[other] / seconds["REAL"]
    steps = {name: report["update_seconds"][name] + report["generation_seconds"][name] for name in (other, "REAL")}
    assert report["step_seconds"] == steps and report["step_ratio"] == steps[other] / steps["REAL"]
    assert report["memory_ratio"] == report["update_peak_bytes"]["REAL"] / report["update_peak_bytes"][other]

    operations, best = report["operations"], max(report["matmul_rate"].values())
    update = report["update_seconds"]["REAL"]
    assert report["limit_seconds"] == pytest.approx(sum(operations.values()) / best)
    assert report["limit_share"] == pytest.approx(report["limit_seconds"] / update)
    needed = sum(operations.values()) - operations["recomputation"]
    assert report["limit_share_without_recomputation"] == pytest.approx(needed / best / update)
    assert operations["recomputation"] > 0
    assert report["limit_share_of_shapes"] >= report["limit_share"]

    assert report["prompt_lengths"] == [16, 24]  # 20 tokens ± 20 %
    completions = sum(map(sum, report["completion_lengths"]))
    # But for a score and EOS of each
    assert report["unique_tokens"] == 16 + 24 + completions - 2 * 6
    assert report["sequence_tokens"] == 3 * (16 + 24) + completions
    assert report["completion_tokens_per_second"]["REAL"] == pytest.approx(completions / steps["REAL"])
    assert report["settings"]["repeats"] == 2
    assert {"device", "device_name", "threads", "versions"} <= report.keys()


def test_trainers_compute_on_the_same_tokens(trainers):
    read = {}
    for way, timed in trainers.items():
        before = [parameter.clone() for parameter in timed.trainer.model.parameters()]
        compute_loss, inputs = timed.trainer._compute_loss, []

        def keeping(model, batch, compute_loss=compute_loss, inputs=inputs):
            inputs.append(batch)
            return compute_loss(model, batch)

        timed.trainer._compute_loss = keeping
        for _ in range(2):
            assert timed.update(Stopwatch(CPU)) > 0
        assert len(inputs) == 2
        rows = [
            [
                [
                    ids[mask.bool()].tolist()
                    for ids, mask in zip(batch[f"{part}_ids"], batch[f"{part}_mask"], strict=True)
                ]
                for part in ("prompt", "completion")
            ]
            for batch in inputs
        ]
        read[way] = [sorted(zip(prompts, completions, strict=True)) for prompts, completions in rows]
        parameters = timed.trainer.model.parameters()
        assert all((a != b).any() for a, b in zip(before, parameters, strict=True)), way
        state = timed.trainer.optimizer.state.values()
        assert {int(values["step"]) for values in state} == {2}, "the optimizer began anew"
    workload = trainers["TRL"].workload
    given = sorted(
        (prompt, completion)
        for prompt, group in zip(workload.prompt_ids, workload.completion_ids, strict=True)
        for completion in group
    )
    # The score, and what follows it, has no part in REAL's objective
    before_score = sorted((prompt, ids[: SPACE.locate(ids).position]) for prompt, ids in given)
    assert read == {"TRL": [given] * 2, "REAL": [before_score] * 2, "dense": [before_score] * 2}
    assert sum(len(ids) for _, ids in before_score) == sum(map(sum, workload.read_lengths))
    assert trainers["REAL"].shares_prefixes and not trainers["dense"].shares_prefixes
    assert not trainers["TRL"].shares_prefixes


def test_trainers_that_read_other_tokens_are_not_compared(trainers):
    other = build_workload(SPACE, 20, 18, num_generations=3, groups=2)
    other.completion_ids[1][2][0] = TOKENIZER.convert_tokens_to_ids("So")
    trainers["REAL"].workload = other
    with pytest.raises(RuntimeError, match="not given the same"):
        step.measure_memory({way: trainers[way] for way in ("TRL", "REAL")}, CPU)


def test_optimizer_state_is_made_without_a_change_of_weights(trainers):
    model = trainers["REAL"].trainer.model
    before = copy.deepcopy(model.state_dict())
    trainers["REAL"].make_optimizer_state()
    optimizer = trainers["REAL"].trainer.optimizer
    assert {int(values["step"]) for values in optimizer.state.values()} == {1}
    assert len(optimizer.state) == len(list(model.parameters()))
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in model.parameters())
    trainers["REAL"].update(Stopwatch(CPU))
    states = trainers["REAL"].trainer.optimizer.state.values()
    assert {int(values["step"]) for values in states} == {2}, "the update made an optimizer of its own"


def test_generated_lengths_are_those_planned(trainers):
    lengths = trainers["TRL"].workload.completion_lengths
    for timed in trainers.values():
        assert timed.generate(lengths) > 0
        assert timed.generate([[2] * 3, [5, 1, 3]]) > 0
        assert "_get_logits_processor" not in vars(timed.trainer.model)
    with pytest.raises(RuntimeError, match="were sampled, not of"):
        trainers["TRL"].generate([[18, 18, 18], [18, 18, 19]])  # the trainer's limit is 18


def test_end_at():
    processor, ids = EndAt([1, 3, 2], stop_ids=[4, 0]), torch.ones(3, 2, dtype=torch.long)
    chosen = [processor(ids, torch.full((3, 5), 7.0)).softmax(-1)]
    eos, other = torch.tensor([0.0, 0, 0, 0, 1]), torch.tensor([0.0, 1, 1, 1, 0]) / 3
    torch.testing.assert_close(chosen[0], torch.stack([eos, other, other]))
    processor.keep_rows([1, 2])
    torch.testing.assert_close(processor(ids[1:], torch.zeros(2, 5)).softmax(-1), torch.stack([other, eos]))


@pytest.mark.parametrize("recompute", [False, True])
def test_operations_counted_by_hand(recompute):
    # One group, a prompt of 10 tokens, completions with 4 and 2 before the score
    assert limit.unique_tokens([10], [[4, 2]]) == 16
    # The first token of both is predicted by the prompt's last
    assert limit.head_rows([[4, 2]]) == 1 + 4 + 2
    operations = limit.count_operations(tiny_model(), [10], [[4, 2]], recompute=recompute)
    # A layer: q and o 32 x 32, k and v 32 x 16 each, three matrices 32 x 48: 7,680 parameters; two layers
    assert operations.linear == 6 * 15_360 * 16
    # Prompt 10 * 11 / 2, completions 4 * 10 + 4 * 5 / 2 and 2 * 10 + 2 * 3 / 2: 128 scores, 4 heads of size 8, 2 layers
    assert operations.attention == 12 * 128 * 8 * 4 * 2
    assert operations.head == 6 * 128 * 32 * 7
    assert operations.recomputation == ((2 * 15_360 * 16 + 4 * 128 * 8 * 4 * 2) if recompute else 0)
    assert operations.needed == 1_474_560 + 98_304 + 172_032
    assert operations.total == operations.needed + operations.recomputation


def test_matmul_rate(quick_rate, monkeypatch):
    timed = []

    def seconds(size, out, into, dtype, device, backward=True):
        timed.append((size, out, into))
        return 6 * size * out * into / 1e9 if backward else 2 * size * out * into / 5e8

    monkeypatch.setattr(limit, "_seconds_of_products", seconds)
    rate = limit.measure_matmul_rate(tiny_model(), tokens=16, rows=2048, device=CPU)
    assert set(timed) == {(16, 32, 32), (16, 16, 32), (16, 48, 32), (16, 32, 48), (1024, 128, 32), (64, 64, 64)}
    assert (rate.workload, rate.square) == (pytest.approx(1e9), pytest.approx(5e8))
    assert rate.best == rate.workload


def test_memory_of_a_known_allocation():
    size = 64 * 2**20
    earlier = torch.ones(2 * size, dtype=torch.uint8)
    del earlier
    kept = torch.ones(size, dtype=torch.uint8)
    memory = PeakMemory(CPU)
    memory.start()
    more = torch.ones(size, dtype=torch.uint8)
    del more
    memory.stop()
    assert 0.98 * size < memory.value < 1.1 * size  # the kernel counts pages of each thread in batches
    assert kept.all()
    memory.start()
    memory.stop()
    assert memory.value < 0.1 * size


def test_runs_alternate():
    ways = {"a": lambda: 1, "b": lambda: 2}
    assert list(in_turns(ways, 3)) == [("a", 1), ("b", 2), ("b", 2), ("a", 1), ("a", 1), ("b", 2)]
    assert describe_machine(CPU)["threads"] == torch.get_num_threads()


def test_workload_is_the_same_every_time():
    first, second = (build_workload(SPACE, 50, 40, num_generations=4, groups=3) for _ in range(2))
    assert first == second
    assert first.prompt_lengths == [40, 50, 60]
    for lengths in first.completion_lengths:
        assert max(lengths) == 40 and min(lengths) >= 20 and len(set(lengths)) > 1
    assert [SPACE.locate(ids).label_index for ids in first.completion_ids[0]] == [0, 1, 2, 3]
    assert build_workload(SPACE, 50, 40, num_generations=4).prompt_lengths == [50]


def test_workload_from_texts():
    texts = [" ".join(f"w{i}" for i in range(start, start + 10)) for start in (0, 10)]
    workload = build_workload(SPACE, 25, 18, num_generations=2, groups=2, texts=texts)
    words = [prompt.split() for prompt in workload.prompts]
    # Put together until they are long enough, then cut at their beginning
    assert words[0] == [f"w{i}" for i in range(20)]
    assert words[1] == [f"w{i}" for i in (*range(10, 20), *range(10), *range(10, 20))]


def test_too_short_completions():
    with pytest.raises(ValueError, match="completion_tokens: got 12, .* Set it to 14 or more"):
        build_workload(SPACE, 20, 12, num_generations=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "mt_bench_eval.json"], "--data needs --model"),
        (["--model", "folder", "--layers", "2"], "--shape and --layers are for random weights"),
        (["--num_generations", "1"], "--num_generations 1: must be at least 2"),
        (["--repeats", "0"], "--repeats 0: must be at least 1"),
    ],
)
def test_refused_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit):
        step.parse_arguments(arguments)
    assert message in capsys.readouterr().err


def test_judge_workload():
    args = step.parse_arguments(["--workload", "judge"])
    assert isinstance(args, argparse.Namespace)
    assert (args.prompt_tokens, args.completion_tokens, args.num_generations, args.groups) == (1200, 128, 16, 1)
    assert args.gradient_checkpointing and args.shape == "smollm2-135m" and args.dtype == "float32"
    assert step.parse_arguments(["--workload", "short", "--num_generations", "8"]).num_generations == 8


def test_crossover():
    assert scaling.crossover([100, 400, 800], [0.5, 2.0, 3.0]) == pytest.approx(200)
    assert scaling.crossover([1, 2, 8], [3.0, 2.0, 0.5]) == pytest.approx(4)
    assert scaling.crossover([2, 4], [1.5, 1.2]) is None
    assert scaling.crossover([2, 4], [0.5, 1.0]) == pytest.approx(4)


@pytest.mark.slow
def test_scaling(tmp_path, monkeypatch):
    axes = {**scaling.QUICK_AXES, "num_generations": (2,), "layers": (1,)}
    monkeypatch.setattr(scaling, "QUICK_AXES", axes)
    scaling.main(["--shape", "tiny", "--quick", "--repeats", "1", "--output_dir", str(tmp_path)])
    report = json.loads((tmp_path / "scaling.json").read_text(encoding="utf-8"))
    base = report["base"]
    assert report["axes"].keys() == report["crossovers"].keys() == base.keys() == scaling.TITLES.keys()
    for name, points in report["axes"].items():
        assert [point[name] for point in points] == list(axes[name])
        for point in points:
            assert {**base, name: point[name]} == {key: point[key] for key in base}, "one alone is varied"
            assert point["ratio"] == point["seconds"]["dense"] / point["seconds"]["shared"]
    assert [point["num_generations"] for point in report["memory"]] == [2, 4]
    for way in ("dense", "shared"):
        peaks = [point["update_peak_bytes"][way] for point in report["memory"]]
        assert report["memory_growth"][way] == pytest.approx(peaks[1] / peaks[0])
    for name in ("scaling.png", "scaling_memory.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
