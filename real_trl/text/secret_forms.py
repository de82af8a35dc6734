# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The forms and names by which [`~real_trl.text.redaction`] knows a secret in a text."""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Sequence
from functools import lru_cache

REDACTED = "[redacted]"
"""What stands in the place of a secret."""

LEAST = 8  # characters of a value that is looked for in texts: shorter ones are parts of words
MARK = re.compile(r"\[redacted(?: [0-9a-f]{8})?\]")
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

WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
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
_PASSWORD = re.compile("secret|pass|pwd|credential|auth", re.IGNORECASE)


@lru_cache(4096)
def is_secret_name(name: str) -> bool:
    """Whether what is called `name` (`hub_token`, `X-Api-Key`, `password`) is a secret. `max_tokens`, `pad_token` and `key_column` are none."""
    if len(name) > 64 or any(character.isspace() for character in name):
        return False
    words = [word.lower() for word in WORDS.findall(name)]
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


def digest(secret: str) -> str:
    return (
        secret
        if MARK.fullmatch(secret)
        else f"[redacted {hashlib.sha256(secret.encode(errors='replace')).hexdigest()[:8]}]"
    )


def plain(secret: str) -> str:
    return REDACTED


def redact_forms(text: str, known: Sequence[str], prose: bool = False, mark: Callable[[str], str] = plain) -> str:
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
    return short or (len(value) >= LEAST and not word)


def _quoted(match: re.Match[str]) -> str:
    quote, name, colon, double, single = match.groups()
    if not is_secret_name(name) or not (double or single):
        return match[0]
    mark = '"' if double is not None else "'"
    return f"{quote}{name}{quote}{colon}{mark}{REDACTED}{mark}"
