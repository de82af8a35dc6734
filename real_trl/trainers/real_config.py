# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Configuration of [`REALTrainer`]."""

from dataclasses import dataclass, field

from trl import RLOOConfig

from real_trl.score_space import DEFAULT_MARKER
from real_trl.trainers.config_defaults import check_not_negative, default_precision

# reward -> prediction weight β of the method (the table of `real_trl.objectives`)
PREDICTION_WEIGHTS = {"regression": 0.01, "accuracy": 0.0, "log_likelihood": 1.0}
MALFORMED = ("penalize", "force", "ignore")
AGGREGATIONS = ("sequence", "token")


@dataclass
class REALConfig(RLOOConfig):
    r"""
    Configuration of the [`REALTrainer`].

    This class adds to [`~trl.RLOOConfig`] what REAL (arXiv 2603.17145) needs; all other arguments keep TRL's meaning.
    TRL's `beta` is the KL coefficient, here `0.0` by default; the paper's β is `prediction_weight`.

    Args:
        reward (`str`, *optional*, defaults to `"regression"`):
            Reward on the judge's score distribution: `"regression"` (REAL, Eq. 5), `"accuracy"` (Standard RL: 1 if the
            sampled score is the target) or `"log_likelihood"` (JEPO, single sample).
        log_likelihood_weight (`float`, *optional*, defaults to `1.0`):
            λ in Eq. 5. Only used by `reward="regression"`.
        prediction_weight (`float`, *optional*):
            β in Eq. 8, the weight on the gradient of the reward itself. Defaults to the method's: `0.01` for
            `"regression"`, `1.0` for `"log_likelihood"`, `0.0` for `"accuracy"`, which has no gradient.
        advantage_clip (`float`, *optional*, defaults to `1.0`):
            Bound on the standardised advantages. `None` for no clipping.
        advantage_eps (`float`, *optional*, defaults to `1e-8`):
            ε added to σ when advantages are standardised.
        score_labels (`str`, *optional*, defaults to `"1-5"`):
            Labels of the score space: a range such as `"1-5"`, or a list.
        score_marker (`str`, *optional*, defaults to `"So the overall score is "`):
            Text that precedes the score in a completion.
        malformed (`str`, *optional*, defaults to `"penalize"`):
            What to do with a completion in which no score of the scale can be found. `"penalize"`: it gets the reward
            of the worst score on the scale for its target, or the worst reward in its group if that is lower; no
            gradient flows through the score. `"force"`: the marker is appended and the score distribution read there.
            `"ignore"`: it takes no part in its group's baseline and gets no gradient.
        loss_aggregation (`str`, *optional*, defaults to `"sequence"`):
            `"sequence"`: log-probabilities are summed over each CoT and averaged over completions (Eq. 8). `"token"`:
            the sum over all CoTs of the micro-batch is divided by their number of tokens.

    Defaults that differ from TRL's: `num_generations=16`, `per_device_train_batch_size=16` (one group), `beta=0.0`,
    `max_completion_length=1024` (Section 5 of the paper); `bf16` only where a GPU has it.
    """

    reward: str = field(
        default="regression", metadata={"help": "Reward: `regression` (REAL), `accuracy` or `log_likelihood`."}
    )
    log_likelihood_weight: float = field(default=1.0, metadata={"help": "λ in Eq. 5, for `reward='regression'`."})
    prediction_weight: float | None = field(
        default=None,
        metadata={"help": "β in Eq. 8. Defaults to the method's: 0.01, 0 (accuracy) or 1 (log_likelihood)."},
    )
    advantage_clip: float | None = field(default=1.0, metadata={"help": "Bound on standardised advantages."})
    advantage_eps: float = field(default=1e-8, metadata={"help": "ε added to σ when advantages are standardised."})
    score_labels: str = field(default="1-5", metadata={"help": "Labels of the score space, e.g. `1-5`."})
    score_marker: str = field(default=DEFAULT_MARKER, metadata={"help": "Text that precedes the score."})
    malformed: str = field(
        default="penalize", metadata={"help": "Completions without a score: `penalize`, `force` or `ignore`."}
    )
    loss_aggregation: str = field(default="sequence", metadata={"help": "`sequence` (Eq. 8) or `token`."})

    num_generations: int = field(default=16, metadata={"help": "K, completions per prompt. At least 2."})
    per_device_train_batch_size: int = field(
        default=16, metadata={"help": "Completions per device and micro-batch: whole groups of `num_generations`."}
    )
    beta: float = field(default=0.0, metadata={"help": "TRL's KL coefficient (not the paper's β)."})
    max_completion_length: int | None = field(default=1024, metadata={"help": "Longest completion, in tokens."})

    def __post_init__(self) -> None:
        _check_choice("reward", self.reward, PREDICTION_WEIGHTS)
        _check_choice("malformed", self.malformed, MALFORMED)
        _check_choice("loss_aggregation", self.loss_aggregation, AGGREGATIONS)
        if self.prediction_weight is None:
            self.prediction_weight = PREDICTION_WEIGHTS[self.reward]
        if self.reward == "accuracy" and self.prediction_weight != 0:
            raise ValueError(
                f"prediction_weight: got {self.prediction_weight} with reward='accuracy', whose reward is 0 or 1 and has no "
                "gradient. Leave it out, or set it to 0."
            )
        if self.reward == "accuracy" and self.malformed == "force":
            raise ValueError(
                "malformed: got 'force' with reward='accuracy', which reads the score that was sampled; a forced score is not "
                "a sample. Use 'penalize' or 'ignore'."
            )
        check_not_negative(self, "log_likelihood_weight", "prediction_weight", "advantage_eps")
        check_not_negative(self, "beta")
        if self.temperature <= 0:
            raise ValueError(
                f"temperature: got {self.temperature}. Set it above 0: the policy gradient needs samples."
            )
        if self.advantage_clip is not None and self.advantage_clip <= 0:
            raise ValueError(f"advantage_clip: got {self.advantage_clip}. Set it above 0, or to null for no clipping.")
        if self.num_generations < 2:
            raise ValueError(
                f"num_generations: got {self.num_generations}. The leave-one-out baseline compares completions of the same "
                "prompt: set it to 2 or more (the paper uses 16)."
            )
        self._check_whole_groups("per_device_train_batch_size", self.num_generations)
        if self.eval_strategy != "no":
            self._check_whole_groups("per_device_eval_batch_size", self.num_generations_eval or self.num_generations)
        unused = {
            "normalize_advantages": "advantages are standardised within each group: set `advantage_clip` and `advantage_eps`",
            "reward_weights": "the reward has the weights `log_likelihood_weight` and `prediction_weight`",
            "reward_clip_range": "rewards of a score scale are bounded by it: set `advantage_clip`",
            "mask_truncated_completions": "truncated completions are malformed: set `malformed='ignore'`",
        }
        for name, instead in unused.items():
            if getattr(self, name):
                raise ValueError(f"{name}: got {getattr(self, name)}, which REALTrainer does not use; {instead}.")
        default_precision(self)
        super().__post_init__()

    def _check_whole_groups(self, name: str, num_generations: int) -> None:
        size = getattr(self, name)
        if size % num_generations:
            lower, upper = size // num_generations * num_generations, -(-size // num_generations) * num_generations
            fixes = f"{lower} or {upper}" if lower else f"{upper}"
            raise ValueError(
                f"{name}: got {size}, which does not hold whole groups of num_generations={num_generations} completions; "
                f"reward, advantage and gradient come from one forward over whole groups. Set it to {fixes}, or change "
                "`num_generations`; to save memory use fewer, whole groups with a higher `gradient_accumulation_steps`."
            )


def _check_choice(name: str, value: str, choices: object) -> None:
    if value not in choices:
        raise ValueError(f"{name}: got {value!r}. Set it to one of: {', '.join(choices)}.")
