# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Which judge to put behind an endpoint or a page, and how it decodes."""

from dataclasses import dataclass, field

from real_trl.data import as_mapping
from real_trl.judge import Judge


@dataclass
class JudgeOptions:
    """
    A judge that answers people and programs one by one. Unlike in an evaluation, it decodes greedily unless asked
    otherwise, so that the same question gets the same answer.

    Args:
        judge (`str`):
            Local directory, or model id on the Hub.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.
        preset, score_labels, score_marker, prompt_template (*optional*):
            Scale, marker and prompt; see [`~real_trl.judge_loading.find_judge`]. They default to the judge's own.
        engine (`str`, *optional*, defaults to `"transformers"`):
            `"transformers"`, `"vllm"`, or `"server"`.
        engine_options (`dict`, *optional*):
            Further settings of the engine, e.g. `{base_url: http://localhost:8000/v1}`.
        dtype (`str`, *optional*, defaults to `"auto"`):
            Type of the weights, by default as saved.
        do_sample (`bool`, *optional*, defaults to `False`):
            Sample the rationale. The answer to a request then depends on when it comes, and on its company.
        max_new_tokens (`int`, *optional*):
            Longest completion. Defaults to 1024, or half of a shorter context.
        truncate_prompts (`bool`, *optional*, defaults to `False`):
            Cut the beginning of prompts that are too long for the model, instead of refusing them.
        batch_size (`int`, *optional*, defaults to `16`):
            Prompts that are judged together.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Run code from the model's repository.
    """

    judge: str = field(metadata={"help": "Directory or Hub id of the judge."})
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit on the Hub."})
    preset: str | None = field(
        default=None, metadata={"help": "Scale, marker and prompt of a model that was not trained here: prometheus."}
    )
    score_labels: str | None = field(default=None, metadata={"help": "Labels. Default: the judge's own."})
    score_marker: str | None = field(default=None, metadata={"help": "Marker. Default: the judge's own."})
    prompt_template: str | None = field(
        default=None, metadata={"help": "Name or path of the prompt template. Default: the judge's own."}
    )
    engine: str = field(
        default="transformers", metadata={"help": "What generates: `transformers`, `vllm`, or `server`."}
    )
    engine_options: dict | str | None = field(
        default=None, metadata={"help": "Further settings of the engine, e.g. {base_url: http://localhost:8000/v1}."}
    )
    dtype: str = field(default="auto", metadata={"help": "Type of the weights. Default: as saved."})
    do_sample: bool = field(default=False, metadata={"help": "Sample the rationale; by default it is greedy."})
    max_new_tokens: int | None = field(
        default=None, metadata={"help": "Longest completion. Default: 1024, or half of a shorter context."}
    )
    truncate_prompts: bool = field(
        default=False, metadata={"help": "Cut the beginning of prompts that are too long, instead of refusing them."}
    )
    batch_size: int = field(default=16, metadata={"help": "Prompts that are judged together."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code from the model's repository."})

    def __post_init__(self) -> None:
        self.engine_options = as_mapping("engine_options", self.engine_options)

    def load(self) -> Judge:
        """Load the judge; errors as of [`Judge.from_pretrained`]."""
        return Judge.from_pretrained(
            self.judge,
            revision=self.revision,
            preset=self.preset,
            score_labels=self.score_labels,
            score_marker=self.score_marker,
            prompt_template=self.prompt_template,
            trust_remote_code=self.trust_remote_code,
            engine=self.engine,
            engine_options=self.engine_options,
            dtype=self.dtype,
            do_sample=self.do_sample,
            max_new_tokens=self.max_new_tokens,
            truncate_prompts=self.truncate_prompts,
            batch_size=self.batch_size,
        )
