# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A judge's model card: what it is, how it was trained, how good it is, and code that uses it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData
from jinja2 import Environment, StrictUndefined

from real_trl.judge_config import JudgeConfig
from real_trl.methods import CITATION, METHODS, unread_options
from real_trl.prompts.template import SETTINGS, PromptTemplate
from real_trl.publishing.lineage import Lineage, TrainingData, find_lineage
from real_trl.publishing.results import eval_results, evaluation_table
from real_trl.report.calibration_text import calibration_text
from real_trl.report.markup import markdown_code, markdown_escape, plain_line
from real_trl.scale import Scale, abridged
from real_trl.text.json_text import to_json
from real_trl.text.redaction import redact_text, redacted

_TEMPLATE = Path(__file__).with_name("card.md.jinja")
_EXAMPLES = {
    "instruction": "What is the capital of Australia?",
    "response": "The capital of Australia is Canberra.",
    "rubric": "Is the answer right and complete?",
    "reference": "Canberra.",
    "criteria": "Is the answer right and complete?",
}
_MAX_SHOWN = 500
NOT_EVALUATED = "This judge was not evaluated when it was published."


def build_card(
    config: JudgeConfig,
    name: str,
    *,
    evaluation: Mapping[str, Any] | None = None,
    base_model: str | None = None,
    license: str | None = None,
    adapter: bool = False,
) -> ModelCard:
    """
    Write a judge's card.

    Args:
        config ([`JudgeConfig`]):
            The judge's `judge_config.json`.
        name (`str`):
            Model id on the Hub, or the name of a folder; the card's code loads it.
        evaluation (`Mapping`, *optional*):
            From [`~real_trl.publishing.results.read_evaluation`]. Without it the card says that there was none.
        base_model (`str`, *optional*):
            Model id on the Hub that the first stage started from. Defaults to what the stages recorded.
        license (`str`, *optional*):
            License, as the Hub names it (`apache-2.0`).
        adapter (`bool`, *optional*, defaults to `False`):
            Whether the weights are a LoRA adapter.

    Returns:
        [`~huggingface_hub.ModelCard`]: checked with [`check_card`].
    """
    name, lineage = redact_text(name), redacted(find_lineage(config, base_model))
    method = METHODS.get(config.method or "")
    data = [TrainingData.of(stage) for stage in lineage.stages]
    title = plain_line(name.rsplit("/", 1)[-1]) or "judge"
    card_data = ModelCardData(
        base_model=lineage.base_model,
        base_model_relation=None if lineage.base_model is None else ("adapter" if adapter else "finetune"),
        datasets=sorted({each.hub_dataset for each in data if each and each.hub_dataset}) or None,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        license=license and plain_line(license),
        model_name=title,
        tags=["llm-as-a-judge", "real_trl", "trl", *([method.tag] if method else []), "arxiv:2603.17145"],
        eval_results=eval_results(evaluation) if evaluation and eval_results(evaluation) else None,
    )
    calibration = config.read_calibration()
    template, scale = config.template(), Scale.parse(config.score_labels, config.score_values)
    page = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined)
    text = page.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        card_data=card_data.to_yaml(),
        title=markdown_escape(title),
        labels=markdown_escape(_cut(abridged(config.score_labels))),
        best=markdown_escape(_cut(scale.best)) if scale.lower_is_better else None,
        marker=markdown_code(_cut(config.score_marker.rstrip()) + "…"),
        reads="a complete prompt" if template is None else _variables_text(template),
        method=method,
        direct=not config.rationale,
        criteria=", ".join(map(markdown_code, map(_cut, config.criteria))),
        snippet=usage_snippet(name, template, rationale=config.rationale, criteria=config.criteria),
        adapter=adapter,
        base_code=markdown_code(lineage.base_model or "the base model"),
        stages=_stages(lineage),
        base_text=_base_text(lineage),
        data=_data_text(lineage),
        hyperparameters={
            markdown_code(_cut(name)): markdown_escape(_cut(value))
            for name, value in lineage.stages[-1].training.items()
            if value is not None and name != "data" and name not in unread_options(lineage.stages[-1].method)
        },
        evaluation=evaluation_table(evaluation) if evaluation else NOT_EVALUATED,
        calibration=None if calibration is None else markdown_escape(" ".join(calibration_text(calibration))),
        versions={
            markdown_escape(_cut(name)): markdown_escape(_cut(version)) for name, version in config.versions.items()
        },
        citation=CITATION,
    )
    card = ModelCard(text)
    if card.data.to_dict() != card_data.to_dict():
        raise ValueError(
            f"README.md: the metadata of {name!r} is not read as it was meant. Correct the names it is made of."
        )
    check_card(card)
    return card


def check_card(card: ModelCard) -> None:
    """
    Check what the Hub would: that the metadata is YAML of the right types, and reads back as it was written. (The Hub's own
    check needs a network; it is made when the card is uploaded.)

    Raises:
        `ValueError`: naming the fault.
    """
    metadata = yaml.safe_load(card.data.to_yaml())
    if ModelCard(str(card)).data.to_dict() != card.data.to_dict():
        raise ValueError(
            "README.md: its metadata does not read back as it was written. Correct the names it is made of."
        )
    for field in ("tags", "datasets"):
        if field in metadata and not all(isinstance(each, str) for each in metadata[field]):
            raise ValueError(f"README.md: {field} holds {metadata[field]!r}. They must be text.")
    for result in card.data.eval_results or ():
        if not isinstance(result.metric_value, int | float):
            raise ValueError(
                f"README.md: the figure {result.metric_name!r} is {result.metric_value!r}, not a number. Evaluate again."
            )


def usage_snippet(
    name: str, template: PromptTemplate | None, *, rationale: bool = True, criteria: Mapping[str, str] | None = None
) -> str:
    """Code that loads the judge and scores one response, with the variables that its prompt needs; by the first of its criteria."""
    lines = ["from real_trl import Judge", "", f"judge = Judge.from_pretrained({to_json(name, ensure_ascii=True)})"]
    if template is None:
        call = ['    prompt="…",  # a complete prompt, as the judge was trained on']
    else:
        variables = _row_variables(template)
        texts = {
            variable: to_json(_EXAMPLES.get(variable, f"({variable})"), ensure_ascii=True) for variable in variables
        }
        if criteria and "rubric" in texts:
            texts["rubric"] = f"judge.criteria[{to_json(next(iter(criteria)), ensure_ascii=True)}]"
        if set(variables) <= {"instruction", "response", "rubric", "reference"}:
            call = [f"    {variable}={text}," for variable, text in texts.items()]
        else:
            call = [
                "    {",
                *(f"        {to_json(v, ensure_ascii=True)}: {text}," for v, text in texts.items()),
                "    }",
            ]
    shown = "judgment.rationale" if rationale else "judgment.probabilities"
    return "\n".join([*lines, "judgment = judge.score(", *call, ")", f"print(judgment.expected_score, {shown})"])


def _row_variables(template: PromptTemplate) -> list[str]:
    """What a row must hold for the template, the usual names first; the reference is left out where it may be."""
    variables = template.variables - SETTINGS
    optional = {v for v in variables if f"if {v} is defined" in template.source}
    needed = sorted(variables - optional, key=lambda v: (list(_EXAMPLES).index(v) if v in _EXAMPLES else 99, v))
    return needed


def _variables_text(template: PromptTemplate) -> str:
    names = [markdown_code(variable) for variable in _row_variables(template)]
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else "".join(names)


def _stages(lineage: Lineage) -> list[str]:
    named = []
    for config in lineage.stages:
        method, data = METHODS.get(config.method or ""), TrainingData.of(config)
        rows = f", on {data.rows:,} rows of {markdown_escape(_cut(data.dataset_name))}" if data and data.rows else ""
        named.append(f"{method.name if method else markdown_escape(config.method or 'unknown method')}{rows}")
    return named


def _base_text(lineage: Lineage) -> str:
    if lineage.base_model:
        return f"[{lineage.base_model}](https://huggingface.co/{lineage.base_model})"
    if lineage.root:
        return f"{markdown_code(_cut(lineage.root))}, a local model that is not on the Hub as far as is known."
    return "not recorded."


def _data_text(lineage: Lineage) -> str:
    data = TrainingData.of(lineage.stages[-1])
    if not data:
        return "not recorded."
    hub = data.hub_dataset
    name = f"[{hub}](https://huggingface.co/datasets/{hub})" if hub else markdown_code(_cut(data.dataset_name))
    return f"{name}, split {markdown_code(_cut(data.split))}, {data.rows:,} rows."


def _cut(value: Any) -> str:
    """`value` as text; a card is no place for more than a few lines of it."""
    text = str(value)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
