# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`real-trl plan`: counts against published figures, real tensors and real trainers; every suggestion against the plan it makes."""

import copy
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, PreTrainedConfig, Qwen3Config

from real_trl.planning.advice import advise, longest_fitting_prompt, possible_changes
from real_trl.planning.memory import activations, kv_bytes, layer_bytes, plan_memory
from real_trl.planning.models import PUBLISHED, find_config, measure
from real_trl.planning.recipe import Lengths, make_schedule
from real_trl.planning.setup import GIB, Cluster, Setup, Sharding, read_sharding
from real_trl.planning.states import GENERATION, UPDATE, deepspeed_estimate, model_states, zero_arithmetic
from real_trl.scripts.plan import main
from real_trl.trainers import REALConfig, REALTrainer
from tests import tiny

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"
LARGE = sorted(
    path
    for folder in ("mistral-7b-instruct-v0.2", "qwen3-8b", "qwen3-32b")
    for path in (RECIPES / folder).glob("*.yaml")
    if "real-trl plan" in path.read_text(encoding="utf-8")
)
MISTRAL, QWEN_8B, QWEN_32B = PUBLISHED
CONFIG_CLASSES = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen3": Qwen3Config}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No network, and recipes are found from the root, as in their commands."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(ROOT)


def published(name: str) -> PreTrainedConfig:
    return find_config(name, RECIPES / "none.yaml")[0]


def make_setup(size, gpus: str = "8xA100-80GB", stage: int = 3, **kwargs) -> Setup:
    values = {
        "cluster": Cluster.parse(gpus),
        "sharding": Sharding(stage),
        "stage": "rl",
        "batch": 16,
        "accumulation": 32,
        "group": 16,
        "micro_batches": 32,
        "iterations": 1,
        "prompt": 2048,
        "completion": 1024,
        "shared": False,
        "checkpointing": True,
        "half": True,
        "weight_bytes": 4,
        "reference": False,
        "generation": "vllm",
        "vllm_share": 0.5,
        "vllm_sleep": True,
        "vllm_context": 4096,
    }
    return Setup(size=size, **{**values, **kwargs})


def run_json(capsys, *argv: str) -> dict:
    main([*argv, "--json"])
    return json.loads(capsys.readouterr().out)


# The model


@pytest.mark.parametrize(
    ("name", "parameters", "billions"),
    [(MISTRAL, 7_241_732_096, "7.24"), (QWEN_8B, 8_190_735_360, "8.19"), (QWEN_32B, 32_762_123_264, "32.76")],
)
def test_published_dimensions_give_the_published_counts(name, parameters, billions):
    size = measure(published(name))
    assert size.total == size.trainable == parameters
    assert f"{size.total / 1e9:.2f}" == billions
    assert size.largest_layer == size.vocab * size.hidden


def test_lora_is_counted_by_peft():
    size = measure(
        published(MISTRAL), LoraConfig(r=128, lora_alpha=256, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    # q and o 4096 -> 4096, k and v 4096 -> 1024, gate and up 4096 -> 14336, down 14336 -> 4096; r x (in + out) each
    per_layer = 128 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336))
    assert size.lora
    assert size.trainable == 32 * per_layer
    assert size.total == 7_241_732_096 + size.trainable


def test_counts_are_those_of_the_real_model():
    for tied in (False, True):
        model = tiny.build_model("qwen3", tie_word_embeddings=tied)
        size = measure(model.config)
        assert size.total == sum(p.numel() for p in model.parameters())
        assert (size.layers, size.kv_heads, size.head_dim, size.qk_norm) == (2, 2, 8, True)


def test_a_model_that_is_not_there_yet_is_followed_to_its_start(tmp_path):
    recipe = RECIPES / "mistral-7b-instruct-v0.2" / "real.yaml"
    config, source = find_config("outputs/mistral-7b-instruct-v0.2/tract", recipe)
    assert config.model_type == "mistral"
    assert config.num_hidden_layers == 32
    assert "published dimensions" in source
    assert "tract.yaml makes" in source
    # A directory that is there comes first
    model = tiny.build_model()
    model.save_pretrained(tmp_path / "judge")
    assert find_config(str(tmp_path / "judge"), recipe)[0].hidden_size == 32
    adapter = tmp_path / "adapter"
    tiny.lora_config(base_model_name_or_path=str(tmp_path / "judge")).save_pretrained(adapter)
    config, source = find_config(str(adapter), recipe)
    assert config.hidden_size == 32
    assert "adapter" in source


# Memory


def saved_bytes(model, ids, mask, autocast: bool) -> int:
    """Bytes that autograd saves in a forward through the backbone, each storage once, parameters and their casts left out."""
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    shapes = {tuple(p.shape) for p in model.parameters() if p.dim() == 2}
    shapes |= {shape[::-1] for shape in shapes}
    saved = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters and not (autocast and tuple(tensor.shape) in shapes):
            saved[storage.data_ptr()] = storage  # kept, so that no later tensor gets its address
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
    ):
        output = model.model(input_ids=ids, attention_mask=mask, use_cache=False)
    total = sum(storage.nbytes() for storage in saved.values())
    del output
    return total


def small_config(architecture: str, layers: int, hidden: int = 256, intermediate: int = 896) -> PreTrainedConfig:
    return CONFIG_CLASSES[architecture](
        vocab_size=100,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=hidden // 8 + 16,
        max_position_embeddings=512,
        **({"sliding_window": None} if architecture == "mistral" else {}),
    )


@pytest.mark.parametrize("architecture", CONFIG_CLASSES)
@pytest.mark.parametrize("autocast", [False, True], ids=["bf16", "autocast"])
def test_layer_bytes_is_what_autograd_saves(architecture, autocast):
    ids = torch.randint(0, 100, (4, 128))
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    found = []
    for layers in (2, 3):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(small_config(architecture, layers))
        model = model.to(torch.float32 if autocast else torch.bfloat16).train()
        found.append(saved_bytes(model, ids, mask, autocast))
    measured = (found[1] - found[0]) / ids.numel()
    expected = layer_bytes(measure(small_config(architecture, 2)), 128, residual=4 if autocast else 2)
    assert measured == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("dropout", [0.0, 0.05])
def test_layer_bytes_of_an_adapter_are_at_most_what_is_counted(dropout):
    lora = LoraConfig(r=32, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM")
    ids = torch.randint(0, 100, (4, 128))
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    found = []
    for layers in (2, 3):
        model = AutoModelForCausalLM.from_config(small_config("llama", layers)).to(torch.bfloat16)
        model = get_peft_model(model, copy.deepcopy(lora), autocast_adapter_dtype=False).train()
        found.append(saved_bytes(model.base_model.model, ids, mask, autocast=False))
    measured = (found[1] - found[0]) / ids.numel()
    expected = layer_bytes(measure(small_config("llama", 2), lora), 128)
    # Frozen norms save a little less; the mask of a dropout has two bytes an element here, one on a GPU
    assert measured <= expected <= 1.15 * measured


def test_a_shared_prompt_is_read_once_for_its_group():
    size = measure(published(QWEN_8B))
    assert make_setup(size).tokens == 16 * (2048 + 1024)
    assert make_setup(size, shared=True).tokens == 2048 + 16 * 1024
    assert make_setup(size, shared=True, batch=64).tokens == 4 * 2048 + 64 * 1024
    kept = [activations(make_setup(size, shared=shared))[0].bytes for shared in (True, False)]
    assert kept[0] / kept[1] == (2048 + 16 * 1024) / (16 * (2048 + 1024))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_the_measured_peak(checkpointing):
    config = small_config("llama", 8)
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16).train()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    ids = torch.randint(0, 100, (4, 256))
    mask = torch.ones_like(ids)
    mask[0, :5] = 0

    def step():
        # A sum in place of the LM head, which is planned apart
        model.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state.sum().backward()

    step()
    model.zero_grad(set_to_none=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    current = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        current += event.nbytes()
        peak = max(peak, current)
    gradients = 2 * sum(p.numel() for p in model.model.parameters())
    assert current == pytest.approx(gradients, rel=0.02), "the profile is incomplete"

    size = measure(config)
    tokens, layer = ids.numel(), layer_bytes(size, 256)
    in_flight = 2 * (3 * size.intermediate + 2 * size.hidden)
    expected = tokens * ((2 * size.hidden * 8 + layer if checkpointing else 8 * layer) + in_flight)
    items = {
        item.name: item.bytes
        for item in activations(
            make_setup(replace(size, vocab=0), batch=4, prompt=255, completion=1, checkpointing=checkpointing)
        )
    }
    # The head of this setup scores one token a row, so that the layer is the larger
    assert sum(items.values()) == expected
    # Without checkpointing no gradient of a weight is there yet at the peak; with it, some are
    assert 0.95 * expected < peak < 1.05 * expected + gradients * checkpointing


def test_kv_bytes_is_the_size_of_a_real_cache():
    model = tiny.build_model("qwen3").to(torch.bfloat16)
    cache = model(torch.zeros(3, 7, dtype=torch.long), use_cache=True).past_key_values
    measured = sum(t.nbytes for layer in cache.layers for t in (layer.keys, layer.values))
    assert measured == 3 * 7 * kv_bytes(measure(model.config))
    size = measure(published(MISTRAL))
    assert kv_bytes(size) == 2 * 2 * 32 * 8 * 128 == 131_072
    assert kv_bytes(size, parallel=4) == 32_768


@pytest.mark.parametrize(
    ("stage", "offload", "host", "gpu"),
    [
        # 8.19B on 8 GPUs, largest layer 151936 x 4096: 18 bytes / 8 and 4 bytes of the layer
        (3, (), 29_871_833_088, 2_489_319_424 + 18_429_154_560),
        (3, (True,), int(1.5 * 16 * 8_190_735_360), 2_489_319_424 + 2_047_683_840),
        (3, (True, True), int(1.5 * 18 * 8_190_735_360), 2_489_319_424),
        (2, (), int(1.5 * 4 * 8 * 8_190_735_360), 16_381_470_720 + 18_429_154_560),
        (2, (True,), int(1.5 * 32 * 8_190_735_360), 16_381_470_720),
    ],
)
def test_model_states_by_hand(stage, offload, host, gpu):
    setup = replace(make_setup(measure(published(QWEN_8B))), sharding=Sharding(stage, *offload))
    assert zero_arithmetic(setup) == (host, gpu)
    items, in_host, _ = model_states(setup)
    without_buffers = sum(item.bytes for item in items if "buffers" not in item.name)
    assert in_host == host
    assert without_buffers == pytest.approx(gpu, abs=8)


@pytest.mark.deepspeed
@pytest.mark.parametrize("gpus", ["1xA100-80GB", "8xA100-80GB", "2x8xA100-80GB"])
@pytest.mark.parametrize("offload", [(), (True,), (True, True)])
@pytest.mark.parametrize("stage", [2, 3])
def test_arithmetic_is_deepspeeds(gpus, offload, stage):
    if stage == 2 and len(offload) == 2:
        return
    setup = replace(make_setup(measure(published(QWEN_32B)), gpus), sharding=Sharding(stage, *offload))
    host, gpu, source = deepspeed_estimate(setup)
    assert "estimators of DeepSpeed" in source
    assert (host, gpu) == zero_arithmetic(setup)


def test_states_without_deepspeed_are_those_of_a_real_optimizer():
    model = tiny.build_model()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(1, 3, dtype=torch.long), labels=torch.zeros(1, 3, dtype=torch.long)).loss.backward()
    optimizer.step()
    measured = sum(t.nbytes for state in optimizer.state.values() for t in state.values() if t.dim())
    items, _, _ = model_states(make_setup(measure(model.config), "1xA100-80GB", stage=0, half=False))
    assert {item.name: item.bytes for item in items} == {
        "weights": sum(p.nbytes for p in model.parameters()),
        "gradients": sum(p.grad.nbytes for p in model.parameters()),
        "optimizer (AdamW)": measured,
    }


def test_frozen_weights_take_two_bytes_and_no_states():
    lora = LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
    size = measure(published(MISTRAL), lora)
    items = {item.name: item.bytes for item in model_states(make_setup(size))[0]}
    assert items["weights (bf16)"] == pytest.approx(2 * size.total / 8, abs=8)
    assert items["optimizer (AdamW)"] == pytest.approx(12 * size.trainable / 8, abs=8)


def test_fsdp2s_states_by_hand():
    """Mistral: 7,241,732,096 parameters, 262,144,000 of them embeddings and LM head, which leaves 218,112,128 for each of 32 layers."""
    setup = replace(make_setup(measure(published(MISTRAL))), sharding=Sharding(3, fsdp=True))
    items, in_host, _ = model_states(setup)
    assert in_host == 0
    assert {item.name: item.bytes for item in items} == {
        "weights": 4 * 7_241_732_096 // 8,
        "gradients": 4 * 7_241_732_096 // 8,
        "optimizer (AdamW)": 8 * 7_241_732_096 // 8,
        "weights gathered for a layer": 2 * (2 * 218_112_128 + 262_144_000),
        "gradients of a layer": 6 * 218_112_128,
    }


def test_weights_in_4_bits_by_hand():
    """Mistral's layers have 218,103,808 weights in linear layers each; bfloat16 are embeddings, LM head and norms, float32 the adapter."""
    lora = LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
    size = measure(published(MISTRAL), lora, in_4bit=True)
    adapter, quantized = size.trainable, 32 * 218_103_808
    assert (size.quantized, size.total - adapter) == (quantized, 7_241_732_096)
    setup = make_setup(size, "1xA100-40GB", stage=0, weight_bytes=2)
    assert {item.name: item.bytes for item in model_states(setup)[0]} == {
        "weights": 2 * (7_241_732_096 - quantized) + 4 * adapter,
        "weights in 4 bits": quantized * 9 // 16,
        "gradients": 4 * adapter,
        "optimizer (AdamW)": 8 * adapter,
    }


def test_vllm_gives_its_memory_back_only_in_sleep_mode():
    size = measure(published(MISTRAL))
    awake, asleep = (plan_memory(make_setup(size, vllm_sleep=sleep)) for sleep in (False, True))
    share = int(0.5 * 80 * GIB)
    assert awake.peak(GENERATION) == asleep.peak(GENERATION)
    assert awake.peak(UPDATE) - asleep.peak(UPDATE) == pytest.approx(share - GIB, abs=2)
    assert awake.problems
    assert not asleep.problems


def test_a_completion_that_does_not_fit_the_context_is_a_problem():
    size = measure(published(QWEN_32B))
    fits = make_setup(size, prompt=size.context - 1024, completion=1024)
    assert not any("tokens together" in problem for problem in plan_memory(fits).problems)
    setup = make_setup(size, prompt=size.context - 1000, completion=1024)
    problems = [problem for problem in plan_memory(setup).problems if problem.startswith("max_completion_length")]
    assert (
        len(problems) == 1
        and f"{size.context + 24:,} tokens together, the model reads {size.context:,}" in problems[0]
    )
    assert any(change.text == "--max_completion_length 1000" for change in possible_changes(setup))


def test_what_vllm_would_refuse_is_a_problem():
    size = measure(published(QWEN_32B))
    problems = plan_memory(make_setup(size, "2x8xA100-80GB", vllm_share=0.3)).problems
    assert any("will not start" in problem for problem in problems)
    problems = plan_memory(make_setup(size, "2x6xA100-80GB", vllm_parallel=4)).problems
    assert any(problem.startswith("vllm_tensor_parallel_size: 4") for problem in problems)
    problems = plan_memory(make_setup(size, vllm_context=3000)).problems
    assert any(problem.startswith("vllm_max_model_length: 3,000") for problem in problems)


def test_longest_fitting_prompt():
    setup = make_setup(measure(published(MISTRAL)), vllm_context=32768)
    longest = longest_fitting_prompt(setup)
    assert longest > 2048
    assert not plan_memory(replace(setup, prompt=longest)).problems
    assert plan_memory(replace(setup, prompt=longest + 64)).problems


@pytest.mark.parametrize(
    ("name", "gpus", "stage"),
    [(QWEN_8B, "8xA100-80GB", 2), (MISTRAL, "4xA100-40GB", 3), (QWEN_32B, "2x8xA100-80GB", 3)],
)
def test_advice_makes_it_fit_and_is_minimal(name, gpus, stage):
    config = published(name)
    setup = make_setup(measure(config), gpus, stage, vllm_sleep=False, checkpointing=False)
    assert plan_memory(setup).problems
    lora = measure(config, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    advice = advise(setup, lambda: lora)
    assert advice
    for each in advice:
        changed = setup
        for change in each.changes:
            changed = change.apply(changed)
        memory = plan_memory(changed)
        assert not memory.problems
        assert memory.peak(UPDATE) == each.memory.peak(UPDATE) <= memory.capacity
        for left_out in each.changes:
            fewer = setup
            for change in each.changes:
                fewer = fewer if change is left_out else change.apply(fewer)
            assert plan_memory(fewer).problems
    # Smaller pieces and more GPUs leave the step as it is
    for change in possible_changes(setup):
        if change.option in ("batch", "gpus"):
            changed = change.apply(setup)
            assert changed.batch * changed.accumulation * changed.cluster.world == 16 * 32 * setup.cluster.world


# Steps


@pytest.mark.parametrize(("steps_per_generation", "iterations"), [(2, 1), (4, 3)])
def test_schedule_is_that_of_the_trainer(tmp_path, steps_per_generation, iterations):
    args = REALConfig(
        output_dir=str(tmp_path),
        num_generations=2,
        max_completion_length=48,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        steps_per_generation=steps_per_generation,
        num_iterations=iterations,
        num_train_epochs=2,
        use_cpu=True,
        report_to="none",
    )
    dataset = tiny.prompt_dataset([1.0, 2.0, 3.0] * 10)
    trainer = REALTrainer(model=tiny.build_model(), args=args, train_dataset=dataset, processing_class=tiny.TOKENIZER)
    setup = make_setup(
        measure(trainer.model.config),
        "1xCPU-8GB",
        stage=0,
        batch=4,
        group=2,
        accumulation=2,
        micro_batches=steps_per_generation,
        iterations=iterations,
    )
    schedule = make_schedule(setup, args, len(dataset), "", Lengths())
    loader = trainer.get_train_dataloader()
    assert schedule.steps_per_epoch == trainer.set_initial_training_values(args, loader)[1]
    assert schedule.steps == trainer.set_initial_training_values(args, loader)[-1]
    assert schedule.prompts_per_step == 4


# The command


@pytest.mark.parametrize("recipe", LARGE, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_large_recipes_fit_on_the_gpus_they_name(recipe, capsys):
    found = re.search(r"^#\s+real-trl (plan --config (\S+) --gpus \S+)$", recipe.read_text("utf-8"), re.MULTILINE)
    assert ROOT / found[2] == recipe
    plan = run_json(capsys, *found[1].split()[1:])
    assert plan["fits"], plan["memory"]["problems"]
    assert "published dimensions" in plan["model_source"]
    schedule = plan["schedule"]
    assert schedule["rows"] == 99_952
    assert schedule["prompts_per_generation"] == 256
    if plan["setup"]["stage"] == "rl":
        assert (
            schedule["sequences_per_step"] * schedule["updates_per_generation"] == 4096 * plan["setup"]["iterations"]
        )
        assert schedule["steps"] == 390 * schedule["updates_per_generation"]
    else:
        assert schedule["steps"] == (100 if recipe.stem == "base_warmup" else 391 * (3 if recipe.stem == "sft" else 2))


def test_all_training_recipes_of_the_large_models_are_planned():
    trained = [
        path
        for folder in ("mistral-7b-instruct-v0.2", "qwen3-8b", "qwen3-32b")
        for path in (RECIPES / folder).glob("*.yaml")
        if re.search(r"-m real_trl\.scripts\.(sft|rl) ", path.read_text(encoding="utf-8"))
    ]
    assert sorted(trained) == LARGE
    assert len(LARGE) >= 15


@pytest.mark.parametrize("name", ["raft", "real"])
def test_the_quickstart_is_planned(name, capsys):
    plan = run_json(capsys, "--config", f"recipes/quickstart/{name}.yaml", "--gpus", "1xCPU-8GB")
    assert "CUDA context, NCCL" not in [item["name"] for item in plan["memory"]["items"]]
    assert plan["fits"]
    assert plan["setup"]["sharding"]["stage"] == 0
    lengths = plan["schedule"]["lengths"]
    assert "measured" in lengths["source"]
    assert 30 < lengths["prompt"] <= lengths["longest_prompt"] <= 42
    assert plan["schedule"]["rows"] == {"raft": 4800, "real": 1200}[name]


def test_suggested_options_do_what_they_say(capsys):
    """The options that are suggested, given on the command line, make the run fit there too."""
    recipe = ("--config", "recipes/qwen3-8b/real.yaml", "--gpus", "8xA100-80GB")
    tight = ("--vllm_enable_sleep_mode", "false", "--zero", "2", "--gradient_accumulation_steps", "32")
    plan = run_json(capsys, *recipe, *tight)
    assert not plan["fits"]
    tried = 0
    for advice in plan["advice"]:
        options = [part for text in advice["changes"] for part in re.findall(r"--[a-z_]+ [\w.-]+", text)]
        if len(options) < len(advice["changes"]):
            continue  # another configuration of accelerate
        changed = list(tight)
        for option in options:
            name, value = option.split()
            if name in changed:
                del changed[changed.index(name) : changed.index(name) + 2]
            changed += [name, value]
        assert run_json(capsys, *recipe, *changed)["fits"], advice
        tried += 1
    assert tried


def test_options_of_the_command_line(capsys, tmp_path):
    recipe = ("--config", "recipes/qwen3-8b/real.yaml", "--gpus", "8xA100-80GB")
    plain = run_json(capsys, *recipe)
    assert plain["setup"]["sharding"]["stage"] == 3
    changed = run_json(
        capsys, *recipe, "--accelerate_config", "recipes/accelerate_configs/zero2.yaml", "--rows", "1000",
        "--prompt_tokens", "500", "--max_prompt_tokens", "900", "--completion_tokens", "80", "--use_peft", "true",
        "--num_generations", "8",
    )  # fmt: skip
    assert changed["setup"]["sharding"]["stage"] == 2
    assert changed["setup"]["size"]["lora"]
    assert changed["setup"]["group"] == 8
    assert changed["setup"]["prompt"] == 900
    assert changed["schedule"]["rows"] == 1000
    assert changed["schedule"]["tokens_per_step"] == changed["schedule"]["sequences_per_step"] * 580


def test_tables_say_what_does_not_fit_and_what_would(capsys):
    main(["--config", "recipes/qwen3-8b/raft.yaml", "--gpus", "8xA100-40GB", "--gradient_checkpointing", "false"])
    text = " ".join(capsys.readouterr().out.split())
    assert "It does not fit" in text
    assert "--gradient_checkpointing true" in text
    main(["--config", "recipes/qwen3-8b/real.yaml", "--gpus", "8xA100-80GB"])
    text = " ".join(capsys.readouterr().out.split())
    assert "It fits." in text
    assert "8.19B parameters" in text


def test_the_console_script_has_it():
    command = [sys.executable, "-m", "real_trl.cli", "plan", "--config", "recipes/qwen3-32b/real.yaml", "--gpus"]
    done = subprocess.run([*command, "2x8xA100-80GB"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "It fits." in done.stdout


# Errors


@pytest.mark.parametrize("text", ["8xA100", "A100-80GB", "0x8xA100-80GB", "8*A100-80GB", "8xA100-0GB", "lots"])
def test_bad_gpus(text):
    with pytest.raises(ValueError, match=rf"--gpus: got '{re.escape(text)}'.*8xA100-80GB"):
        Cluster.parse(text)


def test_gpus():
    assert Cluster.parse("8xA100-80GB") == Cluster(1, 8, "A100", 80 * GIB)
    two = Cluster.parse("2x8xRTX-6000-48GB")
    assert (two.world, two.name, str(two)) == (16, "RTX-6000", "2x8xRTX-6000-48GB")


def test_sharding_of_the_configurations():
    configs = RECIPES / "accelerate_configs"
    assert read_sharding(configs / "single.yaml") == (Sharding(0), 1, 1)
    assert read_sharding(configs / "ddp.yaml") == (Sharding(0), 8, 1)
    assert read_sharding(configs / "zero2.yaml") == (Sharding(2), 8, 1)
    assert read_sharding(configs / "zero3.yaml") == (Sharding(3), 8, 1)
    assert read_sharding(configs / "zero3_2nodes.yaml") == (Sharding(3), 16, 2)
    assert read_sharding(configs / "zero3_2nodes_offload.yaml") == (Sharding(3, True), 16, 2)
    assert read_sharding(configs / "fsdp2.yaml") == (Sharding(3, fsdp=True), 8, 1)


@pytest.mark.parametrize(("name", "value"), [("fsdp_version", 1), ("fsdp_offload_params", True)])
def test_other_kinds_of_fsdp_are_not_planned_for(tmp_path, name, value):
    config = yaml.safe_load((RECIPES / "accelerate_configs" / "fsdp2.yaml").read_text())
    config["fsdp_config"][name] = value
    path = tmp_path / "fsdp.yaml"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(
        ValueError, match=f"{name} {value}, which is not planned for. Set it to (2|false), as in fsdp2.yaml"
    ):
        read_sharding(path)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--gpus", "8xA100"], "--gpus: got '8xA100'"),
        (
            ["--config", "recipes/qwen3-8b/evaluate.yaml"],
            "is a recipe of the stage 'evaluate'; only training is planned",
        ),
        (["--config", "recipes/qwen3-8b/nothing.yaml"], "no such file"),
        (["--model_name_or_path", "no/such-model"], "model: 'no/such-model' is neither a directory"),
        (["--accelerate_config", "no.yaml"], "--accelerate_config: 'no.yaml' does not exist"),
        (["--accelerate_config", "README.md"], "is no configuration of accelerate"),
        (["--rows", "0"], "--rows: got 0"),
        (["--max_prompt_tokens", "0"], "got 0 tokens"),
        (["--load_in_4bit", "true"], "load_in_4bit: got true for full training"),
        (["--load_in_4bit", "true", "--use_peft", "true"], "load_in_4bit: got true with ZeRO-3"),
        (["--load_in_8bit", "true"], "load_in_8bit: got true"),
        (["--dtype", "bfloat16", "--zero", "0"], "dtype: got bfloat16 for full training without ZeRO"),
        (["--num_generation", "8"], "unknown option '--num_generation'. Did you mean '--num_generations'?"),
        (["--num_generations", "1"], "num_generations: got 1"),
    ],
)
def test_bad_input_names_field_value_and_fix(argv, message, capsys):
    given = dict(zip(argv[::2], argv[1::2], strict=True))
    options = {"--config": "recipes/qwen3-8b/real.yaml", "--gpus": "8xA100-80GB", **given}
    with pytest.raises(SystemExit) as exit_info:
        main([part for option in options.items() for part in option])
    assert exit_info.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_recipe_without_a_command_needs_its_stage(tmp_path, capsys):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        f"model_name_or_path: {QWEN_8B}\noutput_dir: out\ndataset_name: someone/data\nmax_steps: 5\n", encoding="utf-8"
    )
    with pytest.raises(SystemExit):
        main(["--config", str(recipe), "--gpus", "8xA100-80GB"])
    assert "--stage" in capsys.readouterr().err
    plan = run_json(capsys, "--config", str(recipe), "--gpus", "8xA100-80GB", "--stage", "sft")
    assert plan["setup"]["sharding"]["stage"] == 3
    assert plan["schedule"]["rows"] is None
    assert plan["schedule"]["steps"] == 5
