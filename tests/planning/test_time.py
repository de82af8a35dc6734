# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Hours: work counted by hand and against real packed rows, seconds from given clocks, and what is said where nothing is known."""

import json
from collections.abc import Iterable
from dataclasses import replace
from itertools import accumulate, chain, repeat
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from peft import LoraConfig

from real_trl.forward.sft_inputs import pack_sequences
from real_trl.planning import measured
from real_trl.planning.hardware import find_hardware, is_here
from real_trl.planning.lengths import alike_tokens
from real_trl.planning.measured import CannotMeasure, MeasuredMachine
from real_trl.planning.models import measure
from real_trl.planning.peaks import Bounds, PeakMachine, find_peak
from real_trl.planning.setup import Cluster, Setup, Sharding
from real_trl.planning.time import Time, duration, time_parts
from real_trl.planning.work import Job, Texts, judging_parts, layer_weights, operations, training_parts
from real_trl.scripts.plan import main
from tests import tiny


def config(architecture: str = "llama", layers: int = 4):
    found = tiny.build_model(architecture, **({"sliding_window": 8} if architecture == "mistral" else {})).config
    found.num_hidden_layers = layers
    return found


def make_setup(gpus: str = "CPU", **kwargs) -> Setup:
    cluster = Cluster(1, 1, "CPU", 2**34) if gpus == "CPU" else Cluster.parse(gpus)
    values = {
        "size": measure(config()),
        "stage": "sft",
        "batch": 4,
        "accumulation": 2,
        "group": 1,
        "micro_batches": 2,
        "iterations": 1,
        "prompt": 64,
        "completion": 0,
        "shared": False,
        "checkpointing": False,
        "half": False,
        "weight_bytes": 4,
        "reference": False,
        "generation": "none",
    }
    return Setup(cluster=cluster, sharding=Sharding(), **{**values, **kwargs})


RL = {"stage": "rl", "batch": 8, "group": 4, "completion": 16, "shared": True, "generation": "transformers"}
TRAIN = Job("train", rows=4, prompts=4, prompt=10, completion=3, alike=6)


# Work


def test_tokens_pairs_and_logits_by_hand():
    # 6 tokens once and 4 of each prompt; of a completion two of its three tokens, since the last predicts nothing
    assert TRAIN.tokens == 6 + 4 * 4 + 4 * 2
    # The beginning 1 + … + 6, the rest of each prompt 7 + … + 10, the completion 11 + 12
    assert TRAIN.pairs == 21 + 4 * 34 + 4 * 23
    assert TRAIN.logits == 4 * (3 + 1)
    group = Job("train", rows=4, prompts=1, prompt=10, completion=3)
    assert (group.tokens, group.pairs) == (10 + 4 * 2, 55 + 4 * 23)
    step = Job("decode", rows=4, prompts=1, prompt=10, completion=5)
    assert (step.tokens, step.pairs, step.logits) == (4, 4 * 16, 4)
    assert Job("read", rows=4, prompts=4, prompt=10).logits == 4


@pytest.mark.parametrize("job", [TRAIN, replace(TRAIN, prompts=1, alike=0.0), replace(TRAIN, prompts=2, alike=0.0)])
def test_tokens_are_those_of_the_packed_row(job):
    ids = torch.tensor(measured._texts(job, 50))
    labels = ids.clone()
    labels[:, : job.prompt] = -100
    scores = torch.full((len(ids),), ids.size(1) - 2)
    forward = pack_sequences(labels, ids, torch.ones_like(ids), scores, measured._LABELS, share=True)
    assert forward.inputs["input_ids"].size(1) == job.tokens


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_weights_of_the_layers_are_those_of_the_model(architecture):
    model = tiny.build_model(architecture)
    matrices = [p for name, p in model.named_parameters() if "layers" in name and p.dim() == 2]
    assert layer_weights(measure(model.config)) == sum(p.numel() for p in matrices)


def test_operations_by_hand():
    size = replace(make_setup().size, layers=2, hidden=4, heads=2, head_dim=2, kv_heads=1, intermediate=8, vocab=10)
    weights = 2 * (2 * 4 * 4 + 2 * 4 * 2 + 3 * 4 * 8)
    assert layer_weights(size) == weights == 288
    read = Job("read", rows=1, prompts=1, prompt=3)
    # Three tokens, 1 + 2 + 3 pairs in two layers of width 4, one position of the head
    layers, attention, head = 2 * 288 * 3, 4 * 2 * 4 * 6, 2 * 10 * 4
    assert operations(size, read) == layers + attention + head == 2000
    train = Job("train", rows=1, prompts=1, prompt=3, completion=1)
    assert (train.tokens, train.pairs, train.logits) == (3, 6, 2)
    assert operations(size, train) == 3 * layers + 3.5 * attention + 4 * 2 * head
    assert operations(size, train, checkpointing=True) == 4 * layers + 4.5 * attention + 4 * 2 * head
    lora = replace(size, lora=True, trainable=100)
    assert operations(lora, train) == 2 * layers + 3.5 * attention + 3 * 2 * head + 3 * 2 * 100 * 3


def test_parts_of_supervised_training():
    parts = {part.name: part for part in training_parts(make_setup(), Texts(10, 3, 6), 50)}
    assert {name: part.per_update for name, part in parts.items()} == {"forward and backward": 2, "optimizer": 1}
    assert {name: part.times for name, part in parts.items()} == {"forward and backward": 100, "optimizer": 50}
    assert parts["forward and backward"].job == TRAIN


def test_parts_of_rl():
    # 4 micro-batches of 8 completions are written at once; 2 updates go through them, 3 times
    setup = make_setup(**RL, micro_batches=4, iterations=3)
    parts = {part.name: part for part in training_parts(setup, Texts(10, 3), None, penalty=True)}
    assert all(part.times is None for part in parts.values())
    assert parts["reading prompts"].job == Job("read", rows=32, prompts=8, prompt=10)
    assert parts["reading prompts"].per_update == 1 / 6
    assert parts["writing completions"].job == Job("decode", rows=32, prompts=8, prompt=10, completion=1.5)
    assert parts["writing completions"].per_update == 3 / 6
    # The policy's and the reference's, of 4 micro-batches in 6 updates
    assert parts["log-probabilities before the update"].per_update == 2 * 4 / 6
    assert parts["forward and backward"].job == Job("train", rows=8, prompts=2, prompt=10, completion=3)
    fresh = [part.name for part in training_parts(make_setup(**RL), Texts(10, 3), 5)]
    assert fresh == ["reading prompts", "writing completions", "forward and backward", "optimizer"]
    server = training_parts(make_setup(**{**RL, "generation": "server"}), Texts(10, 3), 5)
    assert [part.name for part in server] == ["forward and backward", "optimizer"]


def test_parts_of_an_evaluation():
    (read,) = judging_parts(20, 8, Texts(10, 3, 4), direct=True)
    assert (read.job, read.times) == (Job("read", 8, 8, 10, alike=4), 2.5)
    _, write = judging_parts(20, 8, Texts(10, 3), direct=False, name=" (held out)", often=4, every=5)
    assert (write.name, write.per_update, write.times) == ("writing completions (held out)", 2.5 * 3 / 5, 30)


def test_what_prompts_begin_with():
    prompts = ["abcd-1", "abcd-2", "abcd-3", "zz-4"]
    # In order: three share five characters and one shares nothing
    assert alike_tokens(prompts, len, 4, in_order=True) == 2 * 5 / 3
    assert alike_tokens(prompts, len, 1) == 0
    assert alike_tokens(prompts[:3], len, 3) == 5


# Seconds


def clock(increments: Iterable[float]):
    times = accumulate(increments)
    return lambda: Bounds(*repeat(next(times), 2))


def test_a_measured_time_is_carried_on_to_all_layers():
    # Called at the start, and in each round before and after 1 layer, before and after 3, and at its end
    one_round = [0, 1.0, 0, 2.0, 0]
    machine = MeasuredMachine(config(), make_setup(), clock=clock(chain([0], *repeat(one_round, 4))))
    # Half a second a layer: 2.5 s for four
    assert machine.seconds(TRAIN) == pytest.approx((0.8 * 2.5, 1.25 * 2.5))
    larger = replace(TRAIN, rows=8, prompts=8)
    factor = operations(machine.setup.size, larger) / operations(machine.setup.size, TRAIN)
    assert 1.5 < factor < 2  # the beginning is read once
    assert machine.seconds(larger, like=TRAIN) == pytest.approx((factor * 0.8 * 2.5, factor * 1.25 * 2.5))
    assert "1 and 3 of 4 layers" in machine.how


def test_a_layer_takes_no_more_than_its_share():
    """Of a measurement that says that 3 layers took ten times as long as one."""
    one_round = [0, 1.0, 0, 12.0, 0]
    machine = MeasuredMachine(config(), make_setup(), clock=clock(chain([0], *repeat(one_round, 4))))
    assert machine.seconds(TRAIN) == pytest.approx((0.8 * 16, 1.25 * 16))


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("llama", {"checkpointing": True, "half": True}),
        ("llama", {"half": True, "weight_bytes": 2}),
        ("mistral", {}),  # whose sliding windows are read with padding
    ],
)
def test_every_job_can_be_measured(monkeypatch, architecture, options):
    monkeypatch.setattr(measured, "_ROUNDS", 2)
    model = config(architecture)
    machine = MeasuredMachine(model, make_setup(size=measure(model), **options))
    jobs = [
        TRAIN,
        replace(TRAIN, kind="check", alike=0.0),
        Job("read", 4, 4, 10, alike=6),
        Job("decode", 4, 2, 10, 5),
        Job("step"),
    ]
    machine.prepare(jobs)
    for job in jobs:
        low, high = machine.seconds(job)
        assert 0 <= low <= high < 60
        assert high > 0 or job.kind == "decode"


def test_an_adapter_is_measured():
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    setup = make_setup(size=measure(config(), lora), checkpointing=True)
    low, high = MeasuredMachine(config(), setup, lora).seconds(TRAIN)
    assert 0 < low <= high < 60


def test_what_does_not_fit_is_not_measured():
    setup = make_setup()
    huge = replace(setup, size=replace(setup.size, vocab=10**9, hidden=10**5))
    machine = MeasuredMachine(config(), huge)
    with pytest.raises(CannotMeasure, match="GiB that are free"):
        machine.prepare([TRAIN])
    parts = training_parts(huge, Texts(10, 3), 5)
    time = time_parts(machine, parts, parts, huge)
    assert (time.parts, time.update, time.run) == ([], None, None)
    assert "could not be measured" in time.how


def test_arithmetic_of_a_known_gpu():
    setup = make_setup("8xA100-80GB", half=True)
    setup = replace(setup, size=replace(setup.size, layers=10, total=10**10, trainable=10**10))
    machine = PeakMachine(setup, find_peak("A100"))
    job = replace(TRAIN, rows=10**6, prompts=10**6)
    flops = operations(setup.size, job)
    # Half and a fifth of 312 TFLOP/s, and at most a millisecond for each layer and pass
    assert machine.seconds(job) == pytest.approx((flops / 156e12, flops / 62.4e12 + 0.03))
    assert machine.seconds(Job("step")) == pytest.approx((28e10 / (0.8 * 2.039e12), 28e10 / (0.3 * 1.555e12)))
    # All weights are read in two bytes each for a token, whatever it computes
    assert machine.seconds(Job("decode", 1, 1, 10, 5)).low == pytest.approx(2e10 / (0.8 * 2.039e12), rel=1e-3)


def test_names_of_gpus():
    assert find_peak("NVIDIA-A100-SXM4-80GB") == find_peak("A100")
    assert find_peak("Tesla-T4").bandwidth == (300, 320)
    assert find_peak("A10") != find_peak("A10G")
    assert find_peak("MI300X") is None
    assert not is_here(Cluster.parse("512xA100-80GB"))


def test_bounds_follow_from_the_parts():
    setup = make_setup("1xH100-80GB", half=True)
    machine = PeakMachine(setup, find_peak("H100"))
    low, high = (training_parts(setup, Texts(10, length), 50) for length in (3, 30))
    time = time_parts(machine, low, high, setup)
    assert time.update.low == 2 * machine.seconds(low[0].job).low + machine.seconds(Job("step")).low
    assert time.run.high == pytest.approx(50 * time.update.high)
    assert time.update.low < time.update.high
    unknown = time_parts(
        machine, training_parts(setup, Texts(10, 3), None), training_parts(setup, Texts(10, 3), None), setup
    )
    assert unknown.run is None
    assert unknown.update.low == time.update.low


@pytest.mark.parametrize(
    ("seconds", "text"),
    [((0.5, 3.21), "0.5 to 3.2 seconds"), ((60, 1200), "1 to 20 minutes"), ((3600, 72000), "1 to 20 hours")],
)
def test_durations_have_a_unit(seconds, text):
    assert duration(Bounds(*seconds)) == text


# The command


def plan(capsys, monkeypatch, *argv: str) -> dict:
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    main([*argv, "--json"])
    return json.loads(capsys.readouterr().out)


def test_plan_computes_where_the_gpu_is_elsewhere(capsys, monkeypatch):
    time = plan(capsys, monkeypatch, "--config", "recipes/qwen3-8b/raft.yaml", "--gpus", "8xH100-80GB")["time"]
    low, high = time["hours"]
    # 2 x 99,952 rows of about 1,400 tokens, 6 operations a weight and a third more for checkpointing, on 8 GPUs
    expected = 8 * 6.9e9 * 2 * 99_952 * 1400 / 8 / 3600
    assert 0.8 < low / (expected / (0.5 * 989e12)) < 1.3
    assert 0.8 < high / (expected / (0.2 * 756e12)) < 1.5
    assert "computed, not measured" in time["how"]


def test_plan_says_that_a_gpu_is_not_known(capsys, monkeypatch):
    found = plan(capsys, monkeypatch, "--config", "recipes/qwen3-8b/raft.yaml", "--gpus", "8xMI300X-192GB")["time"]
    assert (found["hours"], found["seconds_per_update"], found["parts"]) == (None, None, [])
    assert "the speed of 'MI300X' is not known" in found["how"]


def test_plan_measures_on_this_machine(capsys, monkeypatch):
    monkeypatch.setattr(measured, "_ROUNDS", 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = plan(capsys, monkeypatch, "--config", "recipes/quickstart/real.yaml", "--max_steps", "3")
    assert found["setup"]["cluster"]["name"] == find_hardware().cluster.name == "CPU"
    low, high = found["time"]["hours"]
    assert 0 < low < high < 1
    assert found["time"]["seconds_per_update"] == pytest.approx([low * 1200, high * 1200])
    assert "measured on this machine" in found["time"]["how"]
    assert Time([], "not known").run is None
