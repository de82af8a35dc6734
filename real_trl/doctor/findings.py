# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a check has found, and how all of them are run and shown."""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich import box
from rich.table import Table
from rich.text import Text

from real_trl.doctor.subject import Subject
from real_trl.text.terminal import CleanConsole

Status = Literal["ok", "failed", "warning", "skipped"]
_STYLES = {"ok": "green", "failed": "bold red", "warning": "yellow", "skipped": "dim"}


@dataclass(frozen=True)
class Finding:
    """
    Attributes:
        status (`str`):
            `"failed"`: something gives wrong numbers or will not run. `"warning"`: it works, but slowly, or is not what was tested.
            `"skipped"`: not looked at, for the reason that `measured` gives.
        measured (`str`):
            What was found.
        bound (`str`):
            What it had to be; empty if it is only told.
        advice (`str`):
            What to do if it is not.
    """

    status: Status
    measured: str
    bound: str = ""
    advice: str = ""


Check = Callable[[Subject], Finding]
Group = (
    Mapping[str, Check] | Callable[[Subject], dict[str, Finding]]
)  # checks, or a function that makes all of them with one engine
Report = dict[str, dict[str, Finding]]


def judged(good: bool, measured: str, bound: str, advice: str, *, otherwise: Status = "failed") -> Finding:
    """`"ok"` if it is `good`, else `otherwise` with what to do."""
    return Finding("ok", measured, bound) if good else Finding(otherwise, measured, bound, advice)


def skipped(reason: str) -> Finding:
    """Not looked at."""
    return Finding("skipped", reason)


def run_checks(groups: Mapping[str, Group], subject: Subject) -> Report:
    """What every check of every group finds; one that fails with an exception is `"failed"`."""
    report: Report = {}
    for title, group in groups.items():
        if isinstance(group, Mapping):
            report[title] = {name: _run(check, subject) for name, check in group.items()}
        else:
            found = _run(group, subject)
            report[title] = {"start": found} if isinstance(found, Finding) else found
    return report


def _run(check: Callable[[Subject], Any], subject: Subject) -> Any:
    try:
        return check(subject)
    except Exception as error:  # whatever it is: it is what the report is for
        return raised(error)


def raised(error: Exception) -> Finding:
    """A check has failed with it."""
    said = (str(error).splitlines() or [""])[0]
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{frame.filename.rpartition('site-packages/')[2].rpartition('/real_trl/')[2]}:{frame.lineno}"
    return Finding("failed", f"{type(error).__name__}: {said:.200}", "no error", f"It was raised in {where}.")


def failures(report: Report) -> list[str]:
    """Names of the checks that failed, each with its group."""
    return [
        f"{title}: {name}" for title, rows in report.items() for name, row in rows.items() if row.status == "failed"
    ]


def print_report(
    report: Report, console: CleanConsole | None = None, examined: Mapping[str, Any] | None = None
) -> None:
    """What was examined, a table for each group, and below them what to do."""
    console = console or CleanConsole()
    for name, value in (examined or {}).items():
        if value is not None:
            console.print(f"{name}: {value}")
    for title, rows in report.items():
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        for column in (title, "", "found", "must be"):
            table.add_column(Text(column, style="bold"), overflow="fold")
        for name, row in rows.items():
            table.add_row(name, Text(row.status, style=_STYLES[row.status]), row.measured, row.bound)
        console.print(table)
    for title, rows in report.items():
        for name, row in rows.items():
            if row.advice:
                console.print(f"{row.status}: {title}, {name}: {row.advice}", style=_STYLES[row.status])
    failed = failures(report)
    counts = [row.status for rows in report.values() for row in rows.values()]
    said = ", ".join(f"{counts.count(status)} {status}" for status in _STYLES if status in counts)
    console.print(f"{said}.", style="bold red" if failed else "bold green")


def as_json(report: Report, examined: Mapping[str, Any]) -> dict[str, Any]:
    """The report, and what was `examined`, as one JSON object."""
    groups = {title: {name: asdict(row) for name, row in rows.items()} for title, rows in report.items()}
    return {"subject": dict(examined), "failed": failures(report), "groups": groups}
