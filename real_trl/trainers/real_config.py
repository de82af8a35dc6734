# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Configuration of [`REALTrainer`]."""

from dataclasses import dataclass, field

from trl import RLOOConfig

from real_trl.methods import METHODS, reward_names, unread_options
from real_trl.objectives.importance_sampling import MODES as IMPORTANCE_MODES
from real_trl.option_values import FieldError, check_numbers
from real_trl.trainers.config_defaults import JudgeTrainingArguments, default_precision
from real_trl.trainers.group_filter import GroupFilter

_CHOICES = {
    "likelihood_form": ("log_probability", "probability"),
    "advantage_streams": ("joint", "separate"),
    "reuse_correction": ("clip", "none"),
    "malformed": ("penalize", "force", "ignore"),
    "loss_aggregation": ("sequence", "token"),
    "vllm_importance_sampling_mode": IMPORTANCE_MODES,
}


# Of `generation_kwargs`, what changes which token comes next
_SAMPLING = frozenset(
    "temperature top_p top_k min_p typical_p do_sample num_beams epsilon_cutoff eta_cutoff bad_words repetition_penalty presence_penalty "
    "frequency_penalty no_repeat_ngram_size guidance_scale sequence_bias bad_words_ids suppress_tokens begin_suppress_tokens logit_bias "
    "logits_processors allowed_token_ids exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id penalty_alpha "
    "min_tokens".split()
)


_NO_CONTINUOUS_BATCHING = (
    "In half precision TRL casts the weights that are trained for it, and an answer that fails moves all that follow it to other prompts. "
    "Groups share their prompt without it; for more speed set `use_vllm`"
)


@dataclass(repr=False)
class REALConfig(JudgeTrainingArguments, RLOOConfig):
    r"""
    Configuration of the [`REALTrainer`].

    This class adds to [`~trl.RLOOConfig`] what REAL (arXiv 2603.17145) needs, and
    [`~real_trl.trainers.config_defaults.JudgeTrainingArguments`]; all other arguments keep TRL's meaning.
    TRL's `beta` is the KL coefficient, here `0.0` by default; the paper's β is `prediction_weight`. Fields that are not below say what they
    are in their metadata (`help`).

    Args:
        reward (`str`, *optional*, defaults to `"regression"`):
            Reward on the judge's score distribution, by its name in [`real_trl.methods.METHODS`].
        prediction_weight (`float`, *optional*):
            β in Eq. 8, the weight on the gradient of the reward itself. Defaults to the method's.
        likelihood_form (`str`, *optional*, defaults to `"log_probability"`):
            What λ weighs in `reward="regression"`: `"log_probability"`, log π(y*) (Eq. 5), or `"probability"`, π(y*),
            as in the authors' released code.
        advantage_streams (`str`, *optional*, defaults to `"joint"`):
            `"joint"`: the two parts of `reward="regression"` make one reward, whose advantages are standardised
            (Section 4.3). `"separate"`: each part has standardised advantages of its own, which are added with weight
            λ, as in the authors' released code.
        target_sigma (`float`, *optional*):
            Standard deviation, in points of the scale, of the Gaussian around y* in `reward="soft_likelihood"`. Default: half the smallest
            distance between two labels.
        group_filter (`str`, *optional*):
            Dynamic sampling (Table 6): bounds on a group's accuracy, such as `"0 < acc < 1"`. Groups outside are
            replaced by groups of other prompts. Unset: every group is trained on.
        reuse_correction (`str`, *optional*, defaults to `"clip"`):
            On batches that are reused: `"clip"`, PPO's clipped ratio of whole sequences, as in TRL; `"none"`, the
            policy gradient as if on-policy, with the advantages as they were, as in the authors' released code.
        malformed (`str`, *optional*, defaults to `"penalize"`):
            What to do with a completion in which no score of the scale can be found. `"penalize"`: it gets the
            reward of the worst score on the scale for its target (rewards that know no distance: of a uniform guess), or the worst reward in its group if that is lower; no
            gradient flows through the score. `"force"`: the marker is appended (behind the closing tag, where the thinking does not
            end) and the score distribution read there.
            `"ignore"`: it takes no part in its group's baseline and gets no gradient.
        preflight_scored_rate (`float`, *optional*):
            Least share of the answers to some prompts, sampled before the first step, that must show a score; with fewer, training
            stops with what the model wrote (with `malformed="force"` that is a warning). `0`: nothing is sampled. Defaults to 0.05 in
            the stage `rl`, which loads and saves a judge around the training, and to 0 for a trainer that is made in Python.
        loss_aggregation (`str`, *optional*, defaults to `"sequence"`):
            `"sequence"`: log-probabilities are summed over each CoT and averaged over completions (Eq. 8). `"token"`:
            the sum over all CoTs is divided by their number of tokens, both over the generation batch of all processes.
        vllm_importance_sampling_correction (`bool`, *optional*, defaults to `False`):
            Weigh completions from vLLM by π/μ, the trainer's probability over vLLM's, as TRL's `GRPOTrainer` does: see
            [`real_trl.objectives.importance_sampling`]. Off as in TRL's `RLOOTrainer`, in the paper and in its released code; how far the two are apart is logged in
            any case, as `sampling/sampling_logp_difference/mean` and `/max`.
        vllm_importance_sampling_mode (`str`, *optional*, defaults to `"sequence_truncate"`):
            Weights of whole completions or of each token (`"token_…"`), bounded by `vllm_importance_sampling_clip_max` (`"…_truncate"`) or 0 beyond it
            (`"…_mask"`).
        shared_prefix (`bool`, *optional*, defaults to `True`):
            Read each prompt once for all its completions, which is exact; where it would not be (sliding windows, dropout, also
            that of LoRA), or is not supported (other architectures, an `attn_implementation` other than sdpa), completions are run
            with a copy of the prompt each, and the log says why. `False`: the latter always.
        per_device_train_batch_size (`int`, *optional*, defaults to `16`):
            Completions in one forward: whole groups of `num_generations`, or, where memory does not hold one, a divisor of it, with
            `gradient_accumulation_steps` that make up whole groups. The step is the same, for one more forward without gradients.

    Defaults that differ from TRL's: `num_generations=16`, `per_device_train_batch_size=16` (one group), `beta=0.0`,
    `max_completion_length=1024` (Section 5 of the paper); `per_device_eval_batch_size` is 8, or the next
    number that holds whole groups; `bf16` only where a GPU has it.

    Defaults that are not the paper's: `group_filter` is unset, where it trains on `"0 < acc < 1"`; `score_labels` are `"1-5"`, as data are
    labelled and as in the authors' released code, where it sums over the digits 0-9. The recipes say what else is.
    """

    reward: str = field(
        default="regression",
        metadata={"help": f"Reward: {', '.join(f'`{name}` ({METHODS[name].name})' for name in reward_names())}."},
    )
    log_likelihood_weight: float = field(
        default=1.0, metadata={"help": "λ in Eq. 5, for `reward='regression'` or `'number_token'`."}
    )
    prediction_weight: float | None = field(
        default=None,
        metadata={
            "help": "β in Eq. 8. Defaults to the reward's: "
            + ", ".join(f"{METHODS[name].prediction_weight:g} ({name})" for name in reward_names())
        },
    )
    likelihood_form: str = field(
        default="log_probability", metadata={"help": "What λ weighs: `log_probability` (Eq. 5) or `probability`."}
    )
    advantage_streams: str = field(
        default="joint",
        metadata={"help": "Standardise the two parts of the reward as one (`joint`) or apart (`separate`)."},
    )
    target_sigma: float | None = field(
        default=None,
        metadata={
            "help": "σ of the soft labels of `reward='soft_likelihood'`; default: half the distance of two labels."
        },
    )
    group_filter: str | None = field(
        default=None, metadata={"help": "Dynamic sampling: bounds on group accuracy, e.g. `0 < acc < 1`."}
    )
    group_filter_rounds: int = field(default=10, metadata={"help": "Generations per batch before training stops."})
    reuse_correction: str = field(
        default="clip", metadata={"help": "On reused batches: `clip` (PPO's ratio) or `none` (fixed advantages)."}
    )
    advantage_clip: float | None = field(default=1.0, metadata={"help": "Bound on standardised advantages, or null."})
    advantage_eps: float = field(default=1e-8, metadata={"help": "ε added to σ when advantages are standardised."})
    malformed: str = field(
        default="penalize", metadata={"help": "Completions without a score: `penalize`, `force` or `ignore`."}
    )
    preflight_scored_rate: float | None = field(
        default=None,
        metadata={
            "help": "Share of sampled answers that must show a score before the first step; 0 does not look. Default in `rl`: 0.05."
        },
    )
    loss_aggregation: str = field(default="sequence", metadata={"help": "`sequence` (Eq. 8) or `token`."})
    vllm_importance_sampling_correction: bool = field(
        default=False, metadata={"help": "Weigh completions from vLLM by the trainer's probability over vLLM's."}
    )
    vllm_importance_sampling_mode: str = field(
        default="sequence_truncate", metadata={"help": f"How they are weighed: {', '.join(IMPORTANCE_MODES)}."}
    )
    vllm_importance_sampling_clip_max: float | None = field(
        default=3.0, metadata={"help": "Bound on these weights, or null."}
    )
    shared_prefix: bool = field(
        default=True, metadata={"help": "Read each prompt once for all its completions, where that is exact."}
    )

    num_generations: int = field(default=16, metadata={"help": "K, completions per prompt. At least 2."})
    per_device_train_batch_size: int = field(
        default=16,
        metadata={
            "help": "Completions per device and micro-batch: whole groups of `num_generations`, or an equal part of one."
        },
    )
    per_device_eval_batch_size: int | None = field(
        default=None,
        metadata={
            "help": "Completions per device in evaluation: whole groups. Default: 8, or the next number that holds them."
        },
    )
    beta: float = field(default=0.0, metadata={"help": "TRL's KL coefficient (not the paper's β)."})
    max_completion_length: int | None = field(default=1024, metadata={"help": "Longest completion, in tokens."})

    def __post_init__(self) -> None:
        check_numbers(self)
        for name, choices in {"reward": reward_names(), **_CHOICES}.items():
            if getattr(self, name) not in choices:
                raise FieldError(name, getattr(self, name), f"Set it to one of: {', '.join(choices)}.")
        method = METHODS[self.reward]
        if self.prediction_weight is None:
            self.prediction_weight = method.prediction_weight
        if method.on_sample and self.prediction_weight != 0:
            said = f": got {self.prediction_weight} with reward={self.reward!r}, which is of the score that was sampled and has no gradient"
            raise FieldError("prediction_weight", self.prediction_weight, "Leave it out, or set it to 0.", said)
        if method.on_sample and self.malformed == "force":
            said = f": got 'force' with reward={self.reward!r}, which reads the score that was sampled; a forced score is not a sample"
            raise FieldError("malformed", "force", "Use 'penalize' or 'ignore'.", said)
        for name, rewards in unread_options(self.reward).items():
            if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                readers = " or ".join(repr(reward) for reward in rewards)
                said = f": got {getattr(self, name)!r} with reward={self.reward!r}, but only reward={readers} reads it"
                raise FieldError(name, getattr(self, name), "Leave it out.", said)
        if self.num_generations < 2:
            fix = "The leave-one-out baseline compares completions of the same prompt: set it to 2 or more (the paper uses 16)."
            raise FieldError("num_generations", self.num_generations, fix)
        if method.pairs:
            self._check_pairs()
        if self.group_filter is not None:
            GroupFilter.parse(self.group_filter, self.num_generations)
        if self.num_generations % self.per_device_train_batch_size:  # a micro-batch may be a part of a group
            self._check_whole_groups("per_device_train_batch_size", self.num_generations)
        if self.per_device_eval_batch_size is None:
            group = self.num_generations_eval or self.num_generations
            self.per_device_eval_batch_size = -(-8 // group) * group  # TRL's 8, or what holds whole groups
        if self.eval_strategy != "no":
            self.check_eval_groups()
        unused = {
            "normalize_advantages": "Advantages are standardised within each group: set `advantage_clip` and `advantage_eps`",
            "reward_weights": "The reward has the weights `log_likelihood_weight` and `prediction_weight`",
            "reward_clip_range": "Rewards of a score scale are bounded by it: set `advantage_clip`",
            "mask_truncated_completions": "Truncated completions are malformed: set `malformed='ignore'`",
            "label_smoothing_factor": "There are no labels to smooth",
            "pad_to_multiple_of": "Groups are read without padding",
            "neftune_noise_alpha": "Completions would be sampled from one policy and trained on another: leave it to `sft`",
            "use_transformers_continuous_batching": _NO_CONTINUOUS_BATCHING,
            "use_transformers_paged": _NO_CONTINUOUS_BATCHING,
        }
        for name, instead in unused.items():
            if getattr(self, name) not in (None, False, 0, "auto"):  # of padding, TRL's default
                said = f": got {getattr(self, name)}, which REALTrainer does not use"
                raise FieldError(name, getattr(self, name), f"{instead}.", said)
        default_precision(self)
        self._check_split_groups()
        super().__post_init__()
        self._check_split_groups()  # with steps that were worked out from generation_batch_size
        self._check_sampling()
        self._check_importance_sampling()

    def _check_importance_sampling(self) -> None:
        if not self.vllm_importance_sampling_correction:
            return
        name = "vllm_importance_sampling_correction"
        if not self.use_vllm:
            fix = "Leave it out, or set use_vllm."
            raise FieldError(
                name, True, fix, ": got true without use_vllm; what Transformers samples comes from the policy"
            )
        method = METHODS[self.reward]
        if method.of_group or method.shared_by > 1:
            said = f": got true with reward={self.reward!r}, which is one of several completions together, whose weight would be the product of theirs"
            raise FieldError(name, True, "Leave it out.", said)
        if self.temperature != 1.0 and self.top_p != 1.0:
            said = f": got true with temperature={self.temperature} and top_p={self.top_p}, and vLLM tells log-probabilities before both or after both"
            raise FieldError(name, True, "Leave one of them at 1, or this out.", said)

    def _check_pairs(self) -> None:
        """A group holds completions about both responses of a pair, at least two each."""
        self._check_halves("num_generations", 4)
        if self.group_filter is not None:
            said = f": got {self.group_filter!r} with reward={self.reward!r}: a pair has no right score"
            raise FieldError("group_filter", self.group_filter, "Leave it out.", said)

    def _check_sampling(self) -> None:
        """Completions are sampled as a judge samples them: by temperature and top-p, and nothing else."""
        plain = {"top_k": (None, 0, -1), "min_p": (None, 0, 0.0), "repetition_penalty": (None, 1, 1.0)}
        given = {name: getattr(self, name) for name, values in plain.items() if getattr(self, name) not in values}
        options = self.generation_kwargs if isinstance(self.generation_kwargs, dict) else {}
        given |= {name: value for name, value in options.items() if name in _SAMPLING}
        for name, value in given.items():
            said = f": got {value!r}, but no judge samples that way: completions would be drawn from another distribution than the "
            said += "one whose log-probabilities are trained, and that judges with"
            raise FieldError(name, value, "Leave it out; temperature and top_p are saved with the judge.", said)

    def _check_split_groups(self) -> None:
        """Micro-batches that are parts of groups make up whole ones in every step, whose weights are those of the first pass."""
        size, group = self.per_device_train_batch_size, self.num_generations
        steps = self.steps_per_generation or self.gradient_accumulation_steps
        reuses = self.num_iterations > 1 or steps != self.gradient_accumulation_steps
        if METHODS[self.reward].across_prompts:
            said = f": got {self.reward!r}, which compares the prompts of a batch"
            if size * steps < 2 * group:
                fix = f"Set per_device_train_batch_size to {2 * group} or more, or raise gradient_accumulation_steps."
                raise FieldError("reward", self.reward, fix, f"{said}, but one holds a single prompt")
            if steps > 1 and reuses:
                fix = "Leave num_iterations and steps_per_generation out."
                raise FieldError("reward", self.reward, fix, f"{said}, and it is used for several steps")
        if size % group == 0:
            return
        said = f": got {size} with num_generations={group}, so that a group takes {group // size} micro-batches"
        name = "per_device_train_batch_size"
        if size * steps % group:
            fix = f"Set gradient_accumulation_steps to a multiple of {group // size}, or this to {group}."
            raise FieldError(name, size, fix, f"{said}, but there are {steps}")
        if reuses:
            fix = f"Set it to {group}, or leave num_iterations and steps_per_generation out."
            raise FieldError(name, size, fix, f"{said}, and the batch is used for several steps")

    def _check_halves(self, name: str, least: int) -> None:
        number = getattr(self, name)
        if number is not None and (number % 2 or number < least):
            said = (
                f": got {number} with reward={self.reward!r}, which samples half of them for either response of a pair"
            )
            raise FieldError(name, number, f"Set it to an even number from {least} on.", said)

    def check_eval_groups(self) -> None:
        """`FieldError` if an evaluation batch does not hold whole groups."""
        if METHODS[self.reward].pairs:
            self._check_halves("num_generations_eval", 2)
        self._check_whole_groups("per_device_eval_batch_size", self.num_generations_eval or self.num_generations)

    def _check_whole_groups(self, name: str, num_generations: int) -> None:
        size = getattr(self, name)
        if size % num_generations:
            lower, upper = size // num_generations * num_generations, -(-size // num_generations) * num_generations
            fixes = f"{lower} or {upper}" if lower else f"{upper}"
            said = f": got {size}, which does not hold whole groups of num_generations={num_generations} completions; "
            said += "reward, advantage and gradient come from one forward over whole groups"
            fix = f"Set it to {fixes}, or change `num_generations`; to save memory use fewer groups, or a divisor of `num_generations`, "
            fix += "with a higher `gradient_accumulation_steps`."
            raise FieldError(name, size, fix, said)
