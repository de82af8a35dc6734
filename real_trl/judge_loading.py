# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From a name to a judge: first its scale and prompt, which cost nothing, so that data can be checked; then its weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedTokenizerBase

from real_trl.engines import (
    ENGINES,
    Decoding,
    Engine,
    ServerEngine,
    TransformersEngine,
    VLLMEngine,
    default_max_new_tokens,
)
from real_trl.judge_config import JUDGE_CONFIG_NAME, JudgeConfig
from real_trl.pretrained import cannot_load, distributed_state, load_tokenizer, uses_chat
from real_trl.prompts import load_template
from real_trl.scale import parse_labels
from real_trl.score_space import DEFAULT_MARKER, ScoreSpace


@dataclass(frozen=True)
class JudgePreset:
    """
    Scale, marker and prompt of judges that were not trained here.

    Attributes:
        score_labels (`str`): The labels.
        score_marker (`str`): What precedes the score.
        prompt_template (`str`): Name of the built-in template.
    """

    score_labels: str
    score_marker: str
    prompt_template: str


PRESETS = {
    # Kim et al., Prometheus 2 (arXiv 2405.01535): "Feedback: … [RESULT] 4"
    "prometheus": JudgePreset("1-5", "[RESULT] ", "prometheus"),
    # The same prompt with the score sentence of TRACT and REAL, for any instruction-tuned model
    "feedback_collection": JudgePreset("1-5", DEFAULT_MARKER, "feedback_collection"),
}


@dataclass
class JudgeSource:
    """
    A judge whose scale and prompt are known, and whose weights are not loaded yet. Get it with [`find_judge`].

    Attributes:
        name (`str`): Local directory, or model id on the Hub.
        revision (`str`, *optional*): Revision on the Hub.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Its tokenizer.
        config ([`JudgeConfig`]): Scale, marker, prompt, temperature.
        space ([`ScoreSpace`]): The scale in the tokenizer's tokens.
        trust_remote_code (`bool`): Whether code from the model's repository may run.
    """

    name: str
    revision: str | None
    tokenizer: PreTrainedTokenizerBase
    config: JudgeConfig
    space: ScoreSpace
    trust_remote_code: bool = False

    def load_engine(
        self,
        engine: str = "transformers",
        *,
        do_sample: bool = True,
        top_p: float = 1.0,
        max_new_tokens: int | None = None,
        malformed: str = "force",
        truncate_prompts: bool = False,
        batch_size: int = 8,
        dtype: str | torch.dtype = "auto",
        engine_options: Mapping[str, Any] | None = None,
    ) -> Engine:
        """
        Load the weights into an engine.

        Args:
            engine (`str`, *optional*, defaults to `"transformers"`):
                `"transformers"`, `"vllm"`, or `"server"`.
            do_sample, top_p, malformed, truncate_prompts:
                See [`Decoding`].
            max_new_tokens (`int`, *optional*):
                Longest completion. Defaults to 1024, and for models with a short context to half of it.
            batch_size (`int`, *optional*, defaults to `8`):
                Prompts per generation batch (Transformers), which vLLM and servers decide for themselves.
            dtype (`str` or `torch.dtype`, *optional*, defaults to `"auto"`):
                Type of the weights, by default as saved.
            engine_options (`Mapping`, *optional*):
                Further keyword arguments: of `from_pretrained` (Transformers), of [`VLLMEngine`], or of
                [`ServerEngine`], which needs at least `base_url`.

        Raises:
            `ValueError`: if the engine is unknown, an option impossible, or the model cannot be loaded.
        """
        if engine not in ENGINES:
            raise ValueError(f"engine: got {engine!r}. Set it to one of: {', '.join(ENGINES)}.")
        if batch_size < 1:
            raise ValueError(f"batch_size: got {batch_size}. Set it to at least 1.")
        if isinstance(dtype, str) and dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise ValueError(f"dtype: got {dtype!r}. Set it to auto, float32, bfloat16 or float16.")
        options = dict(engine_options or {})
        if max_new_tokens is None:
            # A model that is on a server only has no configuration here
            config = PreTrainedConfig() if engine == "server" else self._model_config()
            max_new_tokens = default_max_new_tokens(config)
        decoding = Decoding(
            chat=self.config.chat,
            temperature=self.config.temperature,
            do_sample=do_sample,
            top_p=top_p,
            max_new_tokens=max_new_tokens,
            malformed=malformed,
            normalize_expectation=self.config.normalize_expectation,
            truncate_prompts=truncate_prompts,
        )
        if engine == "transformers":
            return self._transformers(decoding, batch_size, dtype, options)
        if engine == "vllm":
            return VLLMEngine(
                self.name,
                self.tokenizer,
                self.space,
                decoding,
                revision=self.revision,
                # vLLM's own "auto" turns float32 weights into half precision
                dtype=str(self._model_config().dtype if dtype == "auto" else dtype).removeprefix("torch."),
                trust_remote_code=self.trust_remote_code,
                **options,
            )
        if not options.get("base_url"):
            raise ValueError(
                "engine_options: engine 'server' needs base_url, e.g. {base_url: http://localhost:8000/v1}. Set it; "
                "`vllm serve <model>` starts such a server."
            )
        options.setdefault("model", self.name)
        return ServerEngine(tokenizer=self.tokenizer, score_space=self.space, decoding=decoding, **options)

    def _transformers(
        self, decoding: Decoding, batch_size: int, dtype: str | torch.dtype, options: dict[str, Any]
    ) -> TransformersEngine:
        try:
            model = AutoModelForCausalLM.from_pretrained(
                self.name,
                revision=self.revision,
                dtype=dtype,
                trust_remote_code=self.trust_remote_code,
                **options,
            )
        except (OSError, ValueError) as error:
            raise ValueError(cannot_load(self.name, "model", error)) from error
        if not getattr(model, "is_quantized", False) and "device_map" not in options:  # else placed as it loads
            model = model.to(distributed_state().device)
        return TransformersEngine(model, self.tokenizer, self.space, decoding, batch_size=batch_size)

    def _model_config(self) -> PreTrainedConfig:
        name = self.name
        if Path(name, "adapter_config.json").is_file() and not Path(name, "config.json").is_file():
            from peft import PeftConfig

            name = PeftConfig.from_pretrained(name).base_model_name_or_path
        try:
            return AutoConfig.from_pretrained(name, revision=self.revision, trust_remote_code=self.trust_remote_code)
        except (OSError, ValueError) as error:
            raise ValueError(cannot_load(self.name, "model", error)) from error


def find_judge(
    name: str | Path,
    *,
    revision: str | None = None,
    preset: str | None = None,
    score_labels: str | list[str] | None = None,
    score_values: list[float] | None = None,
    score_marker: str | None = None,
    chat: bool | None = None,
    prompt_template: str | None = None,
    temperature: float | None = None,
    normalize_expectation: bool | None = None,
    tokenizer: str | None = None,
    trust_remote_code: bool = False,
) -> JudgeSource:
    """
    Find a judge's scale, marker and prompt. A judge that was trained here brings its own (`judge_config.json`), which may
    be repeated but not contradicted; any other causal LM needs them, or a `preset`.

    Args:
        name (`str` or `Path`):
            Local directory, or model id on the Hub.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.
        preset (`str`, *optional*):
            Scale, marker and prompt for a model without `judge_config.json`: `"prometheus"` or `"feedback_collection"`.
        score_labels, score_values, score_marker, chat (*optional*):
            Scale, marker, and whether prompts go through the chat template.
        prompt_template (`str`, *optional*):
            Name or path of the template; the judge's own by default. This one may differ from it.
        temperature (`float`, *optional*):
            Defaults to the judge's own.
        normalize_expectation (`bool`, *optional*):
            Whether the expected score is divided by the probability mass on the labels. Defaults to the judge's own choice, and to
            `True` for a model without `judge_config.json`: nobody taught it to put its mass on the labels, and the plain sum at mass
            0.6 cannot pass 6 on a scale from 1 to 10.
        tokenizer (`str`, *optional*):
            Directory or Hub id of the tokenizer, if not the judge's own (a model that is on a server only).
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Run code from the model's repository.

    Raises:
        `ValueError`: if there is no such model, if the scale or marker is not the one that the judge was trained with,
            or if none is known.
    """
    if name is None or not str(name).strip():
        raise ValueError(f"model_name_or_path: got {name!r}. Give a Hub id or a local directory.")
    name = str(Path(name).expanduser()) if str(name).startswith("~") else str(name)
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"preset: got {preset!r}. Set it to one of: {', '.join(PRESETS)}.")
    loaded = load_tokenizer(tokenizer or name, None if tokenizer else revision, trust_remote_code)
    try:
        config = JudgeConfig.load(name, revision)
    except FileNotFoundError:
        if preset is not None:
            chosen = PRESETS[preset]
            score_labels, score_marker = score_labels or chosen.score_labels, score_marker or chosen.score_marker
            prompt_template = prompt_template or chosen.prompt_template
        if score_labels is None:
            raise ValueError(
                f"score_labels: not set, and {name!r} has no {JUDGE_CONFIG_NAME}. Set the scale, e.g. score_labels: 1-5, or "
                f"a preset: {', '.join(PRESETS)}."
            ) from None
        space = ScoreSpace.from_labels(
            score_labels, loaded, marker=score_marker or DEFAULT_MARKER, values=score_values
        )
        config = JudgeConfig.from_space(space, chat=uses_chat(chat, loaded), normalize_expectation=True)
    else:
        if preset is not None:
            raise ValueError(f"preset: got {preset!r}, but {name!r} has a scale and prompt of its own. Remove preset.")
        space = config.score_space(loaded)
        stated = {
            "score_labels": None if score_labels is None else list(parse_labels(score_labels)),
            "score_values": None if score_values is None else list(score_values),
            "score_marker": score_marker,
            "chat": chat,
        }
        for field, asked in stated.items():
            own = getattr(config, field)
            if asked not in (None, own):
                raise ValueError(
                    f"{field}: got {asked!r}, but the judge {name!r} was trained with {own!r}. Leave it out."
                )
    if prompt_template is not None:
        config.use_template(load_template(prompt_template))
    if temperature is not None:
        config.temperature = temperature
    if normalize_expectation is not None:
        config.normalize_expectation = normalize_expectation
    return JudgeSource(name, revision, loaded, config, space, trust_remote_code)
