# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Which judge to put behind an endpoint or a page, and how it decodes."""

from dataclasses import dataclass, field

from real_trl.engines.options import JudgeOptions
from real_trl.judge import Judge
from real_trl.judge_source import find_judge


@dataclass(kw_only=True)
class ServedJudge(JudgeOptions):
    """
    A judge that answers people and programs one by one: the options of [`~real_trl.engines.options.JudgeOptions`], and

    Args:
        model_name_or_path (`str`):
            Local directory of the judge, or model id on the Hub: `--model`.

    Two defaults differ, so that the same question gets the same answer: it decodes greedily unless `do_sample` is set (the
    answer to a request then depends on when it comes, and on its company), in batches of 16.
    """

    model_name_or_path: str
    do_sample: bool = field(default=False, metadata={"help": "Sample the rationale; by default it is greedy."})
    batch_size: int | str | None = field(
        default=16, metadata={"help": "Prompts that are judged together; auto: as many as fit the memory of the GPU."}
    )

    def load(self) -> Judge:
        """Load the judge; errors as of [`Judge.from_pretrained`]."""
        source = find_judge(self.model_name_or_path, self)
        return Judge(source.load_engine(self), source.config, source.name)
