# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Metadata saved with every judge, beside its weights: `judge_config.json`."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from real_trl.engines.base import Decoding
from real_trl.evaluation.judge_calibration import Calibration
from real_trl.option_values import checked_values, shown
from real_trl.prompts.format import PromptFormat
from real_trl.prompts.template import PromptTemplate, load_template
from real_trl.scale import Scale
from real_trl.score_space import DEFAULT_MARKER, ScoreSpace
from real_trl.templates.limited import MAX_SOURCE, MAX_TEXT
from real_trl.text.json_text import to_json
from real_trl.text.redaction import holds_secret, redacted
from real_trl.text.thinking import tag_list
from real_trl.versions import package_versions
from real_trl.weights.files import read_json

JUDGE_CONFIG_NAME = "judge_config.json"
# What a judge reads. A secret in it could not be taken out without changing the judge: training refuses it
PROMPT_FIELDS = (
    "score_labels",
    "score_marker",
    "thinking",
    "system_prompt",
    "chat_template_kwargs",
    "prompt_template_text",
    "criteria",
)
_MAX_LENGTHS = {
    **dict.fromkeys(("score_marker", "prompt_template", "base_model", "method", "template_date"), 4096),
    **{"prompt_template_text": MAX_SOURCE, "system_prompt": MAX_TEXT},
}


def check_public(**fields: Any) -> None:
    """`ValueError` if something that is saved with a judge, and that it reads, holds a secret. The secret is not shown."""
    for name, value in fields.items():
        text = value if isinstance(value, str) else to_json(value, default=str)
        if holds_secret(text) or redacted({name: value}) != {name: value}:
            raise ValueError(
                f"{name}: it holds a secret ({redacted({name: value})[name]!r:.200}), which would be saved with the judge, since this is "
                "part of its prompt. Take it out."
            )


@dataclass
class JudgeConfig:
    """
    Scale, marker and prompt of a judge. It is written with every checkpoint, and read back wherever the judge is used,
    so that nobody scores with another scale than the judge was trained on.

    Args:
        score_labels (`list[str]`):
            Labels of the score space, lowest value first or as given in the recipe.
        score_marker (`str`, *optional*, defaults to `"So the overall score is "`):
            Text that precedes the score.
        chat (`bool`, *optional*, defaults to `False`):
            Whether prompts are wrapped in the tokenizer's chat template as one user message.
        system_prompt, chat_template_kwargs, template_date (*optional*):
            What else the chat template gets, see [`PromptFormat`]. No `chat_template_kwargs` at all, instead of an empty mapping: the
            judge was trained when this was not recorded, and nothing is known of either.
        prompt_template (`str`, *optional*):
            Name or path of the template that prompts were rendered with; `None` where the data held complete prompts.
        prompt_template_text (`str`, *optional*):
            The template itself, so that the judge can be used where the file is not.
        criteria (`dict[str, str]`, *optional*):
            Criterion → rubric, of a judge that was trained to score by several.
        temperature (`float`, *optional*, defaults to `1.0`):
            Temperature of the CoT and of the score distribution.
        top_p (`float`, *optional*, defaults to `1.0`):
            Nucleus of the sampled CoT in training.
        normalize_expectation (`bool`, *optional*, defaults to `False`):
            Whether the expected score is divided by the probability mass on the labels.
        rationale (`bool`, *optional*, defaults to `True`):
            Whether the judge writes a rationale before its score. A direct judge (`False`) answers with marker and score alone.
        thinking (`list[str]`, *optional*):
            Opening and closing tag of the judge's thinking, behind which its score stands; empty if it does not think. `None`: what its
            tokenizer and chat template say, see [`~real_trl.text.thinking.Thinking`].
        method (`str`, *optional*):
            How the judge was trained: `"sft"`, `"raft"`, or the reward of [`REALConfig`].
        base_model (`str`, *optional*):
            Model id or path that training started from.
        training (`dict`, *optional*):
            Seed and hyperparameters of the run.
        versions (`dict[str, str]`, *optional*):
            Package versions of the run.
        calibration (`dict`, *optional*):
            What `real-trl calibrate` has found, see [`~real_trl.evaluation.judge_calibration.Calibration`].
    """

    score_labels: list[str]
    score_values: list[float]
    score_marker: str = DEFAULT_MARKER
    chat: bool = False
    system_prompt: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    template_date: str | None = None
    prompt_template: str | None = None
    prompt_template_text: str | None = None
    criteria: dict[str, str] = field(default_factory=dict)
    temperature: float = 1.0
    top_p: float = 1.0
    normalize_expectation: bool = False
    rationale: bool = True
    thinking: list[str] | None = None
    method: str | None = None
    base_model: str | None = None
    training: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=package_versions)
    calibration: dict[str, Any] | None = None

    @classmethod
    def from_space(cls, space: ScoreSpace, **kwargs: Any) -> "JudgeConfig":
        """Configuration with the labels, values, marker and tags of thinking of `space`; `kwargs` are the other fields."""
        kwargs = {"thinking": space.thinking.stated, **kwargs}
        return cls(list(space.labels), [float(v) for v in space.values], space.marker, **kwargs)

    def score_space(self, tokenizer: Any) -> ScoreSpace:
        """The score space, resolved against `tokenizer`."""
        return ScoreSpace.from_labels(
            self.score_labels, tokenizer, marker=self.score_marker, values=self.score_values, thinking=self.thinking
        )

    def prompt_format(self) -> PromptFormat:
        """What stands around the judge's prompts."""
        return PromptFormat.of(self)

    @property
    def knows_template_arguments(self) -> bool:
        """Whether it was recorded what the chat template got in training."""
        return self.chat_template_kwargs is not None

    def use_format(self, prompt_format: PromptFormat) -> None:
        """Remember what stands around the judge's prompts."""
        for name, value in vars(prompt_format).items():
            setattr(self, name, value)

    def decoding(self, **options: Any) -> Decoding:
        """How the judge's completions are decoded, as in training but for `options`, such as `max_new_tokens`."""
        own = {name: getattr(self, name) for name in ("temperature", "top_p", "normalize_expectation", "rationale")}
        return Decoding(**vars(self.prompt_format()), **{**own, **options})

    def read_calibration(self) -> Calibration | None:
        """The judge's calibration, if it has one; `ValueError` naming the entry that is wrong with it."""
        return None if self.calibration is None else Calibration.read(self.calibration)

    def use_template(self, template: PromptTemplate | None) -> None:
        """Remember the template that prompts are rendered with."""
        self.prompt_template = None if template is None else template.name
        self.prompt_template_text = None if template is None else template.source

    def template(self) -> PromptTemplate | None:
        """The template that prompts are rendered with, or `None` if they are complete."""
        if self.prompt_template_text is not None:
            return PromptTemplate(self.prompt_template_text, self.prompt_template or "<template>")
        return load_template(self.prompt_template) if self.prompt_template else None

    def check(self) -> None:
        """`ValueError` for values that are each of the right type, and make no judge: its scale, its chat's arguments, its template."""
        for name, limit in _MAX_LENGTHS.items():
            if len(getattr(self, name) or "") > limit:
                raise ValueError(f"{name}: it has more than {limit:,} characters, the limit.")
        if not all(
            isinstance(text, str) and 0 < len(text) <= MAX_TEXT for each in self.criteria.items() for text in each
        ):
            raise ValueError(
                f"criteria: got {shown(self.criteria)}. Set it to texts of at most {MAX_TEXT:,} characters, by name."
            )
        Scale.parse(self.score_labels, self.score_values)
        tag_list(self.thinking)
        self.read_calibration()
        _ = self.prompt_format().day  # that it is one
        if self.prompt_template_text is not None:
            self.template()

    def save(self, directory: str | Path) -> None:
        """Write `judge_config.json` into `directory`, without secrets; what makes the prompt stays as it is."""
        stored = asdict(self)
        stored |= redacted({name: value for name, value in stored.items() if name not in PROMPT_FIELDS})
        text = to_json(stored, indent=2, default=str)
        Path(directory, JUDGE_CONFIG_NAME).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, name_or_path: str | Path, revision: str | None = None) -> "JudgeConfig":
        """
        Read `judge_config.json` of a judge.

        Args:
            name_or_path (`str` or `Path`):
                Local directory, or model id on the Hub.
            revision (`str`, *optional*):
                Branch, tag or commit on the Hub.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it cannot be parsed, lacks the scale, or holds an unknown field.
        """
        path = cached_file(
            str(name_or_path),
            JUDGE_CONFIG_NAME,
            revision=revision,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if path is None:
            raise FileNotFoundError(
                f"{name_or_path}: no {JUDGE_CONFIG_NAME} found. A judge trained with real_trl has this file beside its weights; for any other model, "
                "state the scale with `score_labels` and `score_marker`."
            )
        stored = read_json(path, kind=object)
        scale = ("score_labels", "score_values")
        missing = [name for name in scale if not isinstance(stored, dict) or name not in stored]
        if missing:
            raise ValueError(f"{path}: no {' and '.join(missing)}. Restore it from the judge's training output.")
        unknown = set(stored) - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(
                f"{path}: unknown fields {sorted(unknown)}. It may come from a newer real_trl: upgrade, or remove them."
            )
        text = stored.get("prompt_template_text")
        if not isinstance(text, str | None):
            raise ValueError(
                f"{path}: prompt_template_text: got {shown(text)}. Set it to text. Or restore it from the judge's training output."
            )
        try:
            config = cls(**checked_values(cls, stored))
            config.check()
            return config
        except ValueError as error:
            raise ValueError(f"{path}: {error} Or restore it from the judge's training output.") from error
