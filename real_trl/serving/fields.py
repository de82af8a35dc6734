# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Which fields a judge's prompt is made of."""

from real_trl.judge_config import JudgeConfig
from real_trl.prompts import PromptTemplate

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
