# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What the stages that use a judge do the same way (evaluate, self_generate): its scale, its model, its engine."""

from dataclasses import dataclass, field

import torch
from accelerate import PartialState
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase
from trl import ModelConfig, get_quantization_config

from real_trl.engines import ENGINES, Engine, TransformersEngine
from real_trl.judge_config import JUDGE_CONFIG_NAME, JudgeConfig
from real_trl.score_space import DEFAULT_MARKER, ScoreSpace, parse_labels
from real_trl.scripts.common import uses_chat


@dataclass
class JudgingArguments:
    """
    How a judge is used, whatever for.

    Args:
        output_dir (`str`):
            Where the results go.
        engine (`str`, *optional*, defaults to `"transformers"`):
            What generates: `"transformers"` or `"vllm"`.
        score_labels, score_values, score_marker, chat (*optional*):
            Scale, marker and chat template. They default to the judge's own (`judge_config.json`), and must agree with
            it; a model that was not trained here needs `score_labels`.
        normalize_expectation (`bool`, *optional*):
            Divide the expected score by the probability mass on the labels. Defaults to the judge's own choice.
        do_sample, temperature, top_p, max_new_tokens:
            Decoding of the rationale. The score distribution is read at `temperature`, never truncated by `top_p`.
        batch_size (`int`, *optional*, defaults to `8`):
            Prompts per generation batch and process.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the sampling.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Run code from the model's repository.
    """

    output_dir: str = field(metadata={"help": "Where the results go."})
    engine: str = field(default="transformers", metadata={"help": "What generates: `transformers` or `vllm`."})
    score_labels: str | None = field(default=None, metadata={"help": "Labels. Default: the judge's own."})
    score_values: list[float] | None = field(
        default=None, metadata={"help": "Number of each label. Default: the judge's own, else the label as a number."}
    )
    score_marker: str | None = field(default=None, metadata={"help": "Marker. Default: the judge's own."})
    normalize_expectation: bool | None = field(
        default=None,
        metadata={"help": "Divide the expected score by the mass on the labels. Default: the judge's own."},
    )
    chat: bool | None = field(default=None, metadata={"help": "Use the chat template. Default: the judge's own."})
    do_sample: bool = field(default=True, metadata={"help": "Sample the rationale; false decodes greedily."})
    temperature: float | None = field(default=None, metadata={"help": "Default: the judge's own, else 1."})
    top_p: float = field(default=1.0, metadata={"help": "Nucleus of the sampled rationale."})
    max_new_tokens: int = field(default=1024, metadata={"help": "Longest completion."})
    batch_size: int = field(default=8, metadata={"help": "Prompts per generation batch and process."})
    seed: int = field(default=0, metadata={"help": "Seed of the sampling."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code from the model's repository."})

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ValueError(f"engine: got {self.engine!r}. Set it to one of: {', '.join(ENGINES)}.")
        if self.engine == "vllm":
            raise ValueError("engine: 'vllm' is not available yet. Set it to transformers.")
        if self.batch_size < 1 or self.max_new_tokens < 1:
            raise ValueError(
                f"batch_size={self.batch_size}, max_new_tokens={self.max_new_tokens}: both must be at least 1."
            )
        if self.temperature is not None and self.temperature <= 0:
            raise ValueError(
                f"temperature: got {self.temperature}. Set it above 0; for greedy decoding set do_sample to false."
            )
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: got {self.top_p}. Set it above 0 and to at most 1, which is no truncation.")


def resolve_judge_config(
    args: JudgingArguments, model_name: str, revision: str | None, tokenizer: PreTrainedTokenizerBase
) -> tuple[JudgeConfig, ScoreSpace]:
    """
    The judge's own configuration and score space; the recipe may repeat it but not contradict it.

    Raises:
        ValueError: if the recipe states another scale or marker than the judge was trained with, or states no scale for
            a model without `judge_config.json`.
    """
    try:
        config = JudgeConfig.load(model_name, revision)
    except FileNotFoundError:
        if args.score_labels is None:
            raise ValueError(
                f"score_labels: not set, and {model_name!r} has no {JUDGE_CONFIG_NAME}. Set the scale, e.g. "
                "score_labels: 1-5."
            ) from None
        space = ScoreSpace.from_labels(
            args.score_labels, tokenizer, marker=args.score_marker or DEFAULT_MARKER, values=args.score_values
        )
        config = JudgeConfig.from_space(space, chat=uses_chat(args.chat, tokenizer))
    else:
        space = config.score_space(tokenizer)
        stated = {
            "score_labels": None if args.score_labels is None else list(parse_labels(args.score_labels)),
            "score_values": args.score_values,
            "score_marker": args.score_marker,
            "chat": args.chat,
        }
        for name, asked in stated.items():
            own = getattr(config, name)
            if asked not in (None, own):
                raise ValueError(
                    f"{name}: got {asked!r}, but the judge {model_name!r} was trained with {own!r}. Remove it from the recipe."
                )
    for name in ("temperature", "normalize_expectation"):
        if getattr(args, name) is not None:
            setattr(config, name, getattr(args, name))
    return config, space


def warn_of_other_template(config: JudgeConfig, prompt_template: str | None) -> None:
    """Says so if the prompts are made by another template than the judge was trained with."""
    if config.prompt_template and prompt_template not in (None, config.prompt_template):
        print(
            f"warning: prompt_template: {prompt_template!r} is not the one the judge was trained with, "
            f"{config.prompt_template!r}"
        )


def distributed_state() -> PartialState:
    """The state of this process among those that accelerate launched."""
    return PartialState(cpu=not torch.accelerator.is_available())


def load_engine(
    args: JudgingArguments,
    model_args: ModelConfig,
    tokenizer: PreTrainedTokenizerBase,
    config: JudgeConfig,
    space: ScoreSpace,
    *,
    malformed: str = "force",
) -> Engine:
    """
    Load the judge into the engine of `args.engine`.

    Args:
        args ([`JudgingArguments`]):
            Engine and decoding.
        model_args ([`~trl.ModelConfig`]):
            The judge, and how to load it.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Its tokenizer.
        config ([`JudgeConfig`]):
            Chat template, temperature and expectation.
        space ([`ScoreSpace`]):
            Scale and marker.
        malformed (`str`, *optional*, defaults to `"force"`):
            What is done with completions without a score, see [`TransformersEngine`].
    """
    model = AutoModelForCausalLM.from_pretrained(
        model_args.model_name_or_path,
        revision=model_args.model_revision,
        dtype=model_args.dtype,
        attn_implementation=model_args.attn_implementation,
        trust_remote_code=args.trust_remote_code,
        quantization_config=get_quantization_config(model_args),
    )
    if not model_args.load_in_4bit and not model_args.load_in_8bit:  # quantised weights are placed as they load
        model = model.to(distributed_state().device)
    return TransformersEngine(
        model,
        tokenizer,
        space,
        chat=config.chat,
        temperature=config.temperature,
        do_sample=args.do_sample,
        top_p=args.top_p,
        max_new_tokens=args.max_new_tokens,
        batch_size=args.batch_size,
        malformed=malformed,
        normalize_expectation=config.normalize_expectation,
    )
