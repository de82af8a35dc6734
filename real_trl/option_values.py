# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Which values the fields of recipes and options can have: the one place for all of them, TRL's and Transformers' included. A comparison
lets NaN through, and a recipe gives a field whatever YAML makes of it; neither may get as far as the weights.
"""

import dataclasses
import json
import math
import reprlib
from collections.abc import Mapping
from datetime import date
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, Union, get_args, get_origin, get_type_hints

import yaml

from real_trl.text.redaction import redacted, yaml_fault
from real_trl.text.yaml_text import DuplicateKeyError, is_pairs, read_json_or_yaml, read_pairs

_LARGEST = 2**53  # of an integer; 2^53 + 1 is no longer a float
# What fields may be beside their type, which has only what a command line can say
_ALSO = {"score_labels": list, "thinking": list, "judges": list, "resume_from_checkpoint": bool}

# The type of a field that is a mapping: what a command line can say of one, and for a type checker what `as_mapping` has made of it
# before anything reads the field
if TYPE_CHECKING:
    MappingOption: TypeAlias = dict[str, Any]
else:
    MappingOption = dict | str | None


class Range(NamedTuple):
    """From `low` to `high`; `above` and `below` leave the bound itself out. `also` is a value with a meaning of its own."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False
    also: float | None = None
    meaning: str = ""

    def holds(self, value: float) -> bool:
        """Whether `value` is one of them; NaN is none."""
        above = value > self.low if self.above else value >= self.low
        below = value < self.high if self.below else value <= self.high
        return (above and below) or value == self.also

    def fix(self) -> str:
        """What to set the field to."""
        if self.high == math.inf:
            text = f"Set it above {self.low:g}" if self.above else f"Set it to {self.low:g} or more"
        else:
            low = f"above {self.low:g}" if self.above else f"to at least {self.low:g}"
            text = f"Set it {low} and " + (f"below {self.high:.0f}" if self.below else f"to at most {self.high:.0f}")
        return f"{text}, or to {self.also:g}{self.meaning}." if self.also is not None else f"{text}."


_POSITIVE, _FROM_0, _FROM_1, _SHARE = Range(0, above=True), Range(0), Range(1), Range(0, 1)
_RANGES = {
    name: bounds
    for names, bounds in (
        # A rate of 1e20 makes every weight infinite in one step; nothing learns from a rate above 10
        ("learning_rate weight_decay", Range(0, 10)),
        ("max_grad_norm adam_epsilon neftune_noise_alpha router_aux_loss_coef warmup_steps eval_delay", _FROM_0),
        ("adam_beta1 adam_beta2 lora_dropout label_smoothing_factor", Range(0, 1, below=True)),
        ("max_steps", Range(1, also=-1, meaning=", which leaves it to num_train_epochs")),
        ("num_train_epochs vllm_server_timeout", _POSITIVE),
        ("logging_steps eval_steps save_steps", _POSITIVE),
        ("per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps batch_size", _FROM_1),
        ("num_iterations steps_per_generation generation_batch_size num_generations_eval num_samples", _FROM_1),
        ("max_completion_length max_length max_new_tokens vllm_max_model_length vllm_tensor_parallel_size", _FROM_1),
        ("lora_r lora_alpha ref_model_sync_steps group_filter_rounds dataset_num_proc ddp_timeout", _FROM_1),
        ("dataloader_prefetch_factor torch_empty_cache_steps eval_accumulation_steps ddp_bucket_cap_mb", _FROM_1),
        ("judge_eval_steps judge_eval_rows judge_eval_max_new_tokens num_completions_to_print", _FROM_1),
        ("max_body_bytes max_rows max_waiting max_prompt_bytes max_held_bytes max_connections", _FROM_1),
        ("request_timeout body_timeout vllm_importance_sampling_clip_max", _POSITIVE),
        ("shutdown_timeout dataloader_num_workers save_total_limit", _FROM_0),
        ("top_k", Range(-1)),
        ("max_steps_without_signal", Range(1, also=0, meaning=" to go on whatever happens")),
        ("temperature repetition_penalty", Range(0, 1000, above=True)),
        ("top_p vllm_gpu_memory_utilization", Range(0, 1, above=True)),
        ("min_p ref_model_mixup_alpha preflight_scored_rate", _SHARE),
        ("epsilon epsilon_high beta advantage_eps", _FROM_0),
        ("log_likelihood_weight prediction_weight regression_weight", _FROM_0),
        ("advantage_clip max_distance target_sigma", _POSITIVE),
        ("holdout_fraction coverage", Range(0, 1, above=True, below=True)),
        ("seed data_seed holdout_seed", Range(0, 2**32 - 1)),  # what NumPy takes
        ("port vllm_server_port vllm_group_port", Range(0, 65535)),
    )
    for name in names.split()
}


class FieldError(ValueError):
    """
    What is wrong with a field, and how to mend it: `"<field>: got <value>. <fix>"`. Code that has to know which field it was asks the
    attributes; the text is for people.

    Args:
        field (`str`):
            Its name.
        value (`Any`):
            What it was set to; `None` if it was not.
        fix (`str`):
            What to do: a sentence or more.
        said (`str`, *optional*):
            What stands between the two, with the sign after the field. Defaults to `": got <value>"`, or `": not set"`.
    """

    def __init__(self, field: str, value: Any, fix: str, said: str | None = None) -> None:
        super().__init__(field, value, fix, said)  # what a pickle makes it of
        self.field, self.value, self.fix = field, value, fix
        self.said = said or (": not set" if value is None else f": got {shown(value)}")

    def __str__(self) -> str:
        return f"{self.field}{self.said}. {self.fix}"


def shown(value: Any) -> str:
    """A value for a message, however large or deep it is. What is cut has no secret: a part of one would not be known as such."""
    try:
        return reprlib.repr(redacted(value))
    except ValueError:  # an integer of more digits than Python writes
        return "a number of thousands of digits"


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def check_number(name: str, value: Any, kind: type = float) -> None:
    """
    Check the value of a numeric field.

    Args:
        name (`str`):
            The field; its range is looked up by it.
        value:
            What it was set to.
        kind (`type`, *optional*, defaults to `float`):
            `int` or `float`.

    Raises:
        ValueError: naming field, value and fix, if it is no finite number of that kind, or out of the field's range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        what = "one whole number" if kind is int else "one number"
        raise FieldError(name, value, f"Set it to {what}.")
    bounds = _RANGES.get(name, Range())
    if kind is int and not isinstance(value, int):
        raise FieldError(name, value, "Set it to a whole number.")
    finite = abs(value) <= _LARGEST if isinstance(value, int) else math.isfinite(value)
    if not finite:
        fix = bounds.fix() if name in _RANGES else "Set it to a finite number that is not as large."
        raise FieldError(name, value, fix)
    if not bounds.holds(value):
        raise FieldError(name, value, bounds.fix())


def check_numbers(config: Any) -> None:
    """`ValueError`, as of [`check_number`], for the first numeric field of a dataclass with an impossible value. `None` is left alone."""
    for field in dataclasses.fields(config):
        members = set(_members(_hints(type(config))[field.name])) - {NoneType}
        value = getattr(config, field.name)
        if value is not None and members and members <= {int, float}:
            check_number(field.name, value, float if float in members else int)


def checked(cls: type, field: dataclasses.Field, value: Any) -> Any:
    """
    The value that a field of the dataclass `cls` gets, of what a recipe or a command line says: texts where YAML made numbers of
    them, and one text where a list of texts is asked for, are what was meant.

    Raises:
        ValueError: naming field, value and fix, if it is not of the field's type or range, or none of its choices.
    """
    name, members = field.name, _members(_hints(cls)[field.name])
    _check_within(name, value)
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    if value is default or (type(value) is type(default) and value == default):
        return value
    if value is None:
        if NoneType in members:
            return None
        raise FieldError(name, None, "Set it to a value, or leave it out.", ": got null")
    if name in _ALSO and isinstance(value, _ALSO[name]) and str in members:
        return value
    choices = _choices(field, members)
    if choices is not None:
        plain = value.value if isinstance(value, Enum) else value
        if isinstance(plain, bool) and plain not in choices:
            said = f": got {plain}, which YAML makes of yes, no, on and off"
            raise FieldError(name, plain, "Put it in quotes.", said)
        if not any(type(plain) is type(choice) and plain == choice for choice in choices):
            raise FieldError(name, plain, f"Set it to one of: {', '.join(map(str, choices))}.")
        return value
    kinds = {get_origin(member) or member for member in members} - {NoneType}
    if Any in kinds:
        return value
    if kinds <= {int, float}:
        check_number(name, value, float if float in kinds else int)
        return value
    if isinstance(value, bool):
        if bool in kinds:
            return value
    elif isinstance(value, dict):
        if dict in kinds:
            return value
    elif isinstance(value, list | tuple):
        for member in members:
            if get_origin(member) in (list, tuple):
                return _checked_list(name, get_args(member), value)
        if list in kinds:
            return list(value)
    elif isinstance(value, str):
        if dict in kinds and value.lstrip().startswith("{"):
            return as_mapping(name, value)
        if str in kinds:
            return value
        if list in kinds and any(str in get_args(member) for member in members):
            return [value]
    elif isinstance(value, int | float):
        if kinds & {int, float}:
            check_number(name, value, float if float in kinds else int)
            return value
        if str in kinds:
            check_number(name, value)
            return str(value)
    elif type(value) is date and str in kinds:  # YAML makes one of 2026-11-29
        return value.isoformat()
    wanted = {str: "text", bool: "true or false", dict: "a mapping", list: "a list", tuple: "a list"}
    names = [text for kind, text in wanted.items() if kind in kinds] or ["a value of another type"]
    raise FieldError(name, value, f"Set it to {' or '.join(dict.fromkeys(names))}.")


def _check_within(name: str, value: Any) -> None:
    """No number in a mapping, however deep, or in `optim_args`, is NaN or infinite, and every key is a text, or within it a whole number."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return  # said where it is read
    if name == "optim_args" and isinstance(value, str):
        value = dict(part.partition("=")[::2] for part in value.split(","))
        value = {key.strip(): _as_float(text) for key, text in value.items()}
    if not isinstance(value, Mapping):
        return
    todo = [(f"{name}.{shown(key)[:40].strip(chr(39))}", (str,), key, each) for key, each in value.items()]
    while todo:
        place, kinds, key, each = todo.pop()
        if type(key) not in kinds:
            raise ValueError(f"{name}: got the key {shown(key)}. Set it to a mapping whose keys are texts.")
        if isinstance(each, float | int) and not isinstance(each, bool):
            check_number(place, each)
        elif isinstance(each, Mapping):
            todo += [(f"{place}.{shown(k)[:40].strip(chr(39))}", (str, int), k, v) for k, v in each.items()]
        elif isinstance(each, list | tuple):
            todo += [(place, (str,), "", v) for v in each]


def _as_float(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _choices(field: dataclasses.Field, members: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """What a field can be, if that is a list."""
    for member in members:
        if get_origin(member) is Literal:
            return get_args(member)
        if isinstance(member, type) and issubclass(member, Enum):
            return tuple(each.value for each in member)
    choices = field.metadata.get("choices")
    return None if choices is None else tuple(choices)


def _checked_list(name: str, kinds: tuple[Any, ...], values: list | tuple) -> list:
    kind = kinds[0] if kinds else Any
    found = []
    for value in values:
        if kind in (int, float):
            check_number(name, value, kind)
        elif kind is str and type(value) is date:
            value = value.isoformat()
        elif kind is str and not isinstance(value, str):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise FieldError(name, value, "Set it to a list of texts.", f": got {shown(value)} in its list")
            value = str(value)
        found.append(value)
    return found


def checked_values(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `cls` that are among `values`, each as of [`checked`]."""
    return {
        field.name: checked(cls, field, values[field.name])
        for field in dataclasses.fields(cls)
        if field.name in values
    }


def mapping_option(text: str) -> Any:
    """A field of a dataclass with the type `MappingOption`, and with `text` as its help."""
    return dataclasses.field(default=None, metadata={"help": text})


def as_mapping(name: str, value: Mapping | str | None) -> dict[str, Any]:
    """Reads a field that holds a mapping; text, as on the command line, is YAML or JSON, or `name=value,name=value`."""
    if isinstance(value, str):
        try:
            value = read_pairs(value) if is_pairs(value) else read_json_or_yaml(value)
        except DuplicateKeyError as error:
            raise FieldError(name, value, str(error)) from None
        # Not YAML, or nested too deep, or a number of thousands of digits
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise FieldError(name, value, f"Give a mapping, {{name: value}} ({yaml_fault(error)}).") from error
    if value is not None and not isinstance(value, Mapping):
        raise FieldError(name, value, f"Give a mapping, not a {type(value).__name__}.")
    _check_within(name, value)
    return dict(value or {})
