# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What may be asked of a server, before it is asked anything."""

from collections.abc import Iterable, Sequence
from typing import Any

from real_trl.engines.base import Decoding
from real_trl.engines.prompt_encoder import PromptEncoder
from real_trl.option_values import FieldError

# Fields of a request that scores depend on
_OWN_FIELDS = frozenset(
    {"model", "prompt", "messages", "temperature", "max_tokens", "logprobs", "top_logprobs", "n", "stream"}
)
APIS = ("completions", "chat")


def check_extra_body(names: Iterable[str]) -> None:
    """`ValueError` if a field of `extra_body` is one that the engine sets."""
    if taken := sorted(_OWN_FIELDS & set(names)):
        raise FieldError("extra_body", taken[0], "Leave it out.", f": {taken[0]!r} is set by the engine")


def check_options(
    decoding: Decoding, api: str, extensions: bool | None, max_concurrency: int, top_logprobs: int
) -> None:
    """`ValueError` naming the option of [`~real_trl.engines.server_engine.ServerEngine`] that is impossible, or does not fit `decoding`."""
    if api not in APIS:
        raise FieldError("api", api, f"Set it to one of: {', '.join(APIS)}.")
    if max_concurrency < 1 or top_logprobs < 1:
        raise ValueError(f"max_concurrency={max_concurrency}, top_logprobs={top_logprobs}: both must be at least 1.")
    if decoding.temperature != 1:
        said = f": got {decoding.temperature}, but servers return log-probabilities at temperature 1 only"
        fix = "Set it to 1, or use the engine 'vllm' or 'transformers'."
        raise FieldError("temperature", decoding.temperature, fix, said)
    if api == "chat":
        if extensions:
            raise ValueError("extensions: they need api='completions'.")
        if not decoding.chat:
            raise ValueError(
                "chat: a judge without a chat template cannot be asked through api='chat', which applies one. Use "
                "api='completions', or set chat to true."
            )
        if decoding.template_date is not None:
            raise ValueError(
                "api: the judge's chat template writes the date, which was a fixed day in training and would be today's on a server that "
                "renders it. Use api='completions'."
            )
        if decoding.truncate_prompts:
            raise ValueError(
                "truncate_prompts: with api='chat' the prompt's tokens are not known. Use api='completions', or set it to false."
            )


def check_arguments(
    encode: PromptEncoder, url: str, messages: Sequence[dict[str, Any]], prompt_tokens: int | None
) -> None:
    """`ValueError` if the server at `url` has rendered its chat template without the judge's arguments, by the tokens that it counts."""
    tokenizer, kwargs = encode.tokenizer, encode.decoding.chat_template_kwargs
    if not kwargs or not tokenizer.chat_template or not prompt_tokens:
        return

    def size(**arguments: Any) -> int:
        given: dict[str, Any] = {"add_generation_prompt": True, "return_dict": True, **arguments}
        rendered: Any = tokenizer.apply_chat_template(list(messages), **given)
        return len(rendered["input_ids"])

    without, asked = size(), size(**encode.encoding.chat_arguments())
    if prompt_tokens == without != asked:
        raise ValueError(
            f"{url} leaves out chat_template_kwargs ({dict(kwargs)}): its prompt has {without} tokens, and the judge's {asked}. Use "
            "api='completions', or a server that knows them."
        )
