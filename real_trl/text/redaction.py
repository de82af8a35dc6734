# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Takes secrets out of what is written: settings (provenance, manifests, reports, pickled arguments, trackers), messages and logs.

A secret is known by the name that it has (`token`, `api_key`, …), by its form (`hf_…`, `Bearer …`, `user:password@host`, …), or as the
value of an environment variable with such a name. Rows of data are the user's own and are not touched.

What is named as a credential can change from run to run. What only has a form may be something else, say a model's name: in settings, a
digest of it stays (`[redacted 3fa9c1d2]`), so that two of them are never taken for one.
"""

import base64
import binascii
import copy
import dataclasses
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import get_token

from real_trl.text.json_text import to_json

REDACTED = "[redacted]"
"""What stands in the place of a secret."""

_LEAST = 8  # characters of a value that is looked for in texts: shorter ones are parts of words
_MARK = re.compile(r"\[redacted(?: [0-9a-f]{8})?\]")
# Every start is a new one and what was looked at is passed over, so that no text takes more than linear time. Of the groups, Python
# decides which candidates are secrets ([`_is_random`]).
_FORMS = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:hf|api_org|gh[pousr]|npm|gsk|r8|sk_live|sk_test|rk_live|rk_test|dop_v1|shpat)_[A-Za-z0-9]{16,256}"
    r"|(?:AKIA|ASIA|AROA|AIDA|AGPA)[A-Z0-9]{12,128}|AIza[\w-]{30,256}|SG\.[\w-]{16,128}\.[\w-]{16,128}|ya29\.[\w-]{16,2048}"
    r"|(?<![\w-])eyJ[\w-]{5,}=*\.eyJ[\w-]{5,}=*(?:\.[\w-]*)?"
    r"|(?P<prefix>(?:sk|pypi|pplx|xai|tvly|nvapi)-|github_pat_)(?P<random>[\w-]{16,256})"
    r"|(?:glpat|xox[a-z]|xapp)-(?P<numbered>[\w-]{16,256})"
    r")|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
_RUN = re.compile(r"[A-Za-z0-9]{16,}")
_SCHEME = re.compile(
    r"\b(Bearer|Basic|Authorization[\"']?\s{0,8}[:=]\s{0,8}[\"']?[A-Za-z][\w-]{0,40})(\s{1,8})([\w.~+/=-]{8,})",
    re.IGNORECASE,
)
# Up to the last @ of the word, or before the next address; a port is no password
_USER_INFO = re.compile(
    r"://(?:[^\s/:@\"'<>]{16,}"
    r"|[^\s/:@\"'<>]*:(?!\d+(?:[/?#]|\b(?![^\s/]*@)))[^\s\"'<>:]*(?::(?!//)[^\s\"'<>:]*)*)@"
)
_ASSIGNED = re.compile(r"(?<![\w.-])(-{0,2})([A-Za-z][\w.%-]{0,63})=([^\s&;,\"'<>(){}]+)")
_QUERY = re.compile(r"(?<=[?&])" + _ASSIGNED.pattern)
_QUOTED = re.compile(r"""(["'])([A-Za-z][\w.-]{0,63})\1(\s*:\s*)(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')""")
_STANDS_FOR_ONE = re.compile(
    r"(?:^|:\s*[\"'])(?:\w+ )?\[redacted\](?:$|[\"'])|(?:://|[?&;])[^\s\"']{0,256}\[redacted\]|\[redacted [0-9a-f]{8}\]"
)

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_ALWAYS = frozenset(
    "secret secrets password passwords passwd passphrase pwd credential credentials authorization sas cookie cookies apikey accesskey "
    "secretkey clientsecret authtoken apitoken accesstoken sessiontoken refreshtoken".split()
)
_AT_THE_END = frozenset("auth bearer sig signature pat jwt".split())
_TOGETHER = ("api key", "access key", "private key", "account key", "shared key", "connection string", "x amz")
_TEXT_TOKENS = frozenset(
    "pad eos bos unk mask cls sep image video audio special stop start end begin text score label next prev previous last first per max "
    "min num n sample total additional extra decoder encoder forced thinking think tool call response prefix suffix middle fim system "
    "assistant turn of message new one single target".split()
)
_NO_SECRET_KEYS = frozenset(
    "column group sort primary foreign partition index json join answer row id question item order public metric dict map dedup cache "
    "label hot".split()
)
# What only describes a secret, or counts it: `key_column`, `token_count`, `api_key_env`
_ABOUT = frozenset(
    "column columns name names field fields type types count counts length id ids env variable limit size text budget form file path "
    "filename".split()
)
# The keys of these are names that the user gives to other things
_OWN_NAMES = frozenset("columns prompt_replace judges benchmark_paths".split())
# Their values are secrets however short they are, and whatever word they are
_SHORT = re.compile("token|key|secret|pass|pwd|credential", re.IGNORECASE)
_PASSWORD = re.compile("secret|pass|pwd|credential|auth", re.IGNORECASE)
_HEADER_OF_A_SECRET = re.compile(
    "auth(?!or)|authoriz|cookie|key|token(?!s)|secret|passw|session|signature", re.IGNORECASE
)

_remembered: set[str] = set()


@lru_cache(4096)
def is_secret_name(name: str) -> bool:
    """Whether what is called `name` (`hub_token`, `X-Api-Key`, `password`) is a secret. `max_tokens`, `pad_token` and `key_column` are none."""
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
    and what recipes had ([`remember`]). What the environment has may be an ordinary word: of that, what is long or mixed.
    """
    # For every line that is shown: names, which are remembered, are looked at before values
    named = {os.environ.get(name, "") for name in os.environ if is_secret_name(name)}
    found = {value for value in named if _is_long(value.strip())}
    found |= {value for value in (get_token(), *more) if value and value.strip()} | _remembered
    return sorted({value.strip() for value in found}, key=len, reverse=True)


def redact_text(text: object, *more: str | None) -> str:
    """`text` with [`REDACTED`] in the place of every secret: those of this process, `more`, and what has a secret's form or name."""
    return _text(str(text), known_secrets(*more))


def redacted(value: Any, *more: str | None) -> Any:
    """
    A copy of `value`, settings of any depth (mappings, sequences, dataclasses, texts), with [`REDACTED`], or the like with a digest, in
    the place of every secret. Anything else in it stays as it is. Redacting again changes nothing.
    """
    return _walk(value, known_secrets(*more))


def redact_command(arguments: Sequence[str]) -> list[str]:
    """A command line without secrets, also in options whose values are mappings."""
    known = known_secrets()
    shown = _walk(list(arguments), known)
    for place, argument in enumerate(shown):
        option, sign, mapping = ("", "", argument) if argument.startswith("{") else argument.partition("=")
        try:
            value = yaml.safe_load(mapping) if mapping.startswith("{") else None
        except (yaml.YAMLError, ValueError, RecursionError):
            continue
        without = _walk(value, known, _kind(option or shown[place - 1].lstrip("-")))
        if isinstance(value, dict) and without != value:
            shown[place] = option + sign + to_json(without, default=str)
    return shown


def remember(settings: Any) -> None:
    """From now on, the secrets that `settings` name as such are known wherever else they turn up."""
    found = [*_named(settings)]
    for argument in settings if isinstance(settings, list) else ():
        mapping = argument[argument.find("{") :] if isinstance(argument, str) and "{" in argument else ""
        try:
            found += _named(yaml.safe_load(mapping))
        except (yaml.YAMLError, ValueError, RecursionError):
            continue
    _remembered.update(
        value.strip()
        for name, value in found
        if (_is_long(value.strip()) or len(value.strip()) >= _LEAST and _SHORT.search(name))
        and not _MARK.search(value)
    )


def _named(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The texts and numbers in `value` whose own name is that of a secret, with the name."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str) and not (key in _OWN_NAMES and isinstance(item, Mapping)):
                yield from _named(item, key)
    elif isinstance(value, list | tuple):
        for before, item in zip([None, *value], value, strict=False):
            yield from _named(item, before[2:] if _is_secret_option(before) else name)
    elif value is not None and not isinstance(value, bool) and is_secret_name(name):
        yield name, str(value)


def _is_long(value: str) -> bool:
    """Whether a value that has no more than a name is hardly an ordinary word."""
    mixed = any(map(str.isalpha, value)) and any(map(str.isdigit, value))
    return len(value) >= (10 if mixed else 16)


def yaml_fault(error: Exception) -> str:
    """What is wrong with a YAML text, and where, without anything of the text: it may be a secret."""
    fault = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).partition("\n")[0]
    fault = re.sub(r"(['\"])(?!<).{2,}\1", "what stands there", fault)
    mark = getattr(error, "problem_mark", None)
    return f"{fault}, line {mark.line + 1}, column {mark.column + 1}" if mark else fault


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
    elif isinstance(value, str) and _STANDS_FOR_ONE.search(value):
        raise ValueError(
            f"{name}: got {value!r:.120}, which stands where a secret was, in a file that real_trl wrote. Put in the secret itself, as the "
            "recipe or the environment has it, or leave the field out."
        )


def holds_secret(text: str) -> bool:
    """Whether `text`, a prompt or a part of one, holds a secret of this process, or what has the form of one."""
    return _text(text, known_secrets(), prose=True) != text


def _digest(secret: str) -> str:
    return (
        secret
        if _MARK.fullmatch(secret)
        else f"[redacted {hashlib.sha256(secret.encode(errors='replace')).hexdigest()[:8]}]"
    )


def _plain(secret: str) -> str:
    return REDACTED


def _text(text: str, known: Sequence[str], prose: bool = False, mark: Callable[[str], str] = _plain) -> str:
    """
    Without secrets. What only looks like a name and its value stays in `prose`, such as a prompt, unless it is in a URL. `mark` makes what
    stands in the place of what has the form of a secret.
    """

    def form(match: re.Match[str]) -> str:
        return mark(match[0]) if _is_random(match) else match[0]

    def scheme(match: re.Match[str]) -> str:
        name, space, value = match.groups()
        secret = _is_authorization(name.lower(), value)
        return f"{name}{space}{mark(value) if name.lower() == 'bearer' else REDACTED}" if secret else match[0]

    def assigned(match: re.Match[str]) -> str:
        dashes, name, value = match.groups()
        inside = bool(dashes) or match.string[match.start() - 1 : match.start()] in ("?", "&", ";")
        if not _is_assigned_secret(name, value, short=inside):
            return match[0]
        return f"{dashes}{name}={mark(value) if name.lower() == 'key' and not inside else REDACTED}"

    for secret in known:
        if secret in text:
            whole = _FORMS.fullmatch(secret)
            text = text.replace(secret, mark(secret) if whole and _is_random(whole) else REDACTED)
    text = _USER_INFO.sub(f"://{REDACTED}@", text)
    text = _SCHEME.sub(scheme, text)
    text = _FORMS.sub(form, text)
    if prose:
        return _QUERY.sub(assigned, text)
    text = _QUOTED.sub(_quoted, text)
    return _ASSIGNED.sub(assigned, text)


def _is_random(match: re.Match[str]) -> bool:
    """Whether a candidate is a secret, and no name of several words."""
    text = match["random"]
    if match["numbered"]:
        return any(map(str.isdigit, match["numbered"]))
    if not text:
        return True
    if any(not run.islower() and not run.isupper() or re.search(r"\d", run) for run in _RUN.findall(text)):
        return True
    return len(match[0]) >= 32 and bool(re.search(r"\d", text)) and not text.islower() and not text.isupper()


def _is_authorization(name: str, value: str) -> bool:
    if name.endswith("basic"):
        try:
            return b":" in base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
        except (binascii.Error, ValueError):
            return False
    if name.endswith("bearer"):
        return len(value) >= 16 or not value.isalpha()  # "bearer instruments" is none
    return len(value) >= 24 or any(map(str.isdigit, value))


def _is_assigned_secret(name: str, value: str, short: bool) -> bool:
    if value.lower() in ("none", "null", "true", "false") or value.startswith("[redacted") or not is_secret_name(name):
        return False
    word = re.fullmatch(r"[a-z_]{1,15}", value) and not _PASSWORD.search(name)  # `token=required`, of messages
    return short or (len(value) >= _LEAST and not word)


def _quoted(match: re.Match[str]) -> str:
    quote, name, colon, double, single = match.groups()
    if not is_secret_name(name) or not (double or single):
        return match[0]
    mark = '"' if double is not None else "'"
    return f"{quote}{name}{quote}{colon}{mark}{REDACTED}{mark}"


class _Kind(Enum):
    """What stands under a name: a secret; headers, some of which are; options of a store, whose names say little."""

    SECRET = 1
    HEADERS = 2
    STORAGE = 3


def _kind(name: Any, outer: _Kind | None = None) -> _Kind | None:
    if not isinstance(name, str) or outer is _Kind.SECRET:
        return outer
    if is_secret_name(name) or (outer is _Kind.HEADERS and _HEADER_OF_A_SECRET.search(name)):
        return _Kind.SECRET
    words = [word.lower() for word in _WORDS.findall(name[:64])]
    if words[-1:] in (["headers"], ["header"]):
        return _Kind.HEADERS
    return _Kind.STORAGE if words[-2:] == ["storage", "options"] else outer


def _walk(value: Any, known: Sequence[str], kind: _Kind | None = None) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        items = {}
        for key, item in value.items():
            if isinstance(key, str) and key in _OWN_NAMES and isinstance(item, Mapping) and kind is None:
                items[key] = {_key(each, known): _walk(text, known) for each, text in item.items()}
            else:
                items[_key(key, known)] = _walk(item, known, _kind(key, kind))
        return items
    if isinstance(value, list | tuple | set | frozenset):
        before = [None, *value][:-1]
        items = [
            _walk(item, known, _Kind.SECRET if _is_secret_option(option) else kind)
            for item, option in zip(value, before, strict=True)
        ]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and hasattr(value, "__dict__"):
        shown = copy.copy(value)
        for name, item in vars(value).items():
            # Frozen ones, too
            shown.__dict__[name] = _walk(item, known, _kind(name, kind))
        return shown
    if kind is _Kind.SECRET:
        return value if value == "" else REDACTED
    if isinstance(value, str | Path):
        text = str(value)
        if kind is _Kind.STORAGE and text:
            return _digest(text)
        shown = _text(text, known, any(map(str.isspace, text)), _digest)
        return value if shown == text else shown
    config = getattr(value, "config", None)
    if isinstance(config, dict):  # DeepSpeed's settings
        shown = copy.copy(value)
        shown.config = _walk(config, known)
        return shown
    return value


def _key(key: Any, known: Sequence[str]) -> Any:
    return _text(key, known, mark=_digest) if isinstance(key, str) else key


def _is_secret_option(before: Any) -> bool:
    """Whether this is an option of a command line, whose value, a secret, comes next."""
    return isinstance(before, str) and before.startswith("--") and "=" not in before and is_secret_name(before[2:])


def _bare(value: Any, kind: _Kind | None = None) -> Any:
    if isinstance(value, Mapping):
        items = {}
        for key, item in value.items():
            inner = _kind(key, kind)
            bare = _bare(item, inner)
            secret = inner is _Kind.SECRET and (item == REDACTED or isinstance(item, Mapping | list | tuple))
            if not secret and not (inner is not None and bare == {}):  # headers that were all secrets
                items[key] = bare
        return items
    return [_bare(item, kind) for item in value] if isinstance(value, list | tuple) else value
