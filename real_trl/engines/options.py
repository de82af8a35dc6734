# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
A judge's options: the one definition of what may be said about a judge wherever one is used. [`Judge.from_pretrained`] and the
integrations take them as keyword arguments, `evaluate`, `score`, `self_generate`, `serve` and `demo` as options of their own
(`arguments/judging.py`, `arguments/serving.py`). A field that is added here is accepted by all of them.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

import torch

from real_trl.engines import ENGINES, MALFORMED_HANDLING
from real_trl.engines.registry import AUTO
from real_trl.option_values import FieldError, as_mapping, check_number, check_numbers
from real_trl.text.redaction import check_not_redacted
from real_trl.text.thinking import THINKING_HELP


@dataclass
class _Options:
    """What both kinds of options do."""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Options out of keyword arguments; `TypeError` naming one that is none."""
        known = [each.name for each in fields(cls)]
        for name, value in given.items():
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise TypeError(
                    f"{name}: got {value!r:.60}, but a judge has no such option here.{hint} The options are {', '.join(known)}."
                )
        return cls(**given)

    @classmethod
    def taken_from(cls, other: "_Options", **changed: Any) -> Self:
        """The fields of this class that `other`, of a subclass, has, but for those that are `changed`."""
        return cls(**{each.name: getattr(other, each.name) for each in fields(cls)} | changed)


@dataclass
class SourceOptions(_Options):
    """
    What a judge is. A judge that was trained here brings its own answers (`judge_config.json`), which may be repeated but not
    contradicted; any other causal LM needs a scale, or a `preset`. What each field is, its metadata say (`help`); of these more:

    Args:
        normalize_expectation (`bool`, *optional*):
            Divide the expected score by the probability mass on the labels. Defaults to the judge's own choice, and to `True` for
            a model without `judge_config.json`: nobody taught it to put its mass on the labels, and the plain sum at mass 0.6
            cannot pass 6 on a scale from 1 to 10.
        tokenizer (`str`, *optional*):
            Directory or Hub id of the tokenizer, for a model that is on a server only: nothing is looked for under the model's
            own name then, and a `judge_config.json` beside the tokenizer is the judge's.
        thinking (`str` or `Sequence[str]`, *optional*):
            Opening and closing tag of the judge's thinking, in a list or with a blank between them, `"none"` if it does not think; only
            what follows the thinking can hold the score. Defaults to the judge's own, else to the tags that its tokenizer or chat
            template has.

    Raises:
        `ValueError`: naming the field, if one has an impossible value.
    """

    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit on the Hub."})
    preset: str | None = field(
        default=None,
        metadata={
            "help": "Scale, marker and prompt of a model that was not trained here: prometheus, prometheus_relative, selene, selene_pairwise, "
            "flow_judge, mt_bench, mt_bench_pairwise, feedback_collection."
        },
    )
    score_labels: str | None = field(default=None, metadata={"help": "Labels. Default: the judge's own."})
    score_values: list[float] | None = field(
        default=None, metadata={"help": "Number of each label. Default: the judge's own, else the label as a number."}
    )
    score_marker: str | None = field(default=None, metadata={"help": "Marker. Default: the judge's own."})
    chat: bool | None = field(default=None, metadata={"help": "Use the chat template. Default: the judge's own."})
    system_prompt: str | None = field(
        default=None, metadata={"help": "System message of the chat template. Default: the judge's own."}
    )
    chat_template_kwargs: dict | str | None = field(
        default=None,
        metadata={"help": "Arguments of the chat template, {enable_thinking: false}. Default: the judge's own."},
    )
    prompt_template: str | None = field(
        default=None, metadata={"help": "Name or path of the prompt template. Default: the judge's own."}
    )
    temperature: float | None = field(default=None, metadata={"help": "Default: the judge's own, else 1."})
    normalize_expectation: bool | None = field(
        default=None,
        metadata={
            "help": "Divide the expected score by the mass on the labels. Default: the judge's own, else true for a model that was not "
            "trained here."
        },
    )
    rationale: bool | None = field(
        default=None,
        metadata={
            "help": "Whether a rationale is written before the score; false reads the score at once (a direct judge). Default: the judge's "
            "own, else true."
        },
    )
    tokenizer: str | None = field(
        default=None, metadata={"help": "Tokenizer, for a model that is on a server only. Default: the judge's own."}
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code from the model's repository."})
    thinking: str | None = field(default=None, metadata={"help": THINKING_HELP})

    def __post_init__(self) -> None:
        if self.temperature == 0:
            raise FieldError("temperature", 0, "Set it above 0; for greedy decoding set do_sample to false.")
        check_numbers(self)
        if self.chat_template_kwargs is not None:
            self.chat_template_kwargs = as_mapping("chat_template_kwargs", self.chat_template_kwargs)


@dataclass
class EngineOptions(_Options):
    """
    How a judge runs: what each field is, its metadata say (`help`); those of [`Decoding`] are explained there.

    Raises:
        `ValueError`: naming the field, if one has an impossible value.
    """

    # What `malformed` may be. Stages that make something else of such completions say what
    malformed_handling: ClassVar[tuple[str, ...]] = MALFORMED_HANDLING

    engine: str = field(
        default="transformers", metadata={"help": f"What generates: {', '.join(f'`{name}`' for name in ENGINES)}."}
    )
    engine_options: dict | str | None = field(
        default=None,
        metadata={
            "help": "Further settings of the engine, e.g. {base_url: http://localhost:8000/v1}: keyword arguments of its class, or "
            "(transformers) of from_pretrained."
        },
    )
    dtype: str = field(default="auto", metadata={"help": "Type of the weights. Default: as saved."})
    do_sample: bool = field(default=True, metadata={"help": "Sample the rationale; false decodes greedily."})
    top_p: float | None = field(
        default=None,
        metadata={"help": "Nucleus of the sampled rationale. Default: that of the judge's training, else 1."},
    )
    max_new_tokens: int | None = field(
        default=None, metadata={"help": "Longest completion. Default: 1024, or half of a shorter context."}
    )
    malformed: str = field(default="force", metadata={"help": "Completions without a score: `force` or `drop`."})
    truncate_prompts: bool = field(
        default=False, metadata={"help": "Cut the beginning of prompts that are too long, instead of refusing them."}
    )
    # `str` before `None`: the command line takes text, a recipe text or a number
    batch_size: int | str | None = field(
        default=8,
        metadata={
            "help": "Prompts per generation batch and process; auto: as many as fit the memory of the GPU, found by trying."
        },
    )
    device: str | None = field(
        default=None,
        metadata={"help": "Where the model runs: cpu, cuda:1, mps. Default: the accelerator, where there is one."},
    )

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.engine not in ENGINES:
            raise FieldError("engine", self.engine, f"Set it to one of: {', '.join(ENGINES)}.")
        if self.malformed not in self.malformed_handling:
            raise FieldError("malformed", self.malformed, f"Set it to one of: {', '.join(self.malformed_handling)}.")
        self.engine_options = as_mapping("engine_options", self.engine_options)
        check_not_redacted("engine_options", self.engine_options)
        self.batch_size = _batch_size(self.batch_size)
        if self.device is not None:
            self._check_device(self.device)
        known = self.dtype == "auto" or isinstance(getattr(torch, str(self.dtype), None), torch.dtype)
        if not known and not isinstance(self.dtype, torch.dtype):
            raise FieldError("dtype", self.dtype, "Set it to auto, float32, bfloat16 or float16.")

    def _check_device(self, device: str) -> None:
        if ENGINES[self.engine].weights != "transformers":
            said = f": got {device!r}, and the engine {self.engine!r} says itself where the model runs"
            raise FieldError("device", device, "Remove it; for vllm set CUDA_VISIBLE_DEVICES.", said)
        if "device_map" in as_mapping("engine_options", self.engine_options):
            said = f": got {device!r} beside device_map in engine_options"
            raise FieldError("device", device, "Remove one of the two.", said)
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            said = f": got {device!r}, which is not to be had here ({str(error).splitlines()[0]})"
            raise FieldError("device", device, "Set it to cpu, or leave it out.", said) from error


def _batch_size(value: Any) -> int | str:
    """A number, or `"auto"`; `FieldError` if it is neither."""
    if value == AUTO:
        return AUTO
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        raise FieldError("batch_size", value, "Set it to a whole number, 1 or more, or to auto.") from None
    check_number("batch_size", number, int)
    return number


@dataclass
class JudgeOptions(SourceOptions, EngineOptions):
    """All options of a judge: those of [`SourceOptions`], which say what it is, and of [`EngineOptions`], how it runs."""

    def __post_init__(self) -> None:
        SourceOptions.__post_init__(self)
        EngineOptions.__post_init__(self)
