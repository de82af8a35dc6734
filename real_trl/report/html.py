# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""One self-contained HTML page of an evaluation: figures, plots, and every row to sort, filter and read."""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from real_trl.report.curves import Predictions, check_predictions, evaluation_figures
from real_trl.report.legend import legend
from real_trl.report.rows import browser_data
from real_trl.report.tables import Evaluation, all_sheets, check_evaluation
from real_trl.report.verdict_text import verdict
from real_trl.text.json_text import to_json

_FOLDER = Path(__file__).parent


def html_report(
    evaluation: Evaluation,
    predictions: Predictions,
    path: str | Path,
    title: str = "Judge evaluation",
    plots: Sequence[Path] | None = None,
) -> Path:
    """
    Writes an evaluation as one HTML file that needs no network: its tables, plots, settings and versions, and a browser
    of the predictions with prompt, rationales and distributions.

    What comes from data is escaped, and a content security policy lets the browser run no script but the page's own.

    Args:
        predictions (`Mapping[str, Mapping[str, pandas.DataFrame]]`):
            Dataset → judge → predictions. Rows of several judges are joined by their column `row`. Columns that the
            predictions do not have of their own can be filtered by.
        path (`str` or `Path`):
            Where the page goes; the folder is made. What is shown is kept in the address, such as
            `report.html#sort=disagreement&open=3`, so a link leads to a row.
        title (`str`, *optional*, defaults to `"Judge evaluation"`):
            The page's title.
        plots (`Sequence[Path]`, *optional*):
            PNG files to show, as [`save_plots`] returns them. Default: they are drawn; without matplotlib the page says that
            there are none.

    Raises:
        `ValueError`: If the evaluation holds no results, has none for some predictions, or two judges' predictions of one
        row differ in id or target.
    """
    check_evaluation(evaluation)
    check_predictions(evaluation, predictions)
    script = "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in ("page.js", "page_row.js"))
    return write_page(
        "page.html.jinja",
        path,
        title=title,
        evaluation=evaluation,
        sheets=all_sheets(evaluation),
        legend=legend(evaluation),
        verdict=verdict(evaluation["results"]),
        plots=_embedded(evaluation, predictions, plots),
        data=script_json(browser_data(evaluation, predictions)),
        details={key: _pretty(evaluation[key]) for key in ("judges", "settings", "versions") if evaluation.get(key)},
        script=Markup(script),  # the page's own file, not data
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def write_page(template: str, path: str | Path, **content: Any) -> Path:
    """Writes a page of this folder, with its style, as one HTML file; what comes from `content` is escaped unless it is `Markup`."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup((_FOLDER / "page.css").read_text(encoding="utf-8"))
    page = environment.get_template(template).render(style=style, **content)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(page, encoding="utf-8", newline="\n")
    return Path(path)


def script_json(value: Any) -> Markup:
    """`value` as JSON that is safe within `<script>`: nothing in it ends the element or opens a comment."""
    text = to_json(value, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


def embedded_image(png: bytes) -> str:
    """A PNG as a `data:` address."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _embedded(evaluation: Evaluation, predictions: Predictions, plots: Sequence[Path] | None) -> dict[str, str]:
    """Name → `data:` address of every plot."""
    if plots is not None:
        return {path.stem: embedded_image(path.read_bytes()) for path in map(Path, plots)}
    try:
        figures = evaluation_figures(evaluation, predictions)
    except ImportError:
        return {}
    embedded = {}
    for name, figure in figures.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        embedded[name] = embedded_image(buffer.getvalue())
    return embedded


def _pretty(value: Mapping[str, Any]) -> str:
    return to_json(value, indent=2, default=str)
