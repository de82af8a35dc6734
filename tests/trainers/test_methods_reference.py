# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Every method's update through the real training loop, against the float64 reference of `reference.py`: parameters after one or
several optimizer steps of plain gradient descent. Advantages also against literals worked out by hand.
"""

import copy
import math

import pytest
import torch
from datasets import Dataset

from real_trl import REALConfig, REALTrainer
from real_trl.trainers.rewards import Rewards, score_advantages, score_rewards
from tests.helpers.reference import MARKER, Group, Reference, relative_error
from tests.tiny import DIGITS, LINES, PROMPT, TOKENIZER, build_model, encode, lora_config

K = 4
RELEASED = {"likelihood_form": "probability", "advantage_streams": "separate", "loss_aggregation": "token"}
TEXTS = [
    f"1) 7+4 is 11, close. {MARKER} 4",
    f"{MARKER} 2",
    "1) 7+4 is 11, close. 2) 3-8 is 5, right.",  # no score
    f"1) 7+4 is 12, right. {MARKER} 5",
    f"1) 7+4 is 11, wrong. {MARKER} 3 2) 3-8 is 5, right. {MARKER} 1",  # quotes the marker
    f"2) 3-8 is -5, wrong. {MARKER} 3",
    f"{MARKER} 5 1) 7+4 is 11, close.",  # rambles on after its score
    f"1) 7+4 is 11, close. 2) 3-8 is 5, right. {MARKER} 4",
]
PROMPTS = ["\n".join([PROMPT, *(LINES[i % 3] for i in range(row + 1))]) for row in range(4)]


def make_groups(targets, texts=TEXTS, histograms=None):
    """Groups whose completions are those of `texts` in turn, in another order each time."""
    groups = []
    for row, target in enumerate(targets):
        chosen = [texts[(row * K + i * (1 + row // 2)) % len(texts)] for i in range(K)]
        groups.append(Group(PROMPTS[row], target, chosen, histograms[row] if histograms else None))
    return groups


class FixedCompletions(REALTrainer):
    """REALTrainer whose sampler answers each prompt of `groups` as it says there; `asked` lists the prompts in order."""

    groups: list[Group]

    def _generate(self, prompts):
        self.asked = [*getattr(self, "asked", []), *prompts[::K]]
        answers = {group.prompt: group.texts for group in self.groups}
        texts = [text for prompt in prompts[::K] for text in answers[prompt]]
        ids = [encode(text, tokenizer=self.processing_class) for text in texts]
        return self._tokenize_prompts(prompts)[0], ids, texts


def make_trainer(tmp_path, groups, *, tokenizer=TOKENIZER, architecture="llama", lora=False, model=None, **options):
    columns = {"prompt": [g.prompt for g in groups], "score": [g.target for g in groups]}
    if groups[0].histogram is not None:
        columns["score_histogram"] = [g.histogram for g in groups]
    args = {
        "num_generations": K,
        "max_completion_length": 40,
        "per_device_train_batch_size": K * len(groups),
        "shuffle_dataset": False,
        "gradient_checkpointing": False,
        "bf16": False,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "save_strategy": "no",
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "learning_rate": 0.02,
        "max_grad_norm": 0.0,
        "max_steps": 1,
        **options,
    }
    trainer = type("Fixed", (FixedCompletions,), {"groups": groups})(
        model=model or build_model(architecture, tokenizer=tokenizer),
        args=REALConfig(str(tmp_path), **args),
        train_dataset=Dataset.from_dict(columns),
        processing_class=tokenizer,
        peft_config=lora_config() if lora else None,
    )
    torch.manual_seed(1)
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:  # B starts at zero, which would hide A's gradient
            torch.nn.init.normal_(parameter, std=0.1)
    return trainer


class PlainHead:
    """What TRL's kernel computes, in the type of the model: the kernel's float32 rounding grows from step to step."""

    @staticmethod
    def apply(hidden, weight, bias, labels, temperature, chunk_size, softcapping, scale, outputs):
        assert bias is None and softcapping is None and scale == 1
        log_p = (hidden @ weight.T / temperature).log_softmax(-1)
        entropy = -(log_p.exp() * log_p).sum(-1)
        return log_p.gather(1, labels.unsqueeze(1)).squeeze(1), entropy, None, None, None


@pytest.fixture
def double(monkeypatch):
    """Makes the model that a trainer trains all in float64."""
    monkeypatch.setattr("trl.trainer.utils._ChunkedLogProbFunction", PlainHead)
    return lambda *args, **kwargs: build_model(*args, **kwargs).double()


def trained_parameters(trainer):
    trainer.train()
    return {name: p.detach() for name, p in trainer.model.named_parameters() if p.requires_grad}


def update_error(trainer, reference, steps):
    """
    Relative difference of the trainer's update and that of the reference, which makes an optimizer step for each of `steps`:
    what [`Reference.gradient`] takes for every micro-batch of the step.
    """
    before, lr = reference.parameters(), trainer.args.learning_rate
    after = trained_parameters(trainer)
    for micro_batches in steps:
        batches = micro_batches() if callable(micro_batches) else micro_batches
        reference.step([reference.gradient(*batch) for batch in batches], lr)
    expected = {name: value - before[name] for name, value in reference.parameters().items()}
    assert max(value.abs().max() for value in expected.values()) > 1e-4
    return relative_error({name: after[name].double() - before[name] for name in expected}, expected)


# --- one step ----------------------------------------------------------------------------------------------------------

METHODS = {
    "Standard RL": {"reward": "accuracy"},
    "JEPO": {"reward": "log_likelihood"},
    "JEPO, multi-sample": {"reward": "log_marginal"},
    "REAL": {"prediction_weight": 0.5},
    "REAL without the likelihood": {"log_likelihood_weight": 0.0},
    "REAL with the probability": {"likelihood_form": "probability", "log_likelihood_weight": 3.0},
    "REAL with separate streams": {"advantage_streams": "separate", "log_likelihood_weight": 0.7},
    "released REAL": {**RELEASED, "prediction_weight": 0.5},
    "normalized REAL": {"normalize_expectation": True, "prediction_weight": 0.5},
}


@pytest.mark.parametrize(
    ("method", "malformed"),
    [(method, "penalize") for method in METHODS]
    # The rest of the table is in test_real_gradient
    + [(method, how) for method in list(METHODS)[5:] for how in ("force", "ignore")],
)
def test_one_step_of_every_method(tmp_path, method, malformed):
    groups = make_groups([4.0, 2.0])
    trainer = make_trainer(tmp_path, groups, malformed=malformed, temperature=0.8, **METHODS[method])
    assert update_error(trainer, Reference(trainer, "12345"), [[(groups,)]]) < 1e-5


@pytest.mark.parametrize(
    "changed",
    [
        {"likelihood_form": "log_probability"},
        {"advantage_streams": "joint"},
        {"loss_aggregation": "sequence"},
        {"normalize_expectation": True},
        {"log_likelihood_weight": 0.8},
        {"prediction_weight": 0.0},
        {"reward": "log_marginal", "advantage_streams": "joint"},
    ],
    ids=str,
)
def test_a_wrong_reference_is_noticed(tmp_path, changed):
    """The comparison has teeth: another setting, another update."""
    groups = make_groups([4.0, 2.0])
    trainer = make_trainer(tmp_path, groups, **METHODS["released REAL"])
    reference = Reference(trainer, "12345")
    reference.args = copy.copy(trainer.args)
    for name, value in changed.items():
        assert getattr(reference.args, name) != value
        setattr(reference.args, name, value)
    assert update_error(trainer, reference, [[(groups,)]]) > 1e-3


@pytest.mark.parametrize("method", ["JEPO, multi-sample", "released REAL"])
@pytest.mark.parametrize(("architecture", "lora"), [("qwen3", False), ("llama", True)], ids=["qwen3", "lora"])
def test_other_models(tmp_path, method, architecture, lora):
    groups = make_groups([4.0, 2.0])
    trainer = make_trainer(tmp_path, groups, architecture=architecture, lora=lora, **METHODS[method])
    reference = Reference(trainer, "12345", architecture=architecture, lora=lora)
    assert (
        update_error(trainer, reference, [[(groups,)]]) < 2e-5
    )  # steps of the weights are small against their own rounding


@pytest.mark.parametrize("clip", [None, 0.5])
def test_clip_and_epsilon_of_the_advantages(tmp_path, clip):
    groups = make_groups([4.0, 2.0])
    trainer = make_trainer(tmp_path, groups, advantage_clip=clip, advantage_eps=0.3)
    assert update_error(trainer, Reference(trainer, "12345"), [[(groups,)]]) < 1e-5


@pytest.mark.parametrize("method", ["JEPO", "JEPO, multi-sample", "REAL", "released REAL"])
@pytest.mark.parametrize("given", ["means", "histograms"])
def test_several_raters(tmp_path, given, method):
    """Targets between two labels, and raters' histograms, the second of which says more than its mean."""
    histograms = [[0, 0, 0, 0.75, 0.25], [0.5, 0, 0.5, 0, 0]] if given == "histograms" else None
    groups = make_groups([4.25, 2.0 if histograms else 1.75], histograms=histograms)
    trainer = make_trainer(tmp_path, groups, **METHODS[method])
    assert update_error(trainer, Reference(trainer, "12345"), [[(groups,)]]) < 2e-5


def test_what_is_logged_of_several_raters(tmp_path):
    groups = make_groups([4.25, 2.0], histograms=[[0, 0, 0, 0.75, 0.25], [0.5, 0, 0.5, 0, 0]])
    trainer = make_trainer(tmp_path, groups, logging_steps=1, normalize_expectation=True)
    reference = Reference(trainer, "12345")
    trainer.train()
    errors, likelihoods = [], []
    for group in groups:
        for text in group.texts:
            labels = reference.sample(group.prompt, text).labels
            if labels is not None:
                probabilities = labels.exp() / labels.exp().sum()
                errors.append(((probabilities * reference.values).sum() - group.target).item() ** 2)
                likelihoods.append((torch.tensor(group.histogram) * labels).sum().item())
    log = trainer.state.log_history[0]
    assert len(errors) == 7
    assert log["rewards/squared_error"] == pytest.approx(-sum(errors) / 7, rel=1e-4)
    assert log["rewards/log_likelihood"] == pytest.approx(sum(likelihoods) / 7, rel=1e-4)
    # The scores are 4, 2, none, 5 for 4¼ and 1, 3, 5, 4 for 2: the nearest label is right
    assert log["score/accuracy"] == 1 / 8


@pytest.mark.parametrize("method", ["Standard RL", "JEPO, multi-sample", "REAL with separate streams"])
def test_kl_penalty(tmp_path, method):
    """Of a policy that has moved away from its reference; of two streams the first one bears it."""
    build_model().save_pretrained(tmp_path / "model")
    groups = make_groups([4.0, 2.0])
    trainer = make_trainer(tmp_path, groups, model=str(tmp_path / "model"), beta=0.1, **METHODS[method])
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    reference = Reference(trainer, "12345")
    reference.initial = build_model().double()
    assert update_error(trainer, reference, [[(groups,)]]) < 1e-5
    trainer = make_trainer(tmp_path, groups, model=trainer.model, **METHODS[method])
    assert update_error(trainer, reference, [[(groups,)]]) > 1e-3  # without the penalty


# --- labels of several tokens ------------------------------------------------------------------------------------------

SCALES = {
    "1-10": ([str(k) for k in range(1, 11)], None, ["10", "1", "7", "10.", "1.", "105", "3", "1"], [10.0, 2.5]),
    "half points": (
        [f"{k / 2:g}" for k in range(2, 11)],
        None,
        ["4.5", "4", "1", "4.", "2.5", "3.25", "5", "4"],
        [4.5, 2.25],
    ),
    "words": (
        ["very poor", "poor", "good", "good enough", "very good"],
        [1, 2, 3, 3.5, 5],
        ["very poor", "good", "good enough", "very close", "poor", "good score", "very good", "good"],
        [3.0, 4.0],
    ),
}


@pytest.mark.parametrize("method", ["Standard RL", "JEPO, multi-sample", "REAL", "released REAL"])
@pytest.mark.parametrize("scale", SCALES)
def test_labels_of_several_tokens(tmp_path, double, scale, method):
    """One scale with LoRA, one with another model and gradient checkpointing."""
    labels, values, answers, targets = SCALES[scale]
    if method == "Standard RL":
        targets = [targets[0], (values or list(map(float, labels)))[0]]
    texts = [f"{i}) {i}-8 is {3 * i}, {'7+4, ' * (i % 3)}close. {MARKER} {k}" for i, k in enumerate(answers)]
    groups = make_groups(targets, texts)
    architecture, lora = "qwen3" if scale == "words" else "llama", scale == "half points"
    trainer = make_trainer(
        tmp_path,
        groups,
        tokenizer=DIGITS,
        model=double(architecture, tokenizer=DIGITS),
        lora=lora,
        score_labels=labels,
        score_values=values,
        gradient_checkpointing=scale == "words",
        **METHODS[method],
    )
    assert trainer.score_space.tree.context_tokens
    reference = Reference(trainer, labels, values=values, tokenizer=DIGITS, architecture=architecture, lora=lora)
    assert update_error(trainer, reference, [[(groups,)]]) < 1e-5
    statuses = [row.status for row in trainer._buffered_inputs[0]["rollouts"]]
    assert statuses.count("ok") == len(statuses) - 1 and "outside" in statuses


# --- batches that are reused -------------------------------------------------------------------------------------------


def reused_steps(reference, generations, order):
    """Steps over generation batches of `generations`; each of `order` lists the micro-batches of a step."""
    for batch in generations:
        fixed = []
        tokens = reference.num_tokens(batch) / len(batch)

        def micro_batches(step, batch=batch, fixed=fixed, tokens=tokens):
            if not fixed:  # before the first step on the batch
                fixed.extend(reference.fix([group]) for group in batch)
            return [([batch[i]], fixed[i], tokens) for i in step]

        for step in order:
            yield lambda step=step, micro_batches=micro_batches: micro_batches(step)


REUSES = {  # settings, and the micro-batches of each step on a generation batch
    "twice": ({"num_iterations": 2, "steps_per_generation": 2}, [[0], [1], [0], [1]]),
    "mini-batches": ({"steps_per_generation": 4, "gradient_accumulation_steps": 2}, [[0, 1], [2, 3]]),
}
for _options, _ in REUSES.values():
    _options |= {"per_device_train_batch_size": K, "learning_rate": 0.002}


@pytest.mark.parametrize("correction", ["clip", "none"])
@pytest.mark.parametrize("method", ["Standard RL", "JEPO, multi-sample", "REAL", "released REAL"])
def test_several_steps_on_a_batch(tmp_path, double, method, correction):
    """
    Generation batches of two groups, run over twice, the second one partly: the advantages are those of the policy that sampled the batch,
    what is maximised is that of the current one, and only "clip" has a ratio.
    """
    options, order = REUSES["twice"]
    groups = make_groups([4.0, 2.0, 5.0, 3.0])
    trainer = make_trainer(
        tmp_path,
        groups,
        model=double(),
        reuse_correction=correction,
        max_steps=6,
        **options,
        **METHODS[method],
    )
    reference = Reference(trainer, "12345")
    steps = list(reused_steps(reference, [groups[:2], groups[2:]], order))[:6]
    assert update_error(trainer, reference, steps) < 1e-5
    assert trainer.asked == PROMPTS


def test_released_code_over_mini_batches(tmp_path, double):
    """`real_released.yaml`: two streams with the probability, token mean, fixed advantages over the steps of a batch."""
    options, order = REUSES["mini-batches"]
    groups = make_groups([4.0, 2.0, 5.0, 3.0])
    trainer = make_trainer(
        tmp_path,
        groups,
        model=double(),
        reuse_correction="none",
        max_steps=4,
        **RELEASED,
        **options,
    )
    reference = Reference(trainer, "12345")
    assert reference.args.prediction_weight == 0.01
    assert update_error(trainer, reference, list(reused_steps(reference, [groups, groups], order))) < 1e-5


def test_the_corrections_differ(tmp_path, double):
    """The comparison has teeth: with the other correction the parameters are others."""
    options, order = REUSES["twice"]
    groups = make_groups([4.0, 2.0])
    trainer = make_trainer(tmp_path, groups, model=double(), reuse_correction="none", max_steps=4, **options)
    reference = Reference(trainer, "12345")
    reference.args = copy.copy(trainer.args)
    reference.args.reuse_correction = "clip"
    assert update_error(trainer, reference, list(reused_steps(reference, [groups], order))) > 1e-3


# --- dynamic sampling --------------------------------------------------------------------------------------------------


def test_a_step_on_the_groups_that_pass(tmp_path, double):
    """The second group has no right score: the update is that of the others, which were drawn in its place."""
    right = [f"1) 7+4 is {11 + k}, close. {MARKER} {k}" for k in (4, 2, 3, 5)]
    wrong = [f"2) 3-8 is {5 + k}, wrong. {MARKER} {k}" for k in (1, 2, 2, 3)]
    groups = [
        Group(PROMPTS[0], 4.0, right),
        Group(PROMPTS[1], 5.0, wrong),
        Group(PROMPTS[2], 3.0, right[::-1]),
        Group(PROMPTS[3], 2.0, right),
    ]
    options = {"model": double(), "per_device_train_batch_size": 2 * K, "group_filter": "0 < acc < 1", **RELEASED}
    trainer = make_trainer(tmp_path, groups, **options)
    reference = Reference(trainer, "12345")
    passed = {group.prompt: group for group in groups if group is not groups[1]}

    def kept():
        assert trainer.asked[:2] == PROMPTS[:2] and len(trainer.asked) >= 4
        return [([passed[prompt] for prompt in trainer.asked if prompt in passed][:2],)]

    assert update_error(trainer, reference, [kept]) < 1e-5


# --- advantages by hand ------------------------------------------------------------------------------------------------


def advantages(tmp_path, objective=None, *, mask=None, penalty=None, streams=None, **options):
    args = REALConfig(str(tmp_path), use_cpu=True, num_generations=3, per_device_train_batch_size=3, **options)
    streams = streams or ((1.0, torch.tensor([objective])),)
    rewards = Rewards(streams[0][1], streams)
    tensors = [None if x is None else torch.tensor([x]) for x in (penalty, mask)]
    return score_advantages(args, rewards, *tensors)[0].tolist()


def test_advantages_of_one_reward(tmp_path):
    # r = −1, −2, −6: A = −1 + 4, −2 + 3.5, −6 + 1.5 = 3, 1.5, −4.5; σ = √((9 + 2.25 + 20.25)/3) = 3.240370
    expected = [0.925820, 0.462910, -1.0]
    assert advantages(tmp_path, [-1.0, -2.0, -6.0]) == pytest.approx(expected, abs=1e-6)
    assert advantages(tmp_path, [-1.0, -2.0, -6.0], advantage_clip=None)[2] == pytest.approx(-1.388730, abs=1e-6)
    # Standard RL: one of three is right, A = 1, −1/2, −1/2, σ = √((1 + 1/4 + 1/4)/3) = 1/√2
    expected = [1.0, -math.sqrt(0.5), -math.sqrt(0.5)]
    assert advantages(tmp_path, [1.0, 0.0, 0.0], reward="accuracy") == pytest.approx(expected, abs=1e-6)


def test_advantages_of_two_streams(tmp_path):
    # −(ŷ − y*)² as above: 0.925820, 0.462910, −1. Likelihoods 0.1, 0.4, 0.4: A = −0.3, 0.15, 0.15, σ = 0.212132, so
    # −1, 0.707107, 0.707107; with λ = 0.5: 0.925820 − 0.5, 0.462910 + 0.353553, −1 + 0.353553
    streams = ((1.0, torch.tensor([[-1.0, -2.0, -6.0]])), (0.5, torch.tensor([[0.1, 0.4, 0.4]])))
    expected = [0.425820, 0.816463, -0.646447]
    assert advantages(tmp_path, streams=streams, **RELEASED) == pytest.approx(expected, abs=1e-6)
    # Joint, they are one reward: −1 + 0.05, −2 + 0.2, −6 + 0.2 = −0.95, −1.8, −5.8: A = 2.85, 1.575, −4.425,
    # σ = √((8.1225 + 2.480625 + 19.580625)/3) = 3.171947
    expected = [0.898502, 0.496540, -1.0]
    assert advantages(tmp_path, [-0.95, -1.8, -5.8]) == pytest.approx(expected, abs=1e-6)


def test_a_stream_without_a_signal_adds_nothing(tmp_path):
    streams = ((1.0, torch.tensor([[-1.0, -2.0, -6.0]])), (1.0, torch.tensor([[0.3, 0.3, 0.3]])))
    expected = [0.925820, 0.462910, -1.0]
    assert advantages(tmp_path, streams=streams, **RELEASED) == pytest.approx(expected, abs=1e-6)


def test_advantages_of_the_multi_sample_bound(tmp_path):
    # Worked out in test_objectives: A = ln 14/9, ln 14/15, ln 7/9; σ = 0.293379
    likelihoods = [math.log(p) for p in (0.5, 0.25, 0.125)]
    expected = [1.0, -0.235167, -0.856622]
    assert advantages(tmp_path, likelihoods, reward="log_marginal") == pytest.approx(expected, abs=1e-5)
    # A KL penalty of 0.3, 0, 0 has the leave-one-out baselines 0, 0.15, 0.15: A becomes 0.441833 − 0.3, −0.068993 + 0.15,
    # −0.251314 + 0.15 = 0.141833, 0.081007, −0.101314; mean 0.040509, σ = 0.103314
    actual = advantages(tmp_path, likelihoods, reward="log_marginal", penalty=[0.3, 0.0, 0.0])
    assert actual == pytest.approx([1.0, 0.784085, -0.980640], abs=2e-5)


def test_the_penalty_is_taken_once(tmp_path):
    # r − KL = −1 − 0, −2 − 0, −6 + 4 = −1, −2, −2: A = 1, −0.5, −0.5, σ = 1/√2; the second stream is without it
    streams = ((1.0, torch.tensor([[-1.0, -2.0, -6.0]])), (0.5, torch.tensor([[0.1, 0.4, 0.4]])))
    expected = [1.0 - 0.5, -0.707107 + 0.353553, -0.707107 + 0.353553]
    actual = advantages(tmp_path, streams=streams, penalty=[0.0, 0.0, -4.0], **RELEASED)
    assert actual == pytest.approx(expected, abs=1e-6)


def test_members_left_out(tmp_path):
    # Without the second: A = −1 + 6, −6 + 1 = 5, −5, σ = 5
    for options in ({}, {"advantage_streams": "separate"}, {"reward": "log_marginal"}):
        actual = advantages(tmp_path, [-1.0, -2.0, -6.0], mask=[True, False, True], **options)
        assert actual[1] == 0.0
        if options.get("reward") != "log_marginal":
            assert actual == pytest.approx([1.0, 0.0, -1.0], abs=1e-6)
    # Multi-sample: (0.6 + 0.2)/2 against 0.2 and 0.6: ln 2 = 0.693147, ln 2/3 = −0.405465; σ = 0.549306, mean 0.143841
    likelihoods = [math.log(p) for p in (0.6, 0.9, 0.2)]
    actual = advantages(tmp_path, likelihoods, mask=[True, False, True], reward="log_marginal")
    assert actual == pytest.approx([1.0, 0.0, -0.738140], abs=1e-5)


# --- rewards by hand ---------------------------------------------------------------------------------------------------


def rewards(tmp_path, probabilities, target, *, missing=(), sampled=None, weights=None, **options):
    """Of one group on the scale 1-5 that gives each of `probabilities` to 4 and 5."""
    size = len(probabilities)
    args = REALConfig(str(tmp_path), use_cpu=True, num_generations=size, per_device_train_batch_size=size, **options)
    log_probs = torch.full((size, 5), 1e-9).log()
    log_probs[:, 3:] = torch.tensor(probabilities).log()
    has_score = torch.tensor([i not in missing for i in range(size)])
    weights = weights or [float(k == target) for k in range(1, 6)]
    return score_rewards(
        args,
        log_probs,
        torch.arange(1.0, 6.0),
        torch.full((size,), target),
        torch.tensor([weights]).expand(size, -1),
        torch.tensor(sampled or [math.nan] * size),
        has_score,
        group_size=size,
    )


GIVEN = [(0.5, 0.5), (0.2, 0.6), (0.9, 0.05)]  # ŷ = 4.5, 3.8, 3.85; errors for 5: 0.25, 1.44, 1.3225


def test_rewards_of_the_regression(tmp_path):
    # For y* = 5: −0.25 + ln 0.5, −1.44 + ln 0.6, −1.3225 + ln 0.05
    result = rewards(tmp_path, GIVEN, 5.0)
    expected = [-0.943147, -1.950826, -4.318232]
    assert result.objective[0].tolist() == pytest.approx(expected, abs=1e-5)
    assert [weight for weight, _ in result.streams] == [1.0]
    # With the probability and λ = 2: −0.25 + 1, −1.44 + 1.2, −1.3225 + 0.1
    result = rewards(tmp_path, GIVEN, 5.0, likelihood_form="probability", log_likelihood_weight=2.0)
    assert result.streams[0][1][0].tolist() == pytest.approx([0.75, -0.24, -1.2225], abs=1e-5)
    # Apart: the same objective, and its two parts as streams
    result = rewards(tmp_path, GIVEN, 5.0, **RELEASED, log_likelihood_weight=2.0)
    assert result.objective[0].tolist() == pytest.approx([0.75, -0.24, -1.2225], abs=1e-5)
    (one, errors), (weight, likelihoods) = result.streams
    assert (one, weight) == (1.0, 2.0)
    assert errors[0].tolist() == pytest.approx([-0.25, -1.44, -1.3225], abs=1e-5)
    assert likelihoods[0].tolist() == pytest.approx([0.5, 0.6, 0.05], abs=1e-5)
    # Normalized: ŷ = 4.5, 3.8/0.8 = 4.75, 3.85/0.95 = 4.052632
    result = rewards(tmp_path, GIVEN, 5.0, normalize_expectation=True, log_likelihood_weight=0.0)
    assert result.objective[0].tolist() == pytest.approx([-0.25, -0.0625, -0.897507], abs=1e-5)


def test_rewards_of_a_malformed_completion(tmp_path):
    # On 1-5 and for y* = 5 the worst score is 4 away. Joint: −16, as no sibling has less. Apart: −16 and a likelihood of 0;
    # with the logarithm, that of a uniform guess, −ln 5 = −1.609438, or the lowest there is: ln 0.05 = −2.995732
    assert rewards(tmp_path, GIVEN, 5.0, missing=[1]).objective[0, 1] == -16.0
    result = rewards(tmp_path, GIVEN, 5.0, missing=[1], **RELEASED)
    assert [stream[0, 1].item() for _, stream in result.streams] == [-16.0, 0.0]
    result = rewards(tmp_path, GIVEN, 5.0, missing=[1], advantage_streams="separate")
    assert [stream[0, 1].item() for _, stream in result.streams] == pytest.approx([-16.0, -2.995732], abs=1e-5)
    for reward in ("log_likelihood", "log_marginal"):
        result = rewards(tmp_path, GIVEN, 5.0, missing=[1], reward=reward)
        assert result.streams[0][1][0].tolist() == pytest.approx([-0.693147, -2.995732, -2.995732], abs=1e-5)
        result = rewards(tmp_path, GIVEN[:2], 5.0, missing=[1], reward=reward)
        assert result.streams[0][1][0, 1].item() == pytest.approx(-1.609438, abs=1e-5)
    result = rewards(tmp_path, GIVEN, 5.0, missing=[1], sampled=[5.0, math.nan, 4.0], reward="accuracy")
    assert result.objective[0].tolist() == [1.0, 0.0, 0.0]


def test_the_bound_of_a_group(tmp_path):
    # ln (0.5 + 0.6 + 0.05)/3 = ln 0.383333; a malformed one counts as 0.05, the lowest, or not at all: ln 0.2, ln 0.275
    for missing, malformed, expected in (
        ((), "penalize", -0.958850),
        ((1,), "penalize", -1.609438),
        ((1,), "ignore", -1.290984),
        ((0, 1, 2), "ignore", 0.0),
    ):
        result = rewards(tmp_path, GIVEN, 5.0, missing=missing, malformed=malformed, reward="log_marginal")
        assert result.objective[0].tolist() == pytest.approx([expected] * 3, abs=1e-5)


def test_rewards_of_a_histogram(tmp_path):
    # ½ ln 0.5 + ½ ln 0.5, ½ ln 0.2 + ½ ln 0.6, ½ ln 0.9 + ½ ln 0.05
    weights = [0.0, 0.0, 0.0, 0.5, 0.5]
    result = rewards(tmp_path, GIVEN, 4.5, weights=weights, reward="log_likelihood")
    assert result.objective[0].tolist() == pytest.approx([-0.693147, -1.060132, -1.550546], abs=1e-5)
    result = rewards(tmp_path, GIVEN, 4.5, weights=weights, **RELEASED)
    assert result.streams[0][1][0].tolist() == pytest.approx([0.0, -0.49, -0.4225], abs=1e-5)
    assert result.streams[1][1][0].tolist() == pytest.approx([0.5, 0.4, 0.475], abs=1e-5)
