# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Tiny judges in folders, and processes that serve them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from real_trl import JudgeConfig
from real_trl.prompts.template import PromptTemplate
from real_trl.score_space import ScoreSpace
from tests.tiny import TOKENIZER, warm_model

SPACE = ScoreSpace.from_labels("1-5", TOKENIZER)
TEMPLATE = "{{ instruction }}\n{{ response }}\n{% if rubric is defined %}{{ rubric }}\n{% endif %}"


def save_judge(folder: Path, template: str | None = TEMPLATE) -> Path:
    """A judge that answers in the right form, with a prompt made by `template`, or complete prompts."""
    warm_model().save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    config = JudgeConfig.from_space(SPACE)
    config.use_template(None if template is None else PromptTemplate(template, "homework.jinja"))
    config.save(folder)
    return folder


@contextmanager
def started(stage: str, line: str, *options: str, **environment: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """
    A stage in a process of its own, from the line that it prints when it is ready on; its standard error goes with its
    standard output. It is killed in the end if it still runs.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", f"real_trl.scripts.{stage}", *options],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        read = []
        for each in process.stdout:
            read.append(each)
            if each.startswith(line):
                yield process, each
                break
        else:
            raise AssertionError("".join(read))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
