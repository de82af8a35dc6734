# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What the README of a new judge says of the time after training: how new answers are scored, by a command and in Python."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from real_trl.data.files import EXTENSIONS
from real_trl.onboarding.columns import Roles
from real_trl.option_values import as_mapping
from real_trl.prompts.template import add_score_reminder
from real_trl.text.json_text import to_json


def how_to_score(
    data: str, judge: Path, roles: Roles, columns: Mapping[str, str], *, reminder: bool, dtype: str | None = None
) -> str:
    """
    The section on scoring new answers.

    Args:
        data (`str`):
            The user's file, by its name: new answers are probably in such a file too.
        judge (`Path`):
            Where training leaves the judge.
        roles ([`~real_trl.onboarding.Roles`]):
            Which column is what.
        columns (`Mapping[str, str]`):
            Field of the judge's prompt → column; unused where prompts are complete.
        reminder (`bool`):
            Whether training ended complete prompts with a sentence that asks for the score.
        dtype (`str`, *optional*):
            Type of the weights that the evaluation reads the judge with, by default as saved: what was evaluated is what is used.
    """
    file = f"new{Path(data).suffix.lower() if Path(data).suffix.lower() in EXTENSIONS else '.jsonl'}"
    precision, loaded = (f" --dtype {dtype}", f", dtype={to_json(dtype)}") if dtype else ("", "")
    where = f"--prompt_column {shlex.quote(roles.prompt)}" if roles.prompt else f"--columns {_as_option(columns)}"
    fields = ["prompt"] if roles.prompt else list(columns)
    called = [f'{name}="…"' for name in fields]
    if roles.criteria:
        called.append(f"rubric=judge.criteria[{to_json(next(iter(roles.criteria)))}]")
    scores = "of each criterion" if roles.criteria else "(`expected_score`, `probabilities`, …)"
    told = (
        f"\nIn training every prompt ended with a sentence that new ones need as well: `{add_score_reminder('').strip()}`\n"
        if reminder
        else ""
    )
    return f"""## Score new answers

With the columns called as in {data}:

```bash
real-trl score {file} --model {shlex.quote(str(judge))}{precision} {where}
```

writes `new.scored.jsonl`, the rows with the judge's scores {scores}. In Python the fields have the names of the judge's prompt,
{_listed(fields + (["rubric"] if roles.criteria else []))}, whatever the columns are called:

```python
from real_trl import Judge
judge = Judge.from_pretrained({to_json(str(judge))}{loaded})
print(judge.score({", ".join(called)}).expected_score)
```
{told}"""


def _as_option(columns: Mapping[str, str]) -> str:
    """A mapping for the command line: with commas, or as JSON if a name would be read as something else."""
    text = ",".join(f"{name}={column}" for name, column in columns.items())
    if as_mapping("columns", text) != dict(columns):
        text = to_json(dict(columns))
    return shlex.quote(text)


def _listed(names: list[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return " and ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))
