# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Whether what a trainer is given fits what its model can read: found when the trainer is built, and row by row in streams."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from real_trl.option_values import FieldError
from real_trl.prompts.context_length import completion_room, context_length, default_max_new_tokens
from real_trl.prompts.encoding import PromptEncoding
from real_trl.prompts.format import PromptFormat, prompt_text, training_format
from real_trl.score_space import ScoreSpace
from real_trl.trainers.raft_config import RAFTConfig
from real_trl.trainers.real_config import REALConfig
from real_trl.trainers.row_tokenizer import RowTokenizer

Turns = str | Sequence[Mapping[str, Any]]
Encode = Callable[[list[Any]], list[list[int]]]


@dataclass(frozen=True)
class Limit:
    """
    A number of tokens that a row must not exceed.

    Attributes:
        tokens (`int`):
            What can be read.
        reader (`str`):
            Who reads it, as an error says it.
        kept (`int`):
            How many of them are kept for a completion that is still to be sampled.
        fix (`str`):
            What to do about a row that is too long, beside shortening it.
    """

    tokens: int
    reader: str
    kept: int
    fix: str

    @property
    def room(self) -> int:
        """Tokens that are left for a row."""
        return self.tokens - self.kept


class ContextCheck:
    """
    Refuses rows that are too long. A text is tokenized only if it has more bytes than the limit has tokens: a token covers at least one byte.

    Args:
        limits (`Sequence[Limit]`):
            None: nothing is ever too long.
        encode (`Callable[[list], list[list[int]]]`):
            Token ids of texts or conversations, all of one kind, as the trainer makes them.
        what (`str`):
            What an error calls it: `"prompt"`; nothing where the place says it.
        turns (`Callable[[Mapping], str | list]`):
            Text or conversation of a row.
    """

    def __init__(
        self, limits: Sequence[Limit], encode: Encode, what: str, turns: Callable[[Mapping[str, Any]], Turns]
    ) -> None:
        self.limits, self.encode, self.what, self.turns = limits, encode, what, turns
        self._around: dict[tuple[str, ...], int | None] = {}

    def __call__(self, rows: Sequence[Mapping[str, Any]], places: Sequence[str], name: str) -> None:
        """
        Refuse `rows` of the dataset `name`, which stand at `places`, if one does not fit.

        Raises:
            `ValueError`: naming dataset, row, its tokens, the limit and the fix.
        """
        for limit in self.limits:
            long = [(self.turns(row), place) for row, place in zip(rows, places, strict=True)]
            long = [(turns, place) for turns, place in long if self._may_exceed(turns, limit.room)]
            lengths = map(len, self.encode([turns for turns, _ in long])) if long else ()
            too_long = [
                (place, length) for (_, place), length in zip(long, lengths, strict=True) if length > limit.room
            ]
            if too_long:
                self._refuse(too_long, limit, name)

    def _refuse(self, too_long: Sequence[tuple[str, int]], limit: Limit, name: str) -> None:
        (place, length), more = too_long[0], len(too_long) - 1
        kept = f", of which {limit.kept} are kept for the completion" if limit.kept else ""
        raise ValueError(
            f"{name}: {place} has {length} tokens{f' in its {self.what}' if self.what else ''}, {length - limit.room} too many"
            f"{f' (and at least {more} more rows are too long)' if more else ''}. {limit.reader} {limit.tokens} tokens{kept}. "
            f"Shorten or remove such rows, {limit.fix}."
        )

    def _may_exceed(self, turns: Turns, room: int) -> bool:
        texts = (
            [turns] if isinstance(turns, str) else [v for turn in turns for k, v in turn.items() if v and k != "role"]
        )
        if not all(isinstance(text, str) for text in texts):
            return True
        size = sum(map(_most_tokens, texts))
        if size > room:
            return True
        around = self._tokens_around(turns)
        return around is None or size + around > room

    def _tokens_around(self, turns: Turns) -> int | None:
        """Tokens that a chat template, or the tokenizer, puts around texts; `None` if the template does not take stand-ins."""
        roles = () if isinstance(turns, str) else tuple(turn["role"] for turn in turns)
        if roles not in self._around:
            stand_in = "x" if isinstance(turns, str) else [{"role": role, "content": "x"} for role in roles]
            try:
                self._around[roles] = len(self.encode([stand_in])[0])
            except Exception:  # whatever a template raises; the text is tokenized then
                self._around[roles] = None
        return self._around[roles]


def _most_tokens(text: str) -> int:
    """At least the tokens of a text: its bytes, also after the normalization that a tokenizer may begin with."""
    size = len(text.encode("utf-8", "surrogatepass"))
    return (
        size
        if text.isascii()
        else max(size, len(unicodedata.normalize("NFKC", text).encode("utf-8", "surrogatepass")))
    )


def prompt_fits(
    model: "str | PreTrainedModel",
    args: REALConfig,
    space: ScoreSpace,
    tokenizer: PreTrainedTokenizerBase,
    prompt_format: PromptFormat | None = None,
) -> ContextCheck:
    """
    The check of a prompt that completions are sampled for: with the longest of them, a marker behind it if it is forced, and a
    label, it has to fit the model; and with the completion alone vLLM, where that generates.

    Raises:
        `ValueError`: if the completion limit leaves no room for a prompt, or is too low for marker and label.
    """
    if args.max_completion_length is None and not args.use_vllm:
        said = ": got null, and generation needs a limit"
        raise FieldError("max_completion_length", None, "Set it to a number of tokens.", said)
    longest = args.max_completion_length or 1
    shortest = len(space.marker_ids) + min(map(len, space.token_ids))
    if args.max_completion_length and args.max_completion_length < shortest and args.malformed != "force":
        said = f": got {args.max_completion_length}, but marker and label alone have {shortest} tokens ({space.marker!r}), so no completion could show a score"
        raise FieldError(
            "max_completion_length", args.max_completion_length, "Raise it to what a rationale and they take.", said
        )
    limits = []
    length = _context_of(model, args)
    if length:
        fix = f"lower max_completion_length (now {args.max_completion_length}), or train a model that reads more"
        room = completion_room(space, longest, args.malformed == "force")
        limits.append(Limit(length, "The model reads", room, fix))
    if args.use_vllm and args.vllm_mode == "colocate" and args.vllm_max_model_length:
        fix = f"raise vllm_max_model_length, or lower max_completion_length (now {args.max_completion_length})"
        limits.append(Limit(args.vllm_max_model_length, "vLLM reads (vllm_max_model_length)", longest, fix))
    for limit in limits:
        if limit.room < 1:
            fix = f"{limit.reader} {limit.tokens} tokens, of which {limit.kept} are kept for the completion, and none is left for a prompt. Lower it."
            raise FieldError("max_completion_length", args.max_completion_length, fix)

    def encode(prompts: list[Turns]) -> list[list[int]]:
        rows = [{"prompt": prompt} for prompt in prompts]
        asked = prompt_format or training_format(rows, tokenizer, args)
        return PromptEncoding(tokenizer, asked)([prompt_text(row, asked) for row in rows])

    return ContextCheck(limits, encode, "prompt", lambda row: row["prompt"])


def row_fits(
    model: "str | PreTrainedModel",
    args: RAFTConfig,
    tokenizer: PreTrainedTokenizerBase,
    prompt_format: PromptFormat | None = None,
    space: ScoreSpace | None = None,
) -> ContextCheck:
    """The check of a prompt with its completion. Where rows are cut at a `max_length` that fits, none is too long."""
    length = _context_of(model, args)
    limits = []
    if length and (args.max_length is None or args.max_length > length):
        fix = f"set max_length (now {args.max_length}) to at most {length}, which cuts them, or train a model that reads more"
        limits.append(Limit(length, "The model reads", 0, fix))

    def turns(row: Mapping[str, Any]) -> Turns:
        """All messages; for texts, one each."""
        both = [(name, row[name]) for name in ("prompt", "completion")]
        return [
            turn
            for role, said in both
            for turn in ([{"role": role, "content": said}] if isinstance(said, str) else said)
        ]

    def encode(rows: list[Turns]) -> list[list[int]]:
        pairs = [
            {"prompt": turns[0]["content"], "completion": turns[1]["content"]}
            if turns[0]["role"] == "prompt"
            else {"prompt": turns[:-1], "completion": turns[-1:]}
            for turns in rows
        ]
        asked = prompt_format or training_format(pairs, tokenizer, args)
        tokenize = RowTokenizer(PromptEncoding(tokenizer, asked), space)
        return [tokenize(pair)["input_ids"] for pair in pairs]

    return ContextCheck(limits, encode, "prompt and completion", turns)


def held_out_tokens(config: PreTrainedConfig, args: Any, stated: int | None) -> int:
    """Longest completion of a held-out row: as `stated`, or that of the rollouts, or 1024, or half of a shorter context."""
    return stated or getattr(args, "max_completion_length", None) or default_max_new_tokens(config)


def check_held_out(
    datasets: Mapping[str, Any],
    max_new_tokens: int,
    config: PreTrainedConfig,
    space: ScoreSpace,
    tokenizer: PreTrainedTokenizerBase,
    prompt_format: PromptFormat,
) -> None:
    """`ValueError` if a prompt (text) of the held-out `datasets`, by name, is too long for the model with the longest completion."""
    length = context_length(config)
    if not length:
        return
    limit = Limit(
        length,
        "The model reads",
        completion_room(space, max_new_tokens, forced=True),
        f"lower judge_eval_max_new_tokens (now {max_new_tokens}), or train a model that reads more",
    )
    if limit.room < 1:
        fix = f"{limit.reader} {length} tokens, of which {limit.kept} are kept for the completion, and none is left for a prompt. Lower it."
        raise FieldError("judge_eval_max_new_tokens", max_new_tokens, fix)
    check = ContextCheck([limit], PromptEncoding(tokenizer, prompt_format), "", lambda row: row["prompt"])
    for name, dataset in datasets.items():
        rows = [{"prompt": prompt} for prompt in dataset["prompt"][:]]
        check(rows, [f"prompt {row} (counted from 0)" for row in range(len(rows))], f"judge_eval: dataset {name!r}")


def config_of(model: "str | PreTrainedModel", args: Any) -> PreTrainedConfig | None:
    """The configuration of a model that may be loaded later; `None` if it cannot be read."""
    if not isinstance(model, str):
        return model.config
    revision = (args.model_init_kwargs or {}).get("revision")
    try:
        return AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=args.trust_remote_code)
    except (OSError, ValueError):  # loading the model will say what is wrong, after the data has been looked at
        return None


def _context_of(model: "str | PreTrainedModel", args: Any) -> int | None:
    config = config_of(model, args)
    return None if config is None else context_length(config)
