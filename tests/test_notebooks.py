# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The notebooks run from top to bottom, and what is committed of them is complete, small and free of noise."""

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAX_BYTES = 300_000
# A rooted path of two or more parts; those in URLs and closing HTML tags have something in front of their first slash
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/<)])/(?:[\w.-]+/)+[\w.-]+|\b[A-Z]:\\\w+")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def texts(output: dict) -> list[str]:
    """What an output says, pictures left out."""
    data = {kind: value for kind, value in output.get("data", {}).items() if not kind.startswith("image/")}
    return ["".join(value) for value in (output.get("text", ""), *data.values()) if isinstance(value, (str, list))]


def pictures(cells: list[dict]) -> list[int]:
    """Pictures in the output of each cell."""
    return [sum("image/png" in output.get("data", {}) for output in cell["outputs"]) for cell in cells]


def defined_names(tree: ast.Module) -> set[str]:
    """Functions and classes that a module or notebook defines at its top level, lambdas with a name among them."""
    names = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


@cache
def package_names() -> set[str]:
    modules = (ROOT / "real_trl").rglob("*.py")
    names = set().union(*(defined_names(ast.parse(module.read_text(encoding="utf-8"))) for module in modules))
    return {name for name in names if not name.startswith("_")} - {"main"}


def test_the_names_of_the_package_are_found():
    assert {
        "REALTrainer",
        "RAFTTrainer",
        "regression_reward",
        "real_loss",
        "score_metrics",
        "Judge",
    } <= package_names()
    assert defined_names(ast.parse("def a(): ...\nclass B: ...\nc = lambda: 1\nd = 1")) == {"a", "B", "c"}


def test_absolute_paths_are_recognised():
    for text in ("saved to /home/me/judge", "'/opt/x.py'", r"C:\Users"):
        assert ABSOLUTE_PATH.search(text)
    for text in (
        "https://arxiv.org/abs/2603.17145",
        "../RESULTS.md",
        "<td>1</td>",
        "[a](b/c/d.md)",
        "1/2",
        "judge_eval/ood/rail",
    ):
        assert not ABSOLUTE_PATH.search(text)


@each_notebook
def test_committed_outputs_are_complete_and_quiet(path):
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), "not run from top to bottom"
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert outputs
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not [text for output in outputs if output.get("name") == "stderr" for text in texts(output)]
    bars = [text for output in outputs for text in texts(output) if re.search(r"\d+%\|", text)]
    assert not bars, "progress bars"
    assert sum(pictures(cells)) > 0


@each_notebook
def test_committed_notebooks_are_small_and_know_no_machine(path):
    assert path.stat().st_size < MAX_BYTES
    notebook = json.loads(path.read_text(encoding="utf-8"))
    found = [source(cell) for cell in notebook["cells"]]
    found += [text for cell in code_cells(path) for output in cell["outputs"] for text in texts(output)]
    assert not [match for text in found for match in ABSOLUTE_PATH.findall(text)]
    assert not [cell for cell in notebook["cells"] if cell["metadata"].get("execution")], "times of one run"


@each_notebook
def test_notebooks_define_nothing_that_the_package_has(path):
    tree = ast.parse("\n".join(source(cell) for cell in code_cells(path)))
    assert any(isinstance(n, ast.ImportFrom) and (n.module or "").split(".")[0] == "real_trl" for n in ast.walk(tree))
    assert not defined_names(tree) & package_names()


@pytest.mark.integrations
@each_notebook
def test_notebooks_run_from_top_to_bottom(path, tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()  # raises on the first error
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    assert pictures(cells) == pictures(code_cells(path)), "the committed figures are not those of this code"
    assert not list(tmp_path.iterdir()), "left behind in the working directory"
