# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From the `evaluation.json` of `real-trl evaluate` to what a model card holds: its table, and its `model-index`."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

from real_trl.evaluation.registry import METRICS, metric_names
from real_trl.publishing.files import JudgeFiles
from real_trl.report.cells import is_doubtful
from real_trl.report.markup import markdown_escape, markdown_verdict, plain_line
from real_trl.report.notation import EXPECTATIONS, INFERENCES, LEGEND, MARK, malformed_text
from real_trl.report.verdict_text import baseline_rows
from real_trl.runs.fingerprints import model_fingerprint
from real_trl.runs.folder import PROVENANCE_NAME
from real_trl.text.json_text import to_json
from real_trl.text.redaction import redacted
from real_trl.weights.files import read_json

EVALUATION_NAME = "evaluation.json"
_CEILINGS = {"leave_one_out": "A person, against the mean of the others", "between": "A person, against another"}


def read_evaluation(folder: str | Path, judge: JudgeFiles) -> dict[str, Any]:
    """
    Read an evaluation, and leave what it says about this judge.

    Judges of one training (a checkpoint and the final judge) differ in nothing but their weights, so it is the fingerprint of the
    weights that tells which one was evaluated, where the predictions beside the evaluation record it.

    Args:
        folder (`str` or `Path`):
            The `output_dir` of `real-trl evaluate`.
        judge ([`~real_trl.publishing.files.JudgeFiles`]):
            The judge that it must be about.

    Returns:
        `dict`: `results` (dataset → result), `settings`, `datasets`, `name` of the judge in it, its `judge` configuration there, and
        where they are known `base` (dataset → result of the model that it was trained from) and `ceiling` (dataset → agreement of raters).

    Raises:
        `ValueError`: if there is no evaluation, it is of other judges only, or several judges in it may be this one.
    """
    path = Path(folder)
    path = path / EVALUATION_NAME if path.is_dir() else path
    if not path.is_file():
        raise ValueError(
            f"--evaluation {str(folder)!r}: there is no {EVALUATION_NAME}. Give the output_dir of `real-trl evaluate`, or leave "
            "it out: the card then says that the judge was not evaluated."
        )
    try:
        found = _about(judge, read_json(path, max_bytes=2**28), path)
        evaluation_table(found), eval_results(found)
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise ValueError(
            f"--evaluation {str(path)!r}: this is no evaluation of real_trl ({error!r:.200}). Make it with `real-trl evaluate`."
        ) from error
    return found


def _about(judge: JudgeFiles, evaluation: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What an evaluation says about a judge."""
    judges, results = evaluation["judges"], evaluation["results"]
    config = judge.config
    own = {
        "score_labels": config.score_labels,
        "method": config.method,
        "base_model": config.base_model,
        "training": {name: value for name, value in config.training.items() if name != "data"},
    }

    def matches(entry: Mapping[str, Any]) -> bool:
        said = json.loads(to_json(entry.get("judge", {})))
        said["training"] = {n: v for n, v in (said.get("training") or {}).items() if n != "data"}
        return all(redacted(said.get(name)) == redacted(json.loads(to_json(value))) for name, value in own.items())

    names = [name for name, entry in judges.items() if matches(entry)]
    if not names:
        raise ValueError(
            f"--evaluation {str(path)!r}: it is about {', '.join(map(repr, judges))}, none of which has this judge's scale, method, "
            "base model and hyperparameters. Evaluate this judge, or give its own evaluation."
        )
    name = _of_these_weights(names, judges, results, path, judge.folder)
    about = {dataset: by_judge[name] for dataset, by_judge in results.items() if name in by_judge}
    base = judges[name].get("base")
    if not about:
        raise ValueError(
            f"--evaluation {str(path)!r}: it has no results of {name!r}. Make it with `real-trl evaluate`."
        )
    return {
        "name": name,
        "judge": judges[name].get("judge") or {},
        "results": about,
        "settings": evaluation.get("settings", {}),
        "datasets": evaluation.get("datasets", {}),
        "base": {dataset: results[dataset][base] for dataset in about if base in results[dataset]},
        "ceiling": {dataset: found for dataset, found in evaluation.get("ceiling", {}).items() if dataset in about},
    }


def _of_these_weights(
    names: Sequence[str], judges: Mapping[str, Any], results: Mapping[str, Any], path: Path, folder: Path
) -> str:
    """The one of `names` with the weights in `folder`; without any record of the weights, the only one there is."""
    recorded = {name: _fingerprints(name, judges[name].get("model"), results, path.parent) for name in names}
    own = model_fingerprint(str(folder)) if any(recorded.values()) else None
    same = [name for name in names if recorded[name] == {own}]
    possible = same or [name for name in names if not recorded[name]]
    if not possible:
        raise ValueError(
            f"--evaluation {str(path)!r}: {', '.join(map(repr, names))} in it was trained as the judge in {str(folder)!r}, but has "
            "other weights (another checkpoint, or weights or a tokenizer changed since). Evaluate this judge, or give its own evaluation."
        )
    if len(possible) > 1:
        raise ValueError(
            f"--evaluation {str(path)!r}: {', '.join(map(repr, possible))} in it may each be the judge in {str(folder)!r}. Evaluate this "
            "judge alone, and give that evaluation."
        )
    return possible[0]


def _fingerprints(name: str, model: str | None, results: Mapping[str, Any], folder: Path) -> set[str]:
    """Fingerprints of an evaluated judge's weights, from the predictions in `folder`; without these, of its directory as it is now."""
    found = set()
    for dataset, by_judge in results.items():
        provenance = folder / "predictions" / name / dataset / PROVENANCE_NAME
        if name in by_judge and provenance.is_file():
            made_with = read_json(provenance)["made_with"]
            found.add(made_with["model"]["fingerprint"])
    if not found and model and Path(model).is_dir():
        found.add(model_fingerprint(model))
    # What a server or the Hub calls a model says nothing about the files here
    return {each for each in found if each.startswith("sha256 ")}


def dataset_label(dataset: str, settings: Mapping[str, Any]) -> str:
    """What an evaluated dataset is called in public: a split gets the name of its data before it."""
    source = (settings.get("data") or {}).get("dataset_name")
    arguments = settings.get("arguments") or {}
    if source is None or dataset in (arguments.get("benchmarks") or ()):
        return dataset
    return f"{public_data_name(source)}, {dataset}"


def public_data_name(name: str) -> str:
    """A Hub id as it is; of a path, the last part."""
    path = Path(name)
    is_path = path.exists() or path.is_absolute() or name.count("/") != 1 or bool(path.suffix)
    return path.name if is_path else name


def evaluation_table(evaluation: Mapping[str, Any]) -> str:
    """The results as a Markdown table: a row for each dataset and inference, with 95% intervals; a constant answer, the base model and people beside them."""
    shown = metric_names((), groups=False)
    heads = [METRICS[name].in_words for name in shown]
    lines = [f"| data | inference | n | {' | '.join(heads)} |", f"|---|---|---|{'---|' * len(heads)}"]
    for dataset, result in evaluation["results"].items():
        for inference, title in INFERENCES.items():
            doubt = MARK if is_doubtful(result, inference) else ""
            cells = [_cell(result, inference, name, doubt) for name in shown]
            label = markdown_escape(dataset_label(dataset, evaluation["settings"]))
            lines.append(f"| {label} | {title} | {result[inference]['n']} | {' | '.join(cells)} |")
        for always in baseline_rows({evaluation["name"]: result}, shown):
            texts = [markdown_escape(cell.text) for cell in always]
            lines.append(f"| {label} | Always {texts[1]} | {texts[-1]} | {' | '.join(texts[2:-1])} |")
        beside = evaluation.get("base", {}).get(dataset)
        for inference, title in INFERENCES.items() if beside else ():
            doubt = MARK if is_doubtful(beside, inference) else ""
            cells = [_cell(beside, inference, name, doubt) for name in shown]
            lines.append(
                f"| {label} | Before training, {title} | {markdown_escape(beside[inference]['n'])} | {' | '.join(cells)} |"
            )
        ceiling = evaluation.get("ceiling", {}).get(dataset)
        for what, whom in _CEILINGS.items() if ceiling else ():
            cells = [_cell(ceiling, what, name, "") for name in shown]
            lines.append(f"| {label} | {whom} | {markdown_escape(ceiling['n_rows'])} | {' | '.join(cells)} |")
    malformed = "; ".join(
        f"{dataset_label(dataset, evaluation['settings'])}: {malformed_text(result)}"
        for dataset, result in evaluation["results"].items()
    )
    note = f"Completions without a score: {markdown_escape(malformed)}."
    legend = " ".join([LEGEND, *(METRICS[name].legend for name in shown if METRICS[name].legend)])
    rule = evaluation.get("judge", {}).get("normalize_expectation")
    expectation = "" if rule is None else f" RAIL: {EXPECTATIONS[bool(rule)]}."
    text = f"{legend} In brackets: 95% bootstrap intervals, by {_resampled(evaluation)}. {note}{expectation}"
    named = {
        dataset_label(dataset, evaluation["settings"]): {evaluation["name"]: result}
        for dataset, result in evaluation["results"].items()
    }
    return "\n".join([*lines, "", text, *filter(None, ["", markdown_verdict(named)])])


def _resampled(evaluation: Mapping[str, Any]) -> str:
    """What the intervals resample: questions, unless every row was one of its own."""
    sizes = [evaluation["datasets"].get(name, {}) for name in evaluation["results"]]
    return "row" if all(size.get("n_groups") == size.get("n_rows") for size in sizes) else "question"


def _cell(result: Mapping[str, Any], inference: str, metric: str, doubt: str) -> str:
    value = METRICS[metric].print(result[inference].get(metric)) + doubt
    interval = result.get("intervals", {}).get(inference, {}).get(metric)
    if not interval or any(end is None for end in interval):
        return value
    return f"{value} [{', '.join(METRICS[metric].print(end) for end in interval)}]"


def eval_results(evaluation: Mapping[str, Any]) -> list[EvalResult]:
    """The figures for the card's `model-index`, where nobody sees a mark: those that are defined and worth something, in the metrics' own units (correlations from -1 to 1)."""
    found = []
    source = (evaluation["settings"].get("data") or {}).get("dataset_name")
    for dataset, result in evaluation["results"].items():
        dataset = plain_line(dataset)
        label = plain_line(dataset_label(dataset, evaluation["settings"]))
        for inference, title in INFERENCES.items():
            for metric in metric_names((), groups=False):
                value = result[inference].get(metric)
                if value is None or not math.isfinite(value) or is_doubtful(result, inference):
                    continue
                found.append(
                    EvalResult(
                        task_type="text-generation",
                        task_name="LLM-as-a-judge scoring",
                        dataset_type=dataset if label == dataset else plain_line(public_data_name(source)),
                        dataset_name=label,
                        dataset_split=None if label == dataset else dataset,
                        metric_type=metric,
                        metric_name=f"{metric} ({title})",
                        metric_value=value,
                    )
                )
    return found
