# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Takes secrets out of what is written: settings (provenance, manifests, reports, pickled arguments, trackers), messages and logs.

A secret is known by the name that it has (`token`, `api_key`, `headers`, …), by its form (`hf_…`, `Bearer …`, `user:password@host`, …),
or as the value of an environment variable with such a name. Rows of data are the user's own and are not touched.
"""

import base64
import binascii
import copy
import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import get_token

from real_trl.json_text import to_json

REDACTED = "[redacted]"
"""What stands in the place of a secret."""

_LEAST = 8  # characters of a value that is looked for in texts: shorter ones are parts of words
_FORMS = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:hf|api_org|gh[pousr]|npm|gsk|r8|sk_live|sk_test|rk_live|rk_test|dop_v1|shpat)_[A-Za-z0-9]{16,}|github_pat_\w{16,}"
    r"|sk-(?:[\w-]*[A-Za-z0-9]{16}[\w-]*|(?=[\w-]*\d)[\w-]{16,})"
    r"|(?:glpat|pypi|pplx|xai|tvly|nvapi|xox[a-z]|xapp)-(?=[\w-]*\d)[\w-]{10,}"
    r"|(?:AKIA|ASIA|AROA|AIDA|AGPA)[A-Z0-9]{12,}|AIza[\w-]{30,}|SG\.[\w-]{16,}\.[\w-]{16,}"
    r"|eyJ[\w-]{5,}=*\.eyJ[\w-]{5,}=*(?:\.[\w-]*)?"
    r")|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
_SCHEME = re.compile(r"\b(Bearer|Basic)(\s+)([\w.~+/=-]{8,})", re.IGNORECASE)
# Up to the last @ of the word; a port is no password
_USER_INFO = re.compile(r"://[^\s/:@\"'<>]*:(?!\d+(?:[/?#]|\b(?![^\s/]*@)))[^\s\"'<>]*@")
_ASSIGNED = re.compile(r"(?<![\w.-])(-{0,2})([A-Za-z][\w.%-]{0,63})=([^\s&;,\"'<>(){}]+)")
_QUERY = re.compile(r"(?<=[?&])" + _ASSIGNED.pattern)
_QUOTED = re.compile(r"""(["'])([A-Za-z][\w.-]{0,63})\1(\s*:\s*)(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')""")
_STANDS_FOR_ONE = re.compile(r"(?:^|:\s*[\"'])(?:\w+ )?\[redacted\](?:$|[\"'])|(?:://|[?&;])[^\s\"']*\[redacted\]")

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_ALWAYS = {
    "secret",
    "secrets",
    "password",
    "passwords",
    "passwd",
    "passphrase",
    "pwd",
    "credential",
    "credentials",
    "apikey",
}
_ALWAYS |= {"authorization", "sas", "cookie", "cookies", "accesskey", "secretkey", "authtoken"}
_AT_THE_END = {"auth", "bearer", "sig", "signature", "pat", "jwt", "headers", "header"}
_TOGETHER = {
    "api key",
    "access key",
    "private key",
    "account key",
    "shared key",
    "connection string",
    "storage options",
    "x amz",
}
_TEXT_TOKENS = set(
    [
        "pad",
        "eos",
        "bos",
        "unk",
        "mask",
        "cls",
        "sep",
        "image",
        "video",
        "audio",
        "special",
        "stop",
        "start",
        "end",
        "begin",
        "text",
        "score",
        "label",
        "next",
        "prev",
        "previous",
        "last",
        "first",
        "per",
        "max",
        "min",
        "num",
        "n",
        "sample",
        "total",
        "additional",
        "extra",
        "decoder",
        "encoder",
        "forced",
        "thinking",
        "think",
        "tool",
        "call",
        "response",
        "prefix",
        "suffix",
        "middle",
        "fim",
        "system",
        "assistant",
        "turn",
        "of",
        "message",
        "new",
        "one",
        "single",
        "target",
    ]
)
_NO_SECRET_KEYS = set(
    [
        "column",
        "group",
        "sort",
        "primary",
        "foreign",
        "partition",
        "index",
        "json",
        "join",
        "answer",
        "row",
        "id",
        "question",
        "item",
        "order",
        "public",
        "metric",
        "dict",
        "map",
        "dedup",
        "cache",
        "label",
        "hot",
    ]
)
# What only describes a secret, or counts it: `key_column`, `token_count`, `api_key_env`
_ABOUT = set(
    [
        "column",
        "columns",
        "name",
        "names",
        "field",
        "fields",
        "type",
        "types",
        "count",
        "counts",
        "length",
        "id",
        "ids",
        "env",
        "variable",
        "limit",
        "size",
        "text",
        "budget",
        "form",
        "file",
        "path",
        "filename",
    ]
)
# The keys of these are names that the user gives to other things
_OWN_NAMES = {"columns", "prompt_replace", "judges", "benchmark_paths"}

_remembered: set[str] = set()


@lru_cache(4096)
def is_secret_name(name: str) -> bool:
    """Whether what is called `name` (`hub_token`, `X-Api-Key`, `storage_options`) is a secret. `max_tokens`, `pad_token` and `key_column` are none."""
    if len(name) > 64 or any(character.isspace() for character in name):
        return False
    words = [word.lower() for word in _WORDS.findall(name)]
    if not words:
        return False
    joined, last = " ".join(words), words[-1]
    if last in _ABOUT and joined != "aws access key id" and not (last == "text" and len(words) == 1):
        return False
    if _ALWAYS.intersection(words) or any(f" {pair} " in f" {joined} " for pair in _TOGETHER):
        return True
    if last in ("token", "key", "tokens"):
        before = words[-2] if len(words) > 1 else ""
        return last != "tokens" and before not in (_TEXT_TOKENS if last == "token" else _NO_SECRET_KEYS)
    return last in _AT_THE_END


def known_secrets(*more: str | None) -> list[str]:
    """
    The secrets of this process, the longest first: `more`, the login of the Hub, what the environment has under the name of a secret,
    and what recipes had ([`remember`]). Of the last two, those of at least 8 characters.
    """
    found = {value for name, value in os.environ.items() if len(value.strip()) >= _LEAST and is_secret_name(name)}
    found |= {value for value in (get_token(), *more) if value and value.strip()} | _remembered
    return sorted({value.strip() for value in found}, key=len, reverse=True)


def redact_text(text: object, *more: str | None) -> str:
    """`text` with [`REDACTED`] in the place of every secret: those of this process, `more`, and what has a secret's form or name."""
    return _text(str(text), known_secrets(*more))


def redacted(value: Any, *more: str | None) -> Any:
    """
    A copy of `value`, settings of any depth (mappings, sequences, dataclasses, texts), with [`REDACTED`] in the place of every
    secret. Anything else in it stays as it is. Redacting again changes nothing.
    """
    return _walk(value, known_secrets(*more), False, [])


def redact_command(arguments: Sequence[str]) -> list[str]:
    """A command line without secrets, also in options whose values are mappings."""
    known = known_secrets()
    shown = _walk(list(arguments), known, False, [])
    for place, argument in enumerate(shown):
        option, sign, mapping = ("", "", argument) if argument.startswith("{") else argument.partition("=")
        try:
            value = yaml.safe_load(mapping) if mapping.startswith("{") else None
        except (yaml.YAMLError, ValueError, RecursionError):
            continue
        without = _walk(value, known, is_secret_name(option or shown[place - 1].lstrip("-")), [])
        if isinstance(value, dict) and without != value:
            shown[place] = option + sign + to_json(without, default=str)
    return shown


def remember(settings: Any) -> None:
    """From now on, the secrets that `settings` name as such are known wherever else they turn up."""
    found: list[str] = []
    _walk(settings, [], False, found)
    for argument in settings if isinstance(settings, list) else ():
        mapping = argument[argument.find("{") :] if isinstance(argument, str) and "{" in argument else ""
        try:
            _walk(yaml.safe_load(mapping), [], False, found)
        except (yaml.YAMLError, ValueError, RecursionError):
            continue
    _remembered.update(value for value in found if len(value) >= _LEAST and REDACTED not in value)


def without_secrets(value: Any) -> Any:
    """Settings to be compared: [`redacted`], and without the names of secrets. A new token makes no other run."""
    return _bare(redacted(value))


def check_not_redacted(name: str, value: Any) -> None:
    """`ValueError` if `value`, of the field `name`, is out of a file whose secrets were taken out."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_not_redacted(f"{name}: {key}", item)
    elif isinstance(value, list | tuple):
        for item in value:
            check_not_redacted(name, item)
    elif isinstance(value, str) and REDACTED in value and _STANDS_FOR_ONE.search(value):
        raise ValueError(
            f"{name}: got {value!r:.120}, which stands where a secret was, in a file that real_trl wrote. Put in the secret itself, as the "
            "recipe or the environment has it, or leave the field out."
        )


def holds_secret(text: str) -> bool:
    """Whether `text`, a prompt or a part of one, holds a secret of this process, or what has the form of one."""
    return _text(text, known_secrets(), prose=True) != text


def _text(text: str, known: Sequence[str], prose: bool = False) -> str:
    """Without secrets. What only looks like a name and its value stays in `prose`, such as a prompt, unless it is in a URL."""
    for secret in known:
        text = text.replace(secret, REDACTED)
    text = _USER_INFO.sub(f"://{REDACTED}@", text)
    text = _SCHEME.sub(_scheme, text)
    text = _FORMS.sub(REDACTED, text)
    if prose:
        return _QUERY.sub(_assigned, text)
    text = _QUOTED.sub(_quoted, text)
    return _ASSIGNED.sub(_assigned, text)


def _scheme(match: re.Match[str]) -> str:
    scheme, space, value = match.groups()
    if scheme.lower() == "basic":
        try:
            secret = b":" in base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
        except (binascii.Error, ValueError):
            secret = False
    else:
        secret = len(value) >= 16 or not value.isalpha()  # "bearer instruments" is none
    return f"{scheme}{space}{REDACTED}" if secret else match[0]


def _quoted(match: re.Match[str]) -> str:
    quote, name, colon, double, single = match.groups()
    if not is_secret_name(name) or not (double or single):
        return match[0]
    mark = '"' if double is not None else "'"
    return f"{quote}{name}{quote}{colon}{mark}{REDACTED}{mark}"


def _assigned(match: re.Match[str]) -> str:
    dashes, name, value = match.groups()
    plain = value.lower() in ("none", "null", "true", "false") or value.startswith(REDACTED)
    return match[0] if plain or not is_secret_name(name) else f"{dashes}{name}={REDACTED}"


def _walk(value: Any, known: Sequence[str], secret: bool, found: list[str]) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        items = {}
        for key, item in value.items():
            own = isinstance(key, str) and key in _OWN_NAMES and isinstance(item, Mapping) and not secret
            if own:
                items[key] = {_key(each, known): _walk(text, known, False, found) for each, text in item.items()}
            else:
                named = isinstance(key, str) and is_secret_name(key)
                items[_key(key, known)] = _walk(item, known, secret or named, found)
        return items
    if isinstance(value, list | tuple | set | frozenset):
        before = [None, *value][:-1]
        items = [
            _walk(item, known, secret or _is_secret_option(option), found)
            for item, option in zip(value, before, strict=True)
        ]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and hasattr(value, "__dict__"):
        shown = copy.copy(value)
        for name, item in vars(value).items():
            # Frozen ones, too
            shown.__dict__[name] = _walk(item, known, secret or is_secret_name(name), found)
        return shown
    if secret:
        if value != "":
            found.append(str(value))
        return value if value == "" else REDACTED
    if isinstance(value, str | Path):
        text = str(value)
        shown = _text(text, known, prose=any(map(str.isspace, text)))
        return value if shown == text else shown
    config = getattr(value, "config", None)
    if isinstance(config, dict):  # DeepSpeed's settings
        shown = copy.copy(value)
        shown.config = _walk(config, known, False, found)
        return shown
    return value


def _key(key: Any, known: Sequence[str]) -> Any:
    return _text(key, known) if isinstance(key, str) else key


def _is_secret_option(before: Any) -> bool:
    """Whether this is an option of a command line, whose value, a secret, comes next."""
    return isinstance(before, str) and before.startswith("--") and "=" not in before and is_secret_name(before[2:])


def _bare(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _bare(item) for key, item in value.items() if item != REDACTED and not _holds_secrets(key, item)}
    return [_bare(item) for item in value] if isinstance(value, list | tuple) else value


def _holds_secrets(key: Any, value: Any) -> bool:
    """Whether this is a mapping or a list of secrets only, such as `headers`."""
    return isinstance(key, str) and is_secret_name(key) and isinstance(value, Mapping | list | tuple)
