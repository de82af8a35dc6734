# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What the stages that use a judge do the same way (evaluate, score, self_generate): find it, check it, load it, describe it."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trl import ModelConfig, get_quantization_config

from real_trl.engines import ENGINES, Engine, check_num_samples
from real_trl.engines.options import EngineOptions, JudgeOptions, SourceOptions
from real_trl.judge_config import JudgeConfig
from real_trl.judge_source import JudgeSource, find_judge
from real_trl.option_values import FieldError
from real_trl.runs.fingerprints import model_fingerprint

# Options of the engine that are described elsewhere, or do not change what it says: the types of the weights with their loading, the plan of the sampling with
# the run, and what becomes of completions without a score with what is made of them
_NOT_DECODING = ("dtype", "batch_size", "device", "malformed")


@dataclass(kw_only=True)
class JudgingArguments(JudgeOptions):
    """
    How a judge is used, whatever for: the options of [`~real_trl.engines.options.JudgeOptions`], and

    Args:
        output_dir (`str`):
            Where the results go.

    Of these options TRL's `ModelConfig` has two already, and calls them `model_revision` and `dtype` (by default float32); the
    prompts come with the data, whose arguments have `prompt_template`.
    """

    output_dir: str = field(metadata={"help": "Where the results go."})
    seed: int = field(default=0, metadata={"help": "Seed of the sampling."})
    revision: str | None = field(init=False, default=None)
    dtype: str | None = field(init=False, default="auto")
    prompt_template: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
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

    def check_samples(self, num_samples: int, judge: JudgeSource) -> None:
        """`ValueError` unless that many completions of one prompt make sense, of this judge."""
        check_num_samples(num_samples, self.do_sample, judge.config.rationale)

    @property
    def units_per_call(self) -> int:
        """Completions that the engine is given at once."""
        return ENGINES[self.engine].units_per_call(self.batch_size)

    def find(self, name: str | None, model_args: ModelConfig) -> JudgeSource:
        """The judge called `name`, its weights not loaded yet; errors as of [`~real_trl.judge_source.find_judge`]."""
        if not name:
            raise FieldError("model", None, "Give a Hub id or a local directory.")
        # Templates belong to the data here: the judge keeps its own, so that another one is noticed
        changed = {"revision": model_args.model_revision, "prompt_template": None}
        return find_judge(name, SourceOptions.taken_from(self, **changed))

    def load(self, source: JudgeSource, model_args: ModelConfig, *, malformed: str = "force") -> Engine:
        """Load the judge's weights into the engine; `malformed` as in [`Decoding`]."""
        options: dict[str, Any] = dict(self.engine_options)
        if ENGINES[self.engine].weights == "transformers":
            options = {
                "attn_implementation": model_args.attn_implementation,
                "quantization_config": get_quantization_config(model_args),
                **options,
            }
        changed = {"dtype": model_args.dtype or "auto", "engine_options": options, "malformed": malformed}
        return source.load_engine(EngineOptions.taken_from(self, **changed))

    def stated(self) -> dict[str, Any]:
        """The arguments as the recipe has them, without those that other arguments hold."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.init}

    def describe(self, source: JudgeSource, model_args: ModelConfig) -> dict[str, dict[str, Any]]:
        """
        Everything about a judge that its completions depend on, for the provenance of what is made with it: the sections
        `model`, `loading`, `judge` (what it is, as found) and `decoding` (how it runs).
        """
        loading = ("dtype", "attn_implementation", "load_in_8bit", "load_in_4bit")
        own = [each.name for each in fields(SourceOptions) if hasattr(source.config, each.name)]
        decoding = [each.name for each in fields(EngineOptions)]
        run = {name: getattr(self, name) for name in decoding if name not in _NOT_DECODING}
        run["top_p"] = source.config.top_p if run["top_p"] is None else run["top_p"]
        local = ENGINES[self.engine].weights != "elsewhere" or Path(source.name).is_dir()
        return {
            "model": {
                "name_or_path": source.name,
                "revision": source.revision,
                # Of a model that is on a server only, no more is known here than its name
                "fingerprint": model_fingerprint(source.name, source.revision) if local else source.name,
            },
            "loading": {name: getattr(model_args, name) for name in loading},
            "judge": {
                **{name: getattr(source.config, name) for name in own if name != "prompt_template"},
                # As of what was made before there were direct judges, which may go on
                "rationale": None if source.config.rationale else False,
            },
            "decoding": run,
        }


def warn_of_other_template(config: JudgeConfig, prompt_template: str | None) -> None:
    """Says so if the prompts are made by another template than the judge was trained with."""
    if config.prompt_template and prompt_template not in (None, config.prompt_template):
        print(
            f"warning: prompt_template: {prompt_template!r} is not the one the judge was trained with, "
            f"{config.prompt_template!r}"
        )
