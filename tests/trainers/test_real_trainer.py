# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`REALTrainer` in TRL's training loop: what moves, what is logged, what is refused. Its gradient has a test of its own."""

import math

import pytest
import torch
from datasets import Dataset

from real_trl import JudgeConfig, REALConfig, REALTrainer
from tests.tiny import DIGITS, TOKENIZER, build_model, chat_tokenizer, encode, lora_config, prompt_dataset, warm_model
from tests.trainers.test_real_gradient import COMPLETIONS

MARKER = "So the overall score is"
K = 4
SCORES = [4.0, 2.0]
REWARDS = ["regression", "accuracy", "log_likelihood", "log_marginal"]
RELEASED = {"likelihood_form": "probability", "advantage_streams": "separate"}
OPTIONS = {
    "num_generations": K,
    "per_device_train_batch_size": 2 * K,
    "max_completion_length": 20,
    "shuffle_dataset": False,
    "gradient_checkpointing": False,
    "bf16": False,
    "report_to": "none",
    "use_cpu": True,
    "logging_steps": 1,
    "disable_tqdm": True,
    "save_strategy": "no",
    "lr_scheduler_type": "constant",
    "max_steps": 1,
}
METRICS = {
    "reward",
    "reward_std",
    "rewards/squared_error",
    "rewards/log_likelihood",
    "score/abs_error",
    "score/accuracy",
    "score/mass",
    "score/pearson",
    "frac_reward_zero_std",
    "entropy",
    "malformed/rate",
    "malformed/missing",
    "malformed/truncated",
    "malformed/outside",
    "loss/policy",
    "loss/prediction",
    "completions/mean_length",
    "completions/clipped_ratio",
}


class Fixed(REALTrainer):
    """REALTrainer with a sampler that knows what it will say: `texts[i]` for the i-th prompt of a generation batch."""

    texts = COMPLETIONS

    def _generate(self, prompts):
        ids = [encode(text) for text in self.texts]
        return self._tokenize_prompts(prompts)[0], ids, self.texts


def fixed(*texts):
    return type("Fixed", (Fixed,), {"texts": list(texts)})


def make_trainer(tmp_path, trainer_class=REALTrainer, lora=False, **kwargs):
    """A trainer on two prompts with `K` completions each, unless `kwargs` (of the config or of the trainer) say otherwise."""
    given = {
        "model": build_model() if issubclass(trainer_class, Fixed) else warm_model(),
        "train_dataset": prompt_dataset(SCORES),
        "processing_class": TOKENIZER,
        "peft_config": lora_config() if lora else None,
    }
    given.update({name: kwargs.pop(name) for name in (*given, "eval_dataset") if name in kwargs})
    trainer = trainer_class(args=REALConfig(str(tmp_path), **{**OPTIONS, **kwargs}), **given)
    torch.manual_seed(1)
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:  # zero would hide A's gradient, much more would undo the warm start
            torch.nn.init.normal_(parameter, std=0.01)
    return trainer


def parameters(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}


def unmoved(trainer, before):
    after = parameters(trainer)
    assert before and before.keys() == after.keys()
    return [name for name in before if torch.equal(before[name], after[name])]


def loss_and_gradient(trainer):
    trainer.model.train()
    inputs = trainer._prepare_inputs([row for row in trainer.train_dataset for _ in range(K)])
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    gradient = {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.model.zero_grad()
    return loss.item(), gradient


def distance(actual, expected):
    """Relative difference of two sets of tensors."""
    difference = sum((actual[name] - expected[name]).double().square().sum() for name in expected).sqrt()
    return (difference / sum(value.double().square().sum() for value in expected.values()).sqrt()).item()


# --- what moves --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("reward", REWARDS)
def test_one_step_on_sampled_completions_moves_every_parameter(tmp_path, reward, lora):
    # Enough completions that some score is right, whatever the random numbers
    groups = {"num_generations": 4 * K, "per_device_train_batch_size": 8 * K}
    trainer = make_trainer(tmp_path, lora=lora, reward=reward, learning_rate=0.1, **groups)
    before = parameters(trainer)
    trainer.train()
    log = trainer.state.log_history[0]
    assert log["malformed/rate"] < 1 and log["frac_reward_zero_std"] < 1  # the step had something to learn from
    assert unmoved(trainer, before) == []
    assert METRICS - log.keys() == set()


@pytest.mark.parametrize("reward", ["regression", "log_marginal"])
def test_one_step_on_a_scale_of_several_tokens(tmp_path, reward):
    """From sampling on: an untrained model, so that the marker is appended to what it says."""
    trainer = make_trainer(
        tmp_path,
        model=build_model(tokenizer=DIGITS),
        processing_class=DIGITS,
        train_dataset=prompt_dataset([40.0, 72.5]),
        score_labels="0-100",
        malformed="force",
        reward=reward,
        learning_rate=0.1,
    )
    before = parameters(trainer)
    trainer.train()
    assert unmoved(trainer, before) == []
    log = trainer.state.log_history[0]
    assert log["malformed/rate"] == 1 and log["frac_reward_zero_std"] == 0
    assert 0 < log["score/mass"] < 1 and log["score/abs_error"] > 0
    assert trainer._buffered_inputs[0]["label_weights"][K, 72:74].tolist() == [0.5, 0.5]
    assert JudgeConfig.load(save(trainer, tmp_path)).score_values == [float(k) for k in range(101)]


def save(trainer, tmp_path):
    trainer.save_model(str(tmp_path / "final"))
    return tmp_path / "final"


@pytest.mark.parametrize("malformed", ["penalize", "force", "ignore"])
@pytest.mark.parametrize("reward", REWARDS)
def test_identical_rewards_without_prediction_weight_move_nothing(tmp_path, reward, malformed):
    if (reward, malformed) == ("accuracy", "force"):
        pytest.skip("refused by REALConfig")
    one, other = f"1) 7+4 is 11, close. {MARKER} 4", f"{MARKER} 1"
    trainer = make_trainer(
        tmp_path,
        fixed(*[one] * K, *[other] * K),
        reward=reward,
        malformed=malformed,
        prediction_weight=0.0,
        learning_rate=0.1,
        weight_decay=0.0,
        max_steps=2,
    )
    before = parameters(trainer)
    trainer.train()
    assert len(unmoved(trainer, before)) == len(before)
    assert [log["frac_reward_zero_std"] for log in trainer.state.log_history[:2]] == [1.0, 1.0]


def test_equal_accuracy_moves_nothing_however_different_the_completions(tmp_path):
    right = [f"{MARKER} 4", f"7+4 is 12, right. {MARKER} 4", f"3-8 is 5, right. {MARKER} 4", f"7+4 is 11. {MARKER} 4"]
    wrong = [f"{MARKER} 4", f"7+4 is 12, right. {MARKER} 1", "3-8 is 5", f"7+4 is 11. {MARKER} 5"]
    trainer = make_trainer(tmp_path, fixed(*right, *wrong), reward="accuracy", learning_rate=0.1)
    before = parameters(trainer)
    trainer.train()
    assert len(unmoved(trainer, before)) == len(before)
    assert trainer.state.log_history[0]["reward"] == 0.5


def test_identical_rewards_with_a_prediction_weight_move(tmp_path):
    trainer = make_trainer(tmp_path, fixed(*[f"{MARKER} 4"] * 2 * K), prediction_weight=0.01, learning_rate=0.1)
    before = parameters(trainer)
    trainer.train()
    assert unmoved(trainer, before) == []


# --- malformed completions ---------------------------------------------------------------------------------------------

MALFORMED = ["7+4 is 12, right.", f"7+4 is 12, right. {MARKER}", f"7+4 is 12, right. {MARKER} 7"]
WELL_FORMED = f"7+4 is 12, right. {MARKER} 4"


def score_inputs(trainer):
    """One batch, with its rewards as a function of the labels' log-probabilities."""
    trainer.model.train()
    inputs = trainer._prepare_inputs([row for row in trainer.train_dataset for _ in range(K)])
    log_probs = trainer._forward(trainer.model, inputs).score_log_probs.detach().requires_grad_()
    return inputs, log_probs, trainer._rewards(log_probs, inputs)


@pytest.mark.parametrize("malformed", ["penalize", "ignore"])
@pytest.mark.parametrize(
    "options", [*({"reward": reward} for reward in REWARDS), RELEASED, {"advantage_streams": "separate"}], ids=str
)
def test_a_malformed_completion_never_ranks_above_a_sibling_and_has_no_score_gradient(tmp_path, options, malformed):
    """In any stream that advantages are made of; and what is maximised depends on the scores of the others alone."""
    texts = [*MALFORMED, WELL_FORMED] * 2
    trainer = make_trainer(tmp_path, fixed(*texts), malformed=malformed, **options)
    inputs, log_probs, rewards = score_inputs(trainer)
    assert inputs["has_score"].tolist() == [False, False, False, True] * 2
    assert len(rewards.streams) == (2 if "advantage_streams" in options else 1)
    for _, stream in rewards.streams:
        assert stream.shape == (2, K) and not stream.requires_grad
        assert (stream[:, :3] <= stream[:, 3:]).all()
    if options == {
        "reward": "regression"
    }:  # the worst score for targets 4 and 2 is 3 away; a sibling may be worse by its log-likelihood
        worst = torch.minimum(torch.tensor(-9.0), rewards.objective.detach()[:, 3])
        torch.testing.assert_close(rewards.objective.detach()[:, 0], worst)
    if options.get("reward") != "accuracy":
        rewards.objective.sum().backward()
        assert (log_probs.grad.abs().sum(1) > 0).tolist() == [False, False, False, True] * 2
    else:
        assert not rewards.objective.requires_grad


def test_the_penalty_is_the_worst_score_of_the_scale_for_the_target(tmp_path):
    """For the target 4 that is 1 (−9), for 2 it is 5 (−9), for 5 it is 1 (−16); a judge on the scale does no worse."""
    trainer = make_trainer(
        tmp_path,
        fixed(*[*MALFORMED, WELL_FORMED] * 3),
        model=warm_model(),
        log_likelihood_weight=0.0,
        train_dataset=prompt_dataset([4.0, 2.0, 5.0]),
        per_device_train_batch_size=3 * K,
    )
    rewards = score_inputs(trainer)[2].objective
    assert rewards[:, :3].tolist() == [[-9.0] * 3, [-9.0] * 3, [-16.0] * 3]
    assert (rewards[:, 3] > rewards[:, 0]).all()


def test_a_group_without_any_score_is_silent(tmp_path):
    for reward in REWARDS:
        options = {"reward": reward, "learning_rate": 0.1, "preflight_scored_rate": 0.0}  # which would stop it
        trainer = make_trainer(tmp_path, fixed(*[*MALFORMED, "right"] * 2), **options)
        before = parameters(trainer)
        trainer.train()
        log = trainer.state.log_history[0]
        assert len(unmoved(trainer, before)) == len(before)
        assert math.isfinite(log["reward"]) and log["frac_reward_zero_std"] == 1.0
        assert log["malformed/rate"] == 1.0


def test_force_reads_the_distribution_after_the_appended_marker(tmp_path):
    trainer = make_trainer(tmp_path, fixed(*[*MALFORMED, WELL_FORMED] * 2), malformed="force")
    inputs, log_probs, rewards = score_inputs(trainer)
    label_ids = [encode(str(k), eos=False)[0] for k in range(1, 6)]
    for row, text in enumerate([*MALFORMED, WELL_FORMED] * 2):
        prompt = TOKENIZER(trainer.train_dataset[row // K]["prompt"])["input_ids"]
        cot = f"{text} {MARKER}" if row % K < 3 else text.removesuffix(" 4")
        with torch.no_grad():
            logits = trainer.model(torch.tensor([prompt + encode(cot, eos=False)])).logits[0, -1]
        torch.testing.assert_close(log_probs[row], logits.log_softmax(-1)[label_ids], atol=1e-5, rtol=1e-5)
    rewards.objective.sum().backward()
    assert (log_probs.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize("malformed", ["penalize", "force", "ignore"])
def test_the_malformed_rate_and_its_kinds_are_logged(tmp_path, malformed):
    trainer = make_trainer(tmp_path, fixed(*MALFORMED, *[WELL_FORMED] * 4, MALFORMED[0]), malformed=malformed)
    trainer.train()
    log = trainer.state.log_history[0]
    shares = [log[f"malformed/{name}"] for name in ("rate", "missing", "truncated", "outside")]
    assert shares == [0.5, 0.25, 0.125, 0.125]


def test_metrics_say_what_the_batch_was(tmp_path):
    """Against numbers from a plain forward of every completion."""
    scores = [4.0, 4.0, 1.0, 5.0, 2.0, 3.0, 2.0, 2.0]
    texts = [f"7+4 is 12, right. {MARKER} {score:g}" for score in scores[:7]] + ["7+4 is 12, right."]
    trainer = make_trainer(tmp_path, fixed(*texts), log_likelihood_weight=0.5, learning_rate=0.0)
    targets = torch.tensor([4.0] * K + [2.0] * K)
    label_ids = [encode(str(k), eos=False)[0] for k in range(1, 6)]
    distributions, entropies, num_tokens = [], 0.0, 0
    for row, text in enumerate(texts):
        prompt = TOKENIZER(trainer.train_dataset[row // K]["prompt"])["input_ids"]
        ids = encode(text, eos=row == 7)[: None if row == 7 else -1]
        with torch.no_grad():
            log_p = trainer.model(torch.tensor([prompt + ids])).logits[0].log_softmax(-1)
        distributions.append(log_p[-1, label_ids])
        log_p = log_p[len(prompt) - 1 :][: len(ids)]
        entropies += -(log_p.exp() * log_p).sum().item()
        num_tokens += len(ids)
    trainer.train()
    log = trainer.state.log_history[0]
    log_probs = torch.stack(distributions[:7])
    expected = (log_probs.exp() * torch.arange(1.0, 6.0)).sum(1)
    errors = expected - targets[:7]
    log_likelihoods = log_probs[torch.arange(7), targets[:7].long() - 1]
    assert log["rewards/squared_error"] == pytest.approx(-errors.square().mean().item(), rel=1e-4)
    assert log["rewards/log_likelihood"] == pytest.approx(log_likelihoods.mean().item(), rel=1e-4)
    assert log["score/abs_error"] == pytest.approx(errors.abs().mean().item(), rel=1e-4)
    assert log["score/mass"] == pytest.approx(log_probs.exp().sum(1).mean().item(), rel=1e-4)
    assert log["score/accuracy"] == pytest.approx(4 / 8)  # the one without a score is no hit
    correlation = torch.corrcoef(torch.stack([expected, targets[:7]]))[0, 1].item()
    assert log["score/pearson"] == pytest.approx(correlation, rel=1e-3)
    rewards = -errors.square() + 0.5 * log_likelihoods
    rewards = torch.cat([rewards, torch.minimum(torch.tensor([-9.0]), rewards[4:].min())])
    assert log["reward"] == pytest.approx(rewards.mean().item(), rel=1e-4)
    assert log["reward_std"] == pytest.approx(rewards.std().item(), rel=1e-3)
    assert log["loss/prediction"] == pytest.approx(-rewards.mean().item(), rel=1e-4)
    assert log["loss"] == pytest.approx(log["loss/policy"] + 0.01 * log["loss/prediction"], rel=1e-3)
    assert log["entropy"] == pytest.approx(entropies / num_tokens, rel=1e-3)


# --- batches -----------------------------------------------------------------------------------------------------------


def test_gradient_accumulation_is_one_large_batch(tmp_path):
    """Parameters after one SGD step of the real training loop."""
    updates = []
    for groups, steps in ((2, 1), (1, 2)):
        trainer = make_trainer(
            tmp_path,
            Fixed,
            per_device_train_batch_size=groups * K,
            gradient_accumulation_steps=steps,
            prediction_weight=0.5,
            optim="sgd",
            learning_rate=0.1,
            max_grad_norm=0.0,
        )
        before = parameters(trainer)
        expected = {name: -0.1 * g for name, g in loss_and_gradient(trainer)[1].items()} if steps == 1 else updates[0]
        trainer._buffered_inputs = None
        trainer.train()
        updates.append({name: value - before[name] for name, value in parameters(trainer).items()})
        assert distance(updates[-1], expected) < 1e-4


def test_micro_batches_hold_whole_groups(tmp_path):
    trainer = make_trainer(
        tmp_path,
        train_dataset=prompt_dataset([1.0, 2.0, 3.0, 4.0]),
        per_device_train_batch_size=K,
        gradient_accumulation_steps=4,
        shuffle_dataset=True,
    )
    trainer.train()
    targets = [inputs["targets"].tolist() for inputs in trainer._buffered_inputs]
    assert len(targets) == 4 and all(len(group) == K and len(set(group)) == 1 for group in targets)
    assert sorted(group[0] for group in targets) == [1.0, 2.0, 3.0, 4.0]
    for inputs in trainer._buffered_inputs:
        assert len({row.prompt for row in inputs["rollouts"]}) == 1


class Counting(REALTrainer):
    generated = 0

    def _generate(self, prompts):
        self.generated += 1
        return super()._generate(prompts)


@pytest.mark.parametrize(
    ("reuse", "batch", "generations"),
    [
        ({"num_iterations": 2}, 2 * K, 2),
        ({"steps_per_generation": 2}, K, 2),
        ({"steps_per_generation": 4, "gradient_accumulation_steps": 2}, K, 2),
        ({"steps_per_generation": 2, "gradient_accumulation_steps": 1, "num_iterations": 2}, K, 1),
    ],
)
def test_reused_batches_train_with_a_clipped_ratio(tmp_path, reuse, batch, generations):
    trainer = make_trainer(
        tmp_path,
        Counting,
        train_dataset=prompt_dataset([1.0, 2.0, 3.0, 4.0]),
        per_device_train_batch_size=batch,
        max_steps=4,
        learning_rate=0.02,
        **reuse,
    )
    before = parameters(trainer)
    trainer.train()
    assert trainer.generated == generations
    assert unmoved(trainer, before) == []
    ratios = [log["clip_ratio/region_mean"] for log in trainer.state.log_history[:4]]
    assert ratios[0] == 0.0 < ratios[1]  # the first step is on-policy, the second has left the trust region


def test_on_policy_batches_are_not_reused(tmp_path):
    trainer = make_trainer(
        tmp_path,
        Counting,
        train_dataset=prompt_dataset([1.0, 2.0, 3.0, 4.0]),
        max_steps=3,
        gradient_accumulation_steps=2,
        steps_per_generation=1,
    )
    trainer.train()
    assert trainer.generated == 6
    assert "clip_ratio/region_mean" not in trainer.state.log_history[0]


def test_a_clipped_completion_gives_no_policy_gradient(tmp_path):
    """PPO: where the ratio has left the clip range in the direction of the advantage, the minimum is a constant."""
    trainer = make_trainer(tmp_path, Fixed, num_iterations=2, prediction_weight=0.0)
    trainer.model.train()
    inputs = trainer._prepare_inputs([row for row in trainer.train_dataset for _ in range(K)])
    assert not torch.equal(inputs["advantages"], torch.zeros(2 * K))
    inputs["old_log_probs"] = inputs["old_log_probs"] - inputs["advantages"].sign()  # ratio e or 1/e
    trainer.compute_loss(trainer.model, inputs).backward()
    assert all(p.grad is None or not p.grad.any() for p in trainer.model.parameters())


# --- KL ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_kl_penalty_enters_the_advantages(tmp_path, lora):
    """`r − beta · KL` against log-probabilities from plain forwards of policy and reference."""
    texts = [f"{MARKER} 4", f"7+4 is 12, right. {MARKER} 1", f"3-8 is 5, right. {MARKER} 4", f"7+4 is 11. {MARKER} 3"]
    path = tmp_path / "model"
    build_model().save_pretrained(path)
    trainer = make_trainer(tmp_path, fixed(*texts, *texts), lora, model=str(path), reward="accuracy", beta=0.5)
    reference = build_model()
    if not lora:  # the policy moves away from its reference
        assert trainer.ref_model is not None
        trainer.model.load_state_dict(build_model(seed=5).state_dict())
    policy, kl, num_tokens = [], [], 0
    for row, text in enumerate([*texts, *texts]):
        prompt = TOKENIZER(trainer.train_dataset[row // K]["prompt"])["input_ids"]
        ids = encode(text, eos=False)
        sums = []
        for model in (trainer.model, reference):
            with torch.no_grad():
                log_p = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            sums.append(log_p[torch.arange(len(ids)), torch.tensor(ids)].sum())
        num_tokens += len(ids)
        policy.append(sums[0])
        kl.append(sums[0] - sums[1])
    policy, kl = torch.stack(policy).view(2, K), torch.stack(kl).view(2, K)
    assert kl.abs().mean() > 0.05
    rewards = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0] * K]) - 0.5 * kl
    advantages = (rewards - rewards.mean(1, keepdim=True)) * K / (K - 1)
    advantages = (advantages / advantages.std(1, unbiased=False, keepdim=True)).clamp(-1, 1)
    loss, _ = loss_and_gradient(trainer)
    assert loss == pytest.approx(-(advantages * policy).mean().item(), rel=1e-3)
    assert trainer._metrics["train"]["kl"] == [pytest.approx(kl.sum().item() / num_tokens, rel=1e-4)]  # TRL's unit
    trainer._buffered_inputs = None
    trainer.train()
    assert "kl" in trainer.state.log_history[0]


def test_kl_of_the_untouched_policy_changes_nothing(tmp_path):
    path = tmp_path / "model"
    build_model().save_pretrained(path)
    loss, gradient = loss_and_gradient(make_trainer(tmp_path, Fixed, model=str(path), beta=0.5))
    expected_loss, expected = loss_and_gradient(make_trainer(tmp_path, Fixed, model=str(path)))
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    assert distance(gradient, expected) < 1e-4


# --- evaluation, saving, chat, logging ---------------------------------------------------------------------------------


@pytest.mark.parametrize("num_generations_eval", [None, 2, 1])
@pytest.mark.parametrize("options", [{}, {"num_iterations": 2}, {"malformed": "ignore"}], ids=["", "reused", "ignore"])
def test_evaluation_while_training(tmp_path, num_generations_eval, options):
    trainer = make_trainer(
        tmp_path,
        eval_dataset=prompt_dataset([3.0, 1.5, 5.0]),
        eval_strategy="steps",
        eval_steps=1,
        per_device_eval_batch_size=K,
        num_generations_eval=num_generations_eval,
        max_steps=2,
        **options,
    )
    trainer.train()
    evaluations = [log for log in trainer.state.log_history if "eval_loss" in log]
    trainings = [log for log in trainer.state.log_history if "loss" in log]
    assert len(evaluations) == len(trainings) == 2
    for log in evaluations:
        assert {f"eval_{name}" for name in METRICS} - log.keys() == set()
        assert math.isfinite(log["eval_loss"])
    for log in trainings:
        assert METRICS - log.keys() - {name for name in METRICS if name.startswith("completions")} == set()


def test_evaluation_changes_neither_parameters_nor_the_training_buffer(tmp_path):
    trainer = make_trainer(tmp_path, eval_dataset=prompt_dataset([3.0]), per_device_eval_batch_size=K)
    trainer.train()
    before, buffered = parameters(trainer), trainer._buffered_inputs
    metrics = trainer.evaluate()
    assert "eval_loss" in metrics
    assert len(unmoved(trainer, before)) == len(before)
    assert trainer._buffered_inputs is buffered


def test_resuming_from_a_checkpoint_runs_on(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 1, "num_iterations": 2, "learning_rate": 1e-3}
    make_trainer(tmp_path, max_steps=1, **options).train()
    assert JudgeConfig.load(tmp_path / "checkpoint-1").method == "regression"
    trainer = make_trainer(tmp_path, max_steps=3, **options)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 3
    assert [log["step"] for log in trainer.state.log_history if "loss" in log] == [1, 2, 3]


def test_judge_config_is_saved_with_the_model(tmp_path):
    trainer = make_trainer(tmp_path, Fixed, temperature=0.7, malformed="force", score_labels="0-5")
    trainer.save_model(str(tmp_path / "final"))
    config = JudgeConfig.load(tmp_path / "final")
    assert config == trainer.judge_config
    assert (config.score_labels, config.score_values) == (list("012345"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    assert (config.score_marker, config.temperature, config.method) == (f"{MARKER} ", 0.7, "regression")
    assert config.training["malformed"] == "force" and config.training["num_generations"] == K


def test_conversational_prompts(tmp_path):
    rows = [
        {"prompt": [{"role": "user", "content": r["prompt"]}], "score": r["score"]} for r in prompt_dataset(SCORES)
    ]
    trainer = make_trainer(
        tmp_path, train_dataset=Dataset.from_list(rows), processing_class=chat_tokenizer(), learning_rate=0.1
    )
    before = parameters(trainer)
    trainer.train()
    assert unmoved(trainer, before) == []
    rollout = trainer._buffered_inputs[0]["rollouts"][0]
    assert TOKENIZER.decode(rollout.prompt_ids).endswith("\n \n")
    assert rollout.completion[0]["role"] == "assistant"
    assert trainer.state.log_history[0]["malformed/rate"] < 1


@pytest.mark.parametrize("malformed", ["penalize", "force"])
def test_log_completions_prints_scores_beside_the_text(tmp_path, capsys, malformed):
    trainer = make_trainer(tmp_path, fixed(*[*MALFORMED, WELL_FORMED] * 2), log_completions=True, malformed=malformed)
    trainer.train()
    logs = trainer._logs
    assert list(logs["completion"]) == [*MALFORMED, WELL_FORMED] * 2
    assert list(logs["extra"]["target"]) == [4.0] * K + [2.0] * K
    shown = [not math.isnan(value) for value in logs["extra"]["expected_score"]]
    assert shown == [malformed == "force"] * 3 + [True] + [malformed == "force"] * 3 + [True]
    assert len(logs["rewards"]["regression"]) == len(logs["advantages"]) == 2 * K
    printed = capsys.readouterr().out
    assert "right" in printed and f"completion 1 of {2 * K}" in printed and "target 4" in printed
    assert "┃" not in printed  # TRL's table, whose columns are too narrow


def test_iterable_dataset(tmp_path):
    trainer = make_trainer(tmp_path, train_dataset=prompt_dataset(SCORES).to_iterable_dataset(), learning_rate=0.1)
    before = parameters(trainer)
    trainer.train()
    assert unmoved(trainer, before) == []


# --- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reward": "mse"}, "reward: got 'mse'. Set it to one of: regression, accuracy, log_likelihood, log_marginal"),
        ({"malformed": "drop"}, "malformed: got 'drop'. Set it to one of: penalize, force, ignore"),
        ({"loss_aggregation": "mean"}, "loss_aggregation: got 'mean'. Set it to one of: sequence, token"),
        ({"likelihood_form": "log"}, "likelihood_form: got 'log'. Set it to one of: log_probability, probability"),
        ({"advantage_streams": "two"}, "advantage_streams: got 'two'. Set it to one of: joint, separate"),
        ({"reuse_correction": "ppo"}, "reuse_correction: got 'ppo'. Set it to one of: clip, none"),
        (
            {"reward": "log_marginal", "likelihood_form": "probability"},
            "likelihood_form: got 'probability' with reward='log_marginal'.* Leave it out",
        ),
        (
            {"reward": "accuracy", "advantage_streams": "separate"},
            "advantage_streams: got 'separate' with reward='accuracy'",
        ),
        ({"group_filter": "partial"}, "group_filter: got 'partial'. Write bounds on the group's accuracy"),
        ({"group_filter": "0.3 < acc < 0.4"}, "group_filter: got '0.3 < acc < 0.4', which no group can pass"),
        ({"group_filter": "0 < acc < 1", "group_filter_rounds": 0}, "group_filter_rounds: got 0. Set it to 1 or more"),
        ({"reward": "accuracy", "prediction_weight": 0.1}, "prediction_weight: got 0.1 with reward='accuracy'"),
        ({"reward": "accuracy", "malformed": "force"}, "malformed: got 'force' with reward='accuracy'"),
        ({"log_likelihood_weight": -1.0}, "log_likelihood_weight: got -1.0"),
        ({"prediction_weight": -0.1}, "prediction_weight: got -0.1"),
        ({"advantage_eps": -1e-8}, "advantage_eps: got -1e-08"),
        ({"advantage_clip": 0.0}, "advantage_clip: got 0.0"),
        ({"num_generations": 1}, "num_generations: got 1.*2 or more"),
        (
            {"per_device_train_batch_size": 6},
            "per_device_train_batch_size: got 6.*num_generations=4.*Set it to 4 or 8",
        ),
        (
            {"per_device_train_batch_size": 2},
            "per_device_train_batch_size: got 2.*num_generations=4.*there are 1. Set gradient_accumulation_steps to a multiple of 2, or this to 4",
        ),
        (
            {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "num_iterations": 2},
            "per_device_train_batch_size: got 2.*used for several steps. Set it to 4",
        ),
        (
            {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "steps_per_generation": 4},
            "per_device_train_batch_size: got 2.*used for several steps",
        ),
        ({"per_device_eval_batch_size": 6, "eval_strategy": "epoch"}, "per_device_eval_batch_size: got 6"),
        (
            {"per_device_eval_batch_size": 4, "num_generations_eval": 3, "eval_strategy": "epoch"},
            "per_device_eval_batch_size: got 4.*num_generations=3",
        ),
        ({"normalize_advantages": True}, "normalize_advantages: got True.*advantage_clip"),
        ({"reward_weights": [1.0]}, r"reward_weights: got \[1.0\]"),
        ({"reward_clip_range": (-1.0, 1.0)}, "reward_clip_range: got"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor: got 0.1"),
        ({"pad_to_multiple_of": 8}, "pad_to_multiple_of: got 8"),
        ({"neftune_noise_alpha": 5.0}, "neftune_noise_alpha: got 5.0"),
        ({"use_transformers_continuous_batching": True}, "use_transformers_continuous_batching: got True.*use_vllm"),
        ({"use_transformers_paged": True}, "use_transformers_paged: got True"),
        ({"mask_truncated_completions": True}, "mask_truncated_completions: got True.*malformed='ignore'"),
    ],
)
def test_config_refuses(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        REALConfig(str(tmp_path), **{**OPTIONS, **options})


@pytest.mark.parametrize(
    ("reward", "weight"), [("regression", 0.01), ("accuracy", 0.0), ("log_likelihood", 1.0), ("log_marginal", 1.0)]
)
def test_prediction_weight_defaults_to_the_methods(tmp_path, reward, weight):
    assert REALConfig(str(tmp_path), **OPTIONS, reward=reward).prediction_weight == weight
    assert REALConfig(str(tmp_path), **OPTIONS, reward=reward, prediction_weight=0.0).prediction_weight == 0.0


def rows(scores=(4.0, 2.0), **columns):
    return Dataset.from_dict({**prompt_dataset(list(scores)).to_dict(), **columns})


def voted(histograms):
    """Two rows of scores 4 and 2 with the raters' shares of each label."""
    return rows(score_histogram=histograms)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train_dataset": rows().remove_columns("score")}, "train_dataset: no column 'score'"),
        ({"train_dataset": rows().remove_columns("prompt")}, "train_dataset: no column 'prompt'"),
        ({"train_dataset": rows([4.0, None])}, "column 'score' is None in row 1; the scale is 1 to 5"),
        ({"train_dataset": rows([float("nan"), 2.0])}, "column 'score' is nan in row 0"),
        ({"train_dataset": rows(["four", "2"])}, "column 'score' is 'four' in row 0"),
        ({"train_dataset": rows([4.0, 0.5])}, "column 'score' is 0.5 in row 1"),
        ({"train_dataset": rows([7, 4])}, "column 'score' is 7 in row 0; .*Correct or remove"),
        ({"train_dataset": rows([True, False])}, "column 'score' is True in row 0"),
        ({"eval_dataset": rows([4.0, 9.0])}, "eval_dataset: column 'score' is 9.0 in row 1"),
        ({"eval_dataset": {"id": rows([6.0])}}, r"eval_dataset\['id'\]: column 'score' is 6.0"),
        (
            {"train_dataset": rows([4.0, 3.5]), "reward": "accuracy"},
            "'score' is 3.5 in row 1, which is no label.*'regression'",
        ),
        ({"train_dataset": rows(prompt=["good", "\n"])}, "column 'prompt' is empty in row 1"),
        ({"train_dataset": rows(prompt=["good", None])}, "column 'prompt' is empty in row 1"),
        (
            {"train_dataset": rows([4.0], prompt=[[{"role": "user", "content": ""}]])},
            "column 'prompt' is empty in row 0",
        ),
        (
            {"train_dataset": voted([[0, 0, 0, 1, 0], [0, 1, 0, 0]])},
            "row 1, which is no list of 5 shares, .* 1, 2, 3, 4, 5",
        ),
        (
            {"train_dataset": voted([None, [0, 1, 0, 0, 0]])},
            "'score_histogram' is None in row 0, which is no list of 5",
        ),
        (
            {"train_dataset": voted([[0, 0, 0, 1, 0], [0.5, 0, 1, -0.5, 0]])},
            "row 1, which holds something else than numbers",
        ),
        ({"train_dataset": voted([[0, 0, 0, math.nan, 1]] * 2)}, "row 0, which holds something else than numbers"),
        ({"train_dataset": voted([[0, 0, 0, 3, 0]] * 2)}, "row 0, which sums to 3, not to 1.*load_judge_dataset"),
        (
            {"train_dataset": voted([[0, 0, 0, 1, 0], [1, 0, 0, 0, 0]])},
            "row 1, whose mean is 1, while the column 'score' is 2",
        ),
        (
            {"eval_dataset": {"id": voted([[0, 0, 0, 1, 0], [0, 0, 0, 1, 0]])}},
            r"eval_dataset\['id'\]: column 'score_histogram' is \[.*\] in row 1, whose mean is 4",
        ),
        ({"score_labels": ["100", "200"]}, "the label '100' cannot be told apart"),
        ({"score_labels": "1"}, "score_labels='1' is not a scale"),
        ({"score_labels": "A-E"}, "score_values is not set, and the score label 'A' is not a number"),
        ({"score_labels": "1-3", "score_values": [1.0, 3.0, 2.0]}, "1, 2, 3 are in no order"),
        ({"score_marker": "  "}, "score_marker"),
    ],
)
def test_bad_data_is_refused_before_the_model_is_loaded(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, model=str(tmp_path / "no-model-here"), **given)
