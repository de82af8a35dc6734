# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a training stage puts around its prompts, by its recipe and by the judge that training starts from."""

from collections.abc import Mapping
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from real_trl.data.pairs import PAIR_COLUMNS
from real_trl.judge_config import JudgeConfig
from real_trl.option_values import FieldError
from real_trl.prompts.format import PromptFormat
from real_trl.prompts.template import plain_prompt
from real_trl.score_space import ScoreSpace
from real_trl.weights.pretrained import uses_chat


def stage_prompt(text: str, chat: bool, system_prompt: str | None = None) -> str | list[dict[str, str]]:
    """A prompt as the trainers get it: messages, or plain text."""
    return PromptFormat(chat, system_prompt).messages(text) if chat else plain_prompt(text)


def pair_rows(dataset: Dataset, chat: bool, system_prompt: str | None = None) -> Dataset:
    """Pairs as the trainers get them: the columns of [`~real_trl.data.pairs.PAIR_COLUMNS`], with prompts as of [`stage_prompt`]."""
    return dataset.select_columns(list(PAIR_COLUMNS)).map(
        lambda row: {name: stage_prompt(row[name], chat, system_prompt) for name in ("prompt", "other_prompt")},
        desc="Building prompts",
    )


def check_start(
    name: str,
    revision: str | None,
    space: ScoreSpace,
    chat: bool | None,
    system_prompt: str | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> bool | None:
    """
    Check a recipe against the judge that training starts from, if it is one.

    Args:
        name (`str`):
            Model to start from.
        space (`ScoreSpace`):
            The recipe's scale, marker and tags of thinking.
        chat (`bool`, *optional*), system_prompt (`str`, *optional*), chat_template_kwargs (`Mapping`, *optional*):
            What the recipe says about what stands around the prompts.

    Returns:
        `bool`, *optional*: `chat`, or the judge's own where the recipe does not say.

    Raises:
        ValueError: if the judge was trained on another scale, marker or tags of thinking, or with other prompts: the other choice
            of chat template, another system message or other arguments in it.
    """
    judge = _start_judge(name, revision)
    if judge is None:
        return chat
    stated = {
        "score_labels": list(space.labels),
        "score_values": list(space.values),
        "score_marker": space.marker,
        "chat": chat,
        # Judges that were trained before do not say
        "thinking": None if judge.thinking is None else space.thinking.stated or [],
        "system_prompt": system_prompt if judge.knows_template_arguments else None,
        "chat_template_kwargs": chat_template_kwargs if judge.knows_template_arguments else None,
    }
    for field_name, value in stated.items():
        own = getattr(judge, field_name)
        if value is not None and value != own:
            said = f": got {value!r}, but the judge {name!r} that training starts from was trained with {own!r}"
            raise FieldError(field_name, value, f"Set {field_name} to that, or start from another model.", said)
    return judge.chat


def check_writes_rationales(name: str, revision: str | None = None) -> None:
    """`ValueError` if reinforcement learning is to start from a direct judge, which has nothing to sample."""
    try:
        judge = _start_judge(name, revision)
    except OSError:  # no such model, which loading it will say; what is wrong with the data comes first
        return
    if judge is not None and not judge.rationale:
        said = f": got the direct judge {name!r}, which answers with its score at once, so that there is nothing to explore"
        fix = (
            "Start from a judge that writes rationales: let a model write them (real-trl self_generate), and train on its output "
            "(real-trl sft). A direct judge is trained by sft alone."
        )
        raise FieldError("model", name, fix, said)


def _start_judge(name: str, revision: str | None) -> JudgeConfig | None:
    try:
        return JudgeConfig.load(name, revision)
    except FileNotFoundError:
        return None


def stage_format(
    start: tuple[str, str | None],
    tokenizer: PreTrainedTokenizerBase,
    space: ScoreSpace,
    chat: bool | None,
    system_prompt: str | None,
    chat_template_kwargs: Mapping[str, Any] | None,
) -> PromptFormat:
    """
    What stands around the prompts: what the recipe says, else what the judge that training starts from says.

    Args:
        start (`tuple`):
            Name and revision of the model to start from.
        space, chat, system_prompt, chat_template_kwargs:
            As of [`check_start`], with its errors.
    """
    chat = uses_chat(check_start(*start, space, chat, system_prompt, chat_template_kwargs), tokenizer)
    judge = _start_judge(*start)
    if judge is not None and judge.knows_template_arguments:
        system_prompt, chat_template_kwargs = judge.system_prompt, judge.chat_template_kwargs
    return PromptFormat(chat, system_prompt, chat_template_kwargs or {})
