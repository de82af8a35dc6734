# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What half precision may not do to a trainer: round its scores, or stand still."""

import logging
from types import SimpleNamespace

import pytest
import torch
from peft import get_peft_model

from real_trl import RAFTTrainer, REALTrainer
from real_trl.trainers.precision import accumulate_in_float32, check_dtype, match_adapters
from real_trl.trainers.visible_updates import VisibleUpdateCallback, visible_share
from tests.tiny import build_model, lora_config
from tests.trainers import test_raft_trainer as raft
from tests.trainers import test_real_trainer as real


def large_logits():
    """Distributions of the tiny model, with all logits near 34."""
    model = build_model()
    bias = torch.full((model.config.vocab_size,), 34.0)
    model.lm_head.bias = torch.nn.Parameter(bias)
    return model


def read_and_exact(trainer, forward):
    """
    Log-probabilities of the labels as `forward` has them, and those of a float64 head at every position that the backbone read.
    """
    seen = []
    backbone = trainer.accelerator.unwrap_model(trainer.model).base_model
    # The first of the hooks: before rows are selected
    hook = backbone.register_forward_hook(lambda m, args, output: seen.append(output.last_hidden_state.detach()))
    score_log_probs = forward()
    hook.remove()
    head = trainer.accelerator.unwrap_model(trainer.model).lm_head
    logits = seen[0].double() @ head.weight.detach().double().T + head.bias.detach().double()
    labels = [path[0] for path in trainer.score_space.token_ids]
    return score_log_probs.detach(), logits.log_softmax(-1)[..., labels].flatten(0, 1)


def error(read, exact):
    """The largest distance to the nearest position; a wrong one is nowhere near."""
    return (read.double().unsqueeze(1) - exact).abs().amax(-1).amin(-1).max()


@pytest.mark.parametrize("shared_prefix", [True, False])
def test_real_reads_its_scores_from_float32_logits(tmp_path, shared_prefix):
    trainer = real.make_trainer(
        tmp_path,
        real.Fixed,
        model=large_logits(),
        bf16=True,
        shared_prefix=shared_prefix,
        gradient_checkpointing=False,
    )
    assert trainer._shares_prefixes is shared_prefix
    inputs = trainer._prepare_inputs([row for row in trainer.train_dataset for _ in range(real.K)])
    assert error(*read_and_exact(trainer, lambda: trainer._forward(trainer.model, inputs).score_log_probs)) < 1e-4


@pytest.mark.parametrize("padding_free", [True, False])
def test_raft_reads_its_scores_from_float32_logits(tmp_path, padding_free):
    trainer = raft.make_trainer(tmp_path, model=large_logits(), bf16=True)
    trainer._padding_free = padding_free
    trainer.model.train()
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(4)])
    read = []
    trainer._log_scores = lambda score_log_probs, *_: read.append(score_log_probs)

    def forward():
        with trainer.accelerator.autocast():
            trainer.compute_loss(trainer.model, batch)
        return read[0]

    assert error(*read_and_exact(trainer, forward)) < 1e-4


# --- trained weights in half precision -----------------------------------------------------------------------------------

TRAINERS = pytest.mark.parametrize("make", [real.make_trainer, raft.make_trainer], ids=["real", "raft"])


def half(dtype=torch.bfloat16, **kwargs):
    return build_model(**kwargs).to(dtype)


@TRAINERS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_without_a_copy_are_refused(tmp_path, make, dtype):
    with pytest.raises(ValueError, match="model: ") as error:
        make(tmp_path, model=half(dtype), learning_rate=1e-6)
    name = str(dtype).removeprefix("torch.")
    for said in (f"are {name}", "float32", "bf16: true", "learning_rate=1e-06", "embed_tokens", "use_peft", "ZeRO"):
        assert said in str(error.value)


@TRAINERS
@pytest.mark.parametrize("dtype", ["bfloat16", "auto"])
def test_they_are_refused_before_they_are_loaded(tmp_path, make, dtype):
    model = half()
    model.config.dtype = torch.bfloat16
    model.config.save_pretrained(tmp_path / "model")  # and no weights
    with pytest.raises(ValueError, match="its weights are bfloat16"):
        make(tmp_path, model=str(tmp_path / "model"), model_init_kwargs={"dtype": dtype})


@TRAINERS
@pytest.mark.parametrize("options", [{}, {"model_init_kwargs": {"dtype": "float32"}}], ids=str)
def test_a_half_precision_checkpoint_is_trained_in_float32(tmp_path, make, options):
    half().save_pretrained(tmp_path / "model")
    if make is real.make_trainer:
        options = {**options, "trainer_class": real.Fixed}
    trainer = make(tmp_path, model=str(tmp_path / "model"), bf16=True, learning_rate=1e-6, max_steps=1, **options)
    before = real.parameters(trainer)
    assert {p.dtype for p in before.values()} == {torch.float32}
    trainer.train()
    assert real.unmoved(trainer, before) == []


@TRAINERS
def test_lora_on_a_half_precision_model(tmp_path, make):
    trainer = make(tmp_path, model=half(), lora=True)
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    assert trained and {p.dtype for p in trained} == {torch.float32}
    # As TRL makes them for quantised models
    model = get_peft_model(half(), lora_config(), autocast_adapter_dtype=False)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    trainer = make(tmp_path, model=model)
    for name, parameter in trainer.model.named_parameters():
        if ".ref." not in name:
            assert parameter.dtype == (torch.float32 if "lora_" in name else torch.bfloat16)
    # Copies of whole modules have the type of the module
    with pytest.raises(
        ValueError, match=r"modules_to_save\.default\.weight, …\) are bfloat16.*without modules_to_save"
    ):
        make(tmp_path, model=half(), peft_config=lora_config(modules_to_save=["lm_head"]))


@TRAINERS
def test_optimizers_that_make_up_for_it(tmp_path, make):
    model, parent = half(), REALTrainer if make is real.make_trainer else RAFTTrainer

    def with_optimizer(optimizer):
        class WithOptimizer(parent):
            def __init__(self, **kwargs):
                super().__init__(**kwargs, optimizers=(optimizer, None))

        return make(tmp_path, trainer_class=WithOptimizer, model=model)

    with pytest.raises(ValueError, match="are bfloat16"):
        with_optimizer(torch.optim.AdamW(model.parameters()))
    with_optimizer(torch.optim.AdamW([torch.nn.Parameter(p.detach().float()) for p in model.parameters()]))
    kahan = torch.optim.AdamW(model.parameters())
    kahan.param_groups[0]["use_kahan_summation"] = True
    with_optimizer(kahan)
    make(
        tmp_path,
        model=model,
        optim="adamw_anyprecision",
        optim_args="use_kahan_summation=True, momentum_dtype=float32",
    )
    with pytest.raises(ValueError, match="are bfloat16"):
        make(tmp_path, model=model, optim="adamw_anyprecision", optim_args="use_kahan_summation=False")


@pytest.mark.parametrize(
    ("config", "keeps"),
    [
        ({"bf16": {"enabled": True}, "zero_optimization": {"stage": 2}}, True),
        ({"bf16": {"enabled": "auto"}}, True),
        ({"fp16": {"enabled": True}}, True),
        ({"bf16": {"enabled": False}}, False),
        ({"bf16": {"enabled": True, "bf16_master_weights_and_grads": True}}, False),
        ({}, False),
    ],
    ids=str,
)
def test_deepspeed_keeps_copies_where_it_is_told_of_half_precision(tmp_path, config, keeps):
    args = real.REALConfig(str(tmp_path), **{**real.OPTIONS, "bf16": True})
    args.deepspeed_plugin = SimpleNamespace(deepspeed_config=config)
    if keeps:
        check_dtype("any", args, None, None)
    else:
        args.model_init_kwargs = {"dtype": "bfloat16"}
        with pytest.raises(ValueError, match="are bfloat16"):
            check_dtype("any", args, None, None)


@pytest.mark.parametrize(
    ("stage", "config", "expected"),
    [
        (3, {}, {"data_types": {"grad_accum_dtype": "fp32"}, "communication_data_type": "fp32"}),
        (3, {"data_types": {"grad_accum_dtype": "bf16"}}, {"data_types": {"grad_accum_dtype": "bf16"}, "communication_data_type": "fp32"}),
        (2, {}, {}),
    ],
)  # fmt: skip
def test_zero3_adds_gradients_up_in_float32_unless_it_is_told_otherwise(tmp_path, stage, config, expected):
    args = real.REALConfig(str(tmp_path), **real.OPTIONS)
    accumulate_in_float32(args)
    args.deepspeed_plugin = SimpleNamespace(zero_stage=stage, deepspeed_config=config)
    accumulate_in_float32(args)
    assert config == expected


@pytest.mark.parametrize(("stage", "dtype"), [(3, torch.bfloat16), (2, torch.float32)])
def test_zero3_gets_an_adapter_that_is_gone_on_with_in_the_type_of_its_base(tmp_path, stage, dtype):
    model = get_peft_model(build_model().bfloat16(), lora_config())  # PEFT makes its weights float32
    trainer = real.make_trainer(tmp_path, model=model, beta=0.1)  # with a second adapter, the reference
    trainer.args.deepspeed_plugin = SimpleNamespace(zero_stage=stage, deepspeed_config={"bf16": {"enabled": True}})
    match_adapters(trainer)
    adapters = {name: p.dtype for name, p in trainer.model.named_parameters() if "lora_" in name}
    assert {".default." in name for name in adapters} == {True, False}
    assert set(adapters.values()) == {dtype}


def test_what_the_rule_is_for():
    """AdamW at 1e-6 on weights in bfloat16: nearly all stand still, where a float32 copy moves."""
    torch.manual_seed(0)
    moved = []
    for dtype in (torch.bfloat16, torch.float32):
        weight = torch.nn.Parameter((0.02 * torch.randn(1000)).bfloat16().to(dtype))
        start, optimizer = weight.detach().clone(), torch.optim.AdamW([weight], lr=1e-6, weight_decay=0.0)
        for _ in range(20):
            weight.grad = torch.ones_like(weight)
            optimizer.step()
        moved.append((weight != start).double().mean())
    assert moved[0] < 0.15 and moved[1] == 1.0


# --- what the policy sees of its update ----------------------------------------------------------------------------------


def test_the_visible_share_by_hand():
    # Between 1 and 2 bfloat16 has steps of 2^-7, and rounds at half of that: the first weight shows nothing of its 2^-9, the second
    # 2^-7 of 2^-7. (2^-7)² / ((2^-9)² + (2^-7)²) = 16/17
    first = torch.tensor([1.0, 1.0])
    weights = first + torch.tensor([2.0**-9, 2.0**-7])
    numerator, denominator = visible_share(weights.bfloat16(), first.bfloat16(), weights, first)
    assert (numerator / denominator).item() == pytest.approx(16 / 17)
    # Weights that are no numbers of bfloat16 are rounded either way: on average everything is seen
    first = 1 + torch.rand(100000, generator=torch.Generator().manual_seed(0))
    numerator, denominator = visible_share((first + 1e-4).bfloat16(), first.bfloat16(), first + 1e-4, first)
    assert (numerator / denominator).item() == pytest.approx(1.0, abs=0.1)


@TRAINERS
@pytest.mark.parametrize(("learning_rate", "low", "high"), [(5e-8, 0.0, 0.05), (1e-2, 0.95, 1.05)])
def test_the_share_is_logged_and_little_of_it_is_said(tmp_path, caplog, make, learning_rate, low, high):
    """Float32 weights that come out of a bfloat16 checkpoint, read under autocast."""
    model = half().float()
    kwargs = {"trainer_class": real.Fixed} if make is real.make_trainer else {}
    with caplog.at_level(logging.INFO):
        trainer = make(
            tmp_path,
            **kwargs,
            model=model,
            bf16=True,
            learning_rate=learning_rate,
            max_steps=3,
            lr_scheduler_type="constant",
        )
        trainer.train()
    shares = [log["update/visible_share"] for log in trainer.state.log_history if "update/visible_share" in log]
    assert len(shares) == 3 and low <= shares[-1] <= high
    (said,) = [r for r in caplog.records if "sees" in r.message and "optimizer has changed" in r.message]
    assert "After 3 steps the policy, which reads its weights in bfloat16" in said.message
    assert (said.levelno == logging.WARNING and "raise learning_rate (now 5e-08)" in said.message) == (low == 0.0)


@TRAINERS
def test_a_policy_in_float32_is_not_watched(tmp_path, make):
    trainer = make(tmp_path)
    assert not any(isinstance(c, VisibleUpdateCallback) for c in trainer.callback_handler.callbacks)
