# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Which fields a judge's prompt is made of, and how long it may be."""

from real_trl.judge import Judge
from real_trl.judge_config import JudgeConfig
from real_trl.option_values import FieldError
from real_trl.prompts.template import PromptTemplate

_BYTES_PER_TOKEN = 32  # languages and code have 1 to 8; only long runs of one character have as many
ROW_FIELDS = ("instruction", "response", "rubric", "reference", "prompt")


def reads(template: PromptTemplate, name: str) -> bool:
    """Whether `template` has a variable `name`, or makes its rubric of it (`criteria`, `score1_description`, …)."""
    try:
        template.check_columns({name: name}, [name])
    except ValueError:
        return False
    return True


def prompt_fields(config: JudgeConfig) -> list[str]:
    """The fields of the judge's template, the usual ones first; `["prompt"]` where it was trained on complete prompts."""
    template = config.template()
    if template is None:
        return ["prompt"]
    usual = [name for name in ROW_FIELDS if name in template.variables]
    return usual + sorted(name for name in template.variables if name not in usual and reads(template, name))


def check_size(judge: Judge, prompt: str, max_bytes: int | None = None) -> None:
    """
    Refuse a prompt that is too long for any tokenizer to be asked, which may take seconds for each megabyte.

    Args:
        max_bytes (`int`, *optional*):
            Longest prompt, in bytes of UTF-8. By default 32 for every token that the judge's model reads, or no limit where that is
            not known.

    Raises:
        `ValueError`: naming both sizes.
    """
    tokens = judge.engine.context_length
    limit = max_bytes or (tokens and tokens * _BYTES_PER_TOKEN)
    if limit and (len(prompt) > limit or len(prompt.encode("utf-8", "surrogatepass")) > limit):
        size = len(prompt.encode("utf-8", "surrogatepass"))
        why = f"; the model reads {tokens} tokens" if tokens else ""
        said = f": it has {size} bytes, and at most {limit} are read (max_prompt_bytes{why})"
        raise FieldError("prompt", prompt, "Shorten its texts.", said)
