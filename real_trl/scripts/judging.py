# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What the stages that use a judge do the same way (evaluate, self_generate): find it, check it against the recipe, load it."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from trl import ModelConfig, get_quantization_config

from real_trl.data import as_mapping
from real_trl.engines import ENGINES, Engine
from real_trl.judge_config import JudgeConfig
from real_trl.judge_loading import JudgeSource, find_judge

_MANY = 256


def units_per_call(engine: str, batch_size: int) -> int:
    """Completions that an engine is given at once. vLLM and servers make their own batches, out of many."""
    return batch_size if engine == "transformers" else max(batch_size, _MANY)


@dataclass
class JudgingArguments:
    """
    How a judge is used, whatever for.

    Args:
        output_dir (`str`):
            Where the results go.
        engine (`str`, *optional*, defaults to `"transformers"`):
            What generates: `"transformers"`, `"vllm"`, or `"server"` (any OpenAI-compatible server).
        engine_options (`dict`, *optional*):
            Further settings of the engine, e.g. `{base_url: http://localhost:8000/v1}`.
        preset (`str`, *optional*):
            Scale, marker and prompt of a model that was not trained here, e.g. `"prometheus"`.
        score_labels, score_values, score_marker, chat (*optional*):
            Scale, marker and chat template. They default to the judge's own (`judge_config.json`), and must agree with
            it; a model that was not trained here needs `score_labels` or `preset`.
        normalize_expectation (`bool`, *optional*):
            Divide the expected score by the probability mass on the labels. Defaults to the judge's own choice, and to `True` for a
            model that was not trained here.
        do_sample, temperature, top_p, max_new_tokens:
            Decoding of the rationale. The score distribution is read at `temperature`, never truncated by `top_p`.
        truncate_prompts (`bool`, *optional*, defaults to `False`):
            Cut the beginning of prompts that are too long for the model, instead of refusing them.
        batch_size (`int`, *optional*, defaults to `8`):
            Prompts per generation batch and process.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the sampling.
        tokenizer (`str`, *optional*):
            Directory or Hub id of the tokenizer, for a model that is on a server only.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Run code from the model's repository.
    """

    output_dir: str = field(metadata={"help": "Where the results go."})
    engine: str = field(
        default="transformers", metadata={"help": "What generates: `transformers`, `vllm`, or `server`."}
    )
    engine_options: dict | str | None = field(
        default=None, metadata={"help": "Further settings of the engine, e.g. {base_url: http://localhost:8000/v1}."}
    )
    preset: str | None = field(
        default=None, metadata={"help": "Scale, marker and prompt of a model that was not trained here: prometheus."}
    )
    score_labels: str | None = field(default=None, metadata={"help": "Labels. Default: the judge's own."})
    score_values: list[float] | None = field(
        default=None, metadata={"help": "Number of each label. Default: the judge's own, else the label as a number."}
    )
    score_marker: str | None = field(default=None, metadata={"help": "Marker. Default: the judge's own."})
    normalize_expectation: bool | None = field(
        default=None,
        metadata={
            "help": "Divide the expected score by the mass on the labels. Default: the judge's own, else true for a model that was not "
            "trained here."
        },
    )
    chat: bool | None = field(default=None, metadata={"help": "Use the chat template. Default: the judge's own."})
    do_sample: bool = field(default=True, metadata={"help": "Sample the rationale; false decodes greedily."})
    temperature: float | None = field(default=None, metadata={"help": "Default: the judge's own, else 1."})
    top_p: float = field(default=1.0, metadata={"help": "Nucleus of the sampled rationale."})
    max_new_tokens: int | None = field(
        default=None, metadata={"help": "Longest completion. Default: 1024, or half of a shorter context."}
    )
    truncate_prompts: bool = field(
        default=False, metadata={"help": "Cut the beginning of prompts that are too long, instead of refusing them."}
    )
    batch_size: int = field(default=8, metadata={"help": "Prompts per generation batch and process."})
    seed: int = field(default=0, metadata={"help": "Seed of the sampling."})
    tokenizer: str | None = field(
        default=None, metadata={"help": "Tokenizer, for a model that is on a server only. Default: the judge's own."}
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code from the model's repository."})

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ValueError(f"engine: got {self.engine!r}. Set it to one of: {', '.join(ENGINES)}.")
        self.engine_options = as_mapping("engine_options", self.engine_options)
        if "api_key" in self.engine_options:
            raise ValueError(
                "engine_options: api_key would be saved with the results. Remove it, and set the environment variable "
                "OPENAI_API_KEY."
            )
        if "@" in urlsplit(str(self.engine_options.get("base_url", ""))).netloc:
            raise ValueError(
                "engine_options: base_url holds a user name or password, which would be saved with the results. Remove it, and set the "
                "environment variable OPENAI_API_KEY."
            )
        if self.batch_size < 1 or (self.max_new_tokens is not None and self.max_new_tokens < 1):
            raise ValueError(
                f"batch_size={self.batch_size}, max_new_tokens={self.max_new_tokens}: both must be at least 1."
            )
        if self.temperature is not None and self.temperature <= 0:
            raise ValueError(
                f"temperature: got {self.temperature}. Set it above 0; for greedy decoding set do_sample to false."
            )
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: got {self.top_p}. Set it above 0 and to at most 1, which is no truncation.")

    @property
    def units_per_call(self) -> int:
        """Completions that the engine is given at once."""
        return units_per_call(self.engine, self.batch_size)

    def find(self, name: str | None, model_args: ModelConfig) -> JudgeSource:
        """The judge called `name`, its weights not loaded yet; errors as of [`~real_trl.judge_loading.find_judge`]."""
        if not name:
            raise ValueError("model_name_or_path: not set. Give a Hub id or a local directory.")
        return find_judge(
            name,
            revision=model_args.model_revision,
            preset=self.preset,
            score_labels=self.score_labels,
            score_values=self.score_values,
            score_marker=self.score_marker,
            chat=self.chat,
            temperature=self.temperature,
            tokenizer=self.tokenizer,
            normalize_expectation=self.normalize_expectation,
            trust_remote_code=self.trust_remote_code,
        )

    def load(self, source: JudgeSource, model_args: ModelConfig, *, malformed: str = "force") -> Engine:
        """Load the judge's weights into the engine; `malformed` as in [`Decoding`]."""
        options: dict[str, Any] = dict(self.engine_options)
        if self.engine == "transformers":
            options = {
                "attn_implementation": model_args.attn_implementation,
                "quantization_config": get_quantization_config(model_args),
                **options,
            }
        return source.load_engine(
            self.engine,
            do_sample=self.do_sample,
            top_p=self.top_p,
            max_new_tokens=self.max_new_tokens,
            malformed=malformed,
            truncate_prompts=self.truncate_prompts,
            batch_size=self.batch_size,
            dtype=model_args.dtype or "auto",
            engine_options=options,
        )


def warn_of_other_template(config: JudgeConfig, prompt_template: str | None) -> None:
    """Says so if the prompts are made by another template than the judge was trained with."""
    if config.prompt_template and prompt_template not in (None, config.prompt_template):
        print(
            f"warning: prompt_template: {prompt_template!r} is not the one the judge was trained with, "
            f"{config.prompt_template!r}"
        )
