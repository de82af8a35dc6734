# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From a name to a judge: first its scale and prompt, which cost nothing, so that data can be checked; then its weights."""

import inspect
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.peft_utils import find_adapter_config_file

from real_trl.engines import ENGINES, Engine
from real_trl.engines.options import EngineOptions, SourceOptions
from real_trl.judge_config import JUDGE_CONFIG_NAME, JudgeConfig
from real_trl.option_values import FieldError, shown
from real_trl.prompts.context_length import default_max_new_tokens
from real_trl.prompts.format import PromptFormat
from real_trl.prompts.template import load_template
from real_trl.scale import parse_labels
from real_trl.score_space import DEFAULT_MARKER, ScoreSpace
from real_trl.text.thinking import tag_list
from real_trl.weights.files import check_weights
from real_trl.weights.pretrained import load_tokenizer, loading, uses_chat

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class JudgePreset:
    """
    Scale, marker and prompt of judges that were not trained here.

    Attributes:
        score_labels (`str`): The labels.
        score_marker (`str`): What precedes the score.
        prompt_template (`str`): Name of the built-in template.
        score_values (`tuple[float, ...]`, *optional*): The number of each label. Defaults to the label read as a number.
        system_prompt (`str`, *optional*): System message of the chat template.
        top_p (`float`, *optional*, defaults to `1.0`): Nucleus of the rationale, where the authors sample it at temperature 1. Other
            temperatures of theirs are left out: the score distribution is read at the temperature of the rationale.
    """

    score_labels: str
    score_marker: str
    prompt_template: str
    score_values: tuple[float, ...] | None = None
    system_prompt: str | None = None
    top_p: float = 1.0


# What judges that were trained before do not say about themselves
_UNRECORDED = ("system_prompt", "chat_template_kwargs")

_MT_BENCH_PAIRS = (
    "Please act as an impartial judge and evaluate the quality of the responses provided by two AI assistants to the user question displayed "
    "below. You should choose the assistant that follows the user's instructions and answers the user's question better. Your evaluation "
    "should consider factors such as the helpfulness, relevance, accuracy, depth, creativity, and level of detail of their responses. Begin "
    "your evaluation by comparing the two responses and provide a short explanation. Avoid any positional biases and ensure that the order in "
    "which the responses were presented does not influence your decision. Do not allow the length of the responses to influence your "
    "evaluation. Do not favor certain names of the assistants. Be as objective as possible. After providing your explanation, output your "
    'final verdict by strictly following this format: "[[A]]" if assistant A is better, "[[B]]" if assistant B is better, and "[[C]]" for a tie.'
)

# A judge of two responses says A or B of a row with `response_a` and `response_b`; its expected score is the probability that A is better
PRESETS = {
    # Kim et al., Prometheus 2 (arXiv 2405.01535), as their package prometheus-eval asks it: "… [RESULT] 4", "… [RESULT] A"
    "prometheus": JudgePreset("1-5", "[RESULT] ", "prometheus_absolute", top_p=0.9),
    "prometheus_relative": JudgePreset("B,A", "[RESULT] ", "prometheus_relative", (0, 1), top_p=0.9),
    # Alexandru et al., Atla Selene Mini (arXiv 2501.17195): "**Reasoning:** … **Result:** 4"
    "selene": JudgePreset("1-5", "**Result:** ", "selene"),
    "selene_pairwise": JudgePreset("B,A", "**Result:** ", "selene_pairwise", (0, 1)),
    # Flow-Judge-v0.1, as the package flow-judge asks it: "<feedback> … </feedback> <score> 4 </score>"; the scale is that of the rubric
    "flow_judge": JudgePreset("1-5", "<score>\n", "flow_judge"),
    # Zheng et al., MT-Bench (arXiv 2306.05685), for any chat model: "Rating: [[8]]", "[[A]]", with [[C]] for a tie
    "mt_bench": JudgePreset("1-10", "[[", "mt_bench", system_prompt="You are a helpful assistant."),
    "mt_bench_pairwise": JudgePreset("B,C,A", "[[", "mt_bench_pairwise", (0, 0.5, 1), _MT_BENCH_PAIRS),
    # The prompt of Prometheus' training data with the score sentence of TRACT and REAL, for any instruction-tuned model
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

    def load_engine(self, options: EngineOptions | None = None, /, **given: Any) -> Engine:
        """
        Load the weights into an engine.

        Args:
            given:
                Instead of `options`, its fields as keyword arguments.

        Raises:
            `ValueError`: if an option is impossible or does not fit the engine, or the model cannot be loaded.
        """
        asked = options or EngineOptions.of(given)
        try:
            return self._load(asked)
        except (TypeError, AttributeError, LookupError, NotImplementedError) as error:
            takes = inspect.signature(ENGINES[asked.engine].load_class()).parameters.values()
            needed = {each.name for each in takes if each.kind is each.KEYWORD_ONLY and each.default is each.empty}
            missing = ", ".join(needed - asked.engine_options.keys())
            if not (missing or asked.engine_options):
                raise
            said = f": got {shown(dict(asked.engine_options))}, which the engine {asked.engine!r} does not take ({type(error).__name__}: {error})"
            fix = f"Set {missing}." if missing else "Correct or remove what it is about."
            raise FieldError("engine_options", dict(asked.engine_options), fix, said) from error

    def _load(self, asked: EngineOptions) -> Engine:
        entry, max_new_tokens = ENGINES[asked.engine], asked.max_new_tokens
        is_here = entry.weights != "elsewhere"
        if is_here and "gguf_file" not in asked.engine_options:
            with loading(self.name, "model"):
                check_weights(self.name)
        if max_new_tokens is None:
            # A model that is on a server only has no configuration here
            max_new_tokens = default_max_new_tokens(self.model_config() if is_here else PreTrainedConfig())
        decoding = self.config.decoding(
            do_sample=asked.do_sample and self.config.rationale,
            top_p=self.config.top_p if asked.top_p is None else asked.top_p,
            max_new_tokens=max_new_tokens,
            malformed=asked.malformed,
            truncate_prompts=asked.truncate_prompts,
        )
        return entry.load_class().from_source(self, asked, decoding, **asked.engine_options)

    def load_weights(self, **options: Any) -> PreTrainedModel:
        """The weights in Transformers, with `options` of `from_pretrained`; `ValueError` if they cannot be loaded."""
        with loading(self.name, "model"):
            return self._load_weights(trust_remote_code=self.trust_remote_code, **options)

    def _load_weights(self, **options: Any) -> PreTrainedModel:
        if find_adapter_config_file(self.name, revision=self.revision) is not None:
            from peft import PeftConfig, PeftModel

            adapter = PeftConfig.from_pretrained(self.name, revision=self.revision)
            if getattr(adapter, "trainable_token_indices", None):  # of which Transformers' own loading loses some
                base = AutoModelForCausalLM.from_pretrained(
                    adapter.base_model_name_or_path, revision=adapter.revision, **options
                )
                return PeftModel.from_pretrained(base, self.name, revision=self.revision).get_base_model()
        return AutoModelForCausalLM.from_pretrained(self.name, revision=self.revision, **options)

    def model_config(self) -> PreTrainedConfig:
        """The model's configuration; of an adapter, that of the model it is for."""
        name = self.name
        with loading(self.name, "model"):
            if Path(name, "adapter_config.json").is_file() and not Path(name, "config.json").is_file():
                from peft import PeftConfig

                name = PeftConfig.from_pretrained(name).base_model_name_or_path
            return AutoConfig.from_pretrained(name, revision=self.revision, trust_remote_code=self.trust_remote_code)


def find_judge(name: str | Path, options: SourceOptions | None = None, /, **given: Any) -> JudgeSource:
    """
    Find a judge's scale, marker and prompt. A judge that was trained here brings its own (`judge_config.json`), which may
    be repeated but not contradicted; any other causal LM needs them, or a `preset`.

    Args:
        name (`str` or `Path`):
            Local directory, or model id on the Hub; with a `tokenizer`, the name of a model that is on a server only.
        options ([`SourceOptions`], *optional*):
            What is said about the judge.
        given:
            Instead of `options`, its fields as keyword arguments.

    Raises:
        `ValueError`: if there is no such model, if the scale or marker is not the one that the judge was trained with,
            or if none is known.
    """
    if name is None or not str(name).strip():
        raise FieldError("model", name, "Give a Hub id or a local directory.")
    name = str(Path(name).expanduser()) if str(name).startswith("~") else str(name)
    asked = options or SourceOptions.of(given)
    if asked.preset is not None and asked.preset not in PRESETS:
        raise FieldError("preset", asked.preset, f"Set it to one of: {', '.join(PRESETS)}.")
    tokenizer = load_tokenizer(
        asked.tokenizer or name, None if asked.tokenizer else asked.revision, asked.trust_remote_code
    )
    config = _own_config(name, asked)
    if config is None:
        config, space = _stated_config(name, asked, tokenizer)
    else:
        _check_not_contradicted(name, asked, config)
        if not config.knows_template_arguments:
            said = {name: getattr(asked, name) for name in _UNRECORDED if getattr(asked, name) is not None}
            if said:
                config.use_format(replace(config.prompt_format(), **said))
        if config.thinking is None:
            config.thinking = tag_list(asked.thinking)
        space = config.score_space(tokenizer)
        config.thinking = space.thinking.stated
    if asked.prompt_template is not None:
        config.use_template(load_template(asked.prompt_template))
    if asked.temperature is not None:
        config.temperature = asked.temperature
    if asked.normalize_expectation is not None:
        config.normalize_expectation = asked.normalize_expectation
    read_at = (config.calibration or {}).get("made_with", {}).get("temperature", config.temperature)
    if read_at != config.temperature:
        logger.warning(
            "%s: its calibration is of distributions at temperature %s and not at %s: it is left out. Calibrate again (real-trl calibrate).",
            *(name, read_at, config.temperature),
        )
        config.calibration = None
    return JudgeSource(name, asked.revision, tokenizer, config, space, asked.trust_remote_code)


def _own_config(name: str, asked: SourceOptions) -> JudgeConfig | None:
    """
    What the judge says about itself, if it does. With a tokenizer of its own it is on a server only, whose name for it need be
    no directory and no model on the Hub (which would be asked for it, for a while without a network): then, what is found where
    the tokenizer is.
    """
    on_a_server = asked.tokenizer is not None and not Path(name).is_dir()
    try:
        return JudgeConfig.load(*((asked.tokenizer, None) if on_a_server else (name, asked.revision)))
    except FileNotFoundError:
        return None


def _stated_config(
    name: str, asked: SourceOptions, tokenizer: PreTrainedTokenizerBase
) -> tuple[JudgeConfig, ScoreSpace]:
    """What is said about a model that says nothing itself."""
    preset = PRESETS.get(asked.preset) if asked.preset is not None else None
    labels = asked.score_labels or (preset and preset.score_labels)
    if not labels:
        raise ValueError(
            f"score_labels: not set, and {name!r} has no {JUDGE_CONFIG_NAME}. Set the scale, e.g. score_labels: 1-5, or "
            f"a preset: {', '.join(PRESETS)}."
        )
    marker = asked.score_marker or (preset and preset.score_marker) or DEFAULT_MARKER
    values, chat, system_prompt = asked.score_values, uses_chat(asked.chat, tokenizer), asked.system_prompt
    if values is None and preset is not None and asked.score_labels is None:
        values = preset.score_values
    if system_prompt is None and preset is not None and preset.system_prompt is not None:
        system_prompt = preset.system_prompt
        if not chat:
            said = f"={asked.preset!r} comes with a system prompt, and prompts do not go through a chat template"
            raise FieldError("preset", asked.preset, "Use a chat model, and leave chat out.", said)
    space = ScoreSpace.from_labels(labels, tokenizer, marker=marker, values=values, thinking=asked.thinking)
    prompt_format = PromptFormat(chat, system_prompt, asked.chat_template_kwargs or {})
    config = JudgeConfig.from_space(
        space, **vars(prompt_format), normalize_expectation=True, rationale=asked.rationale is not False
    )
    if preset is not None:
        config.use_template(load_template(preset.prompt_template))
        config.top_p = preset.top_p
    return config, space


def _check_not_contradicted(name: str, asked: SourceOptions, config: JudgeConfig) -> None:
    """`ValueError` if something else is said than the judge was trained with."""
    if asked.preset is not None:
        said = f": got {asked.preset!r}, but {name!r} has a scale and prompt of its own"
        raise FieldError("preset", asked.preset, "Remove preset.", said)
    stated = {
        "score_labels": None if asked.score_labels is None else list(parse_labels(asked.score_labels)),
        "score_values": None if asked.score_values is None else list(asked.score_values),
        "score_marker": asked.score_marker,
        "chat": asked.chat,
        "rationale": asked.rationale,
        "thinking": None if config.thinking is None else tag_list(asked.thinking),
        **({name: getattr(asked, name) for name in _UNRECORDED} if config.knows_template_arguments else {}),
    }
    for field, value in stated.items():
        own = getattr(config, field)
        if value not in (None, own):
            said = f": got {value!r}, but the judge {name!r} was trained with {own!r}"
            raise FieldError(field, value, "Leave it out.", said)
