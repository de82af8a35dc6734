# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What stands around the code: the package's metadata, the files by which others cite it and report faults, and the public CI."""

import re
import subprocess
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

import real_trl
from real_trl.methods import CITATION

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def setup_cfg() -> ConfigParser:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def read(path: str):
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_every_file_of_the_package_that_is_no_code_is_package_data(setup_cfg):
    """Else a wheel lacks it; `py.typed` tells type checkers that the package has types."""
    patterns = setup_cfg["options.package_data"]["real_trl"].split()
    package = ROOT / "real_trl"
    shipped = {path for pattern in patterns for path in package.glob(pattern)}
    others = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc", ".md")}
    assert others <= shipped and package / "py.typed" in shipped


def test_the_citation_is_of_this_version_and_of_the_paper():
    cited = read("CITATION.cff")
    assert cited["version"] == real_trl.__version__ and cited["license"] == "Apache-2.0"
    (paper,) = cited["references"]
    assert paper["title"] in CITATION and str(paper["year"]) in CITATION
    people = " and ".join(f"{author['given-names']} {author['family-names']}" for author in paper["authors"])
    assert people in CITATION


def test_the_changelog_has_this_version_with_its_date():
    """And what is not released stands above it."""
    heads = re.findall(r"^## \[(.+?)\](.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert heads[:2] == [("Unreleased", ""), (real_trl.__version__, f" - {read('CITATION.cff')['date-released']}")]


def test_a_bug_report_asks_for_what_the_doctor_prints():
    report = read(".github/ISSUE_TEMPLATE/bug_report.yml")
    asked = {part["id"]: part for part in report["body"] if "id" in part}
    assert "real-trl doctor" in asked["doctor"]["attributes"]["label"]
    assert asked["doctor"]["validations"]["required"] is True
    for path in ROOT.glob(".github/ISSUE_TEMPLATE/*.yml"):
        assert read(f".github/ISSUE_TEMPLATE/{path.name}")


def test_public_ci_runs_on_every_python_of_the_classifiers(setup_cfg):
    jobs = read(".github/workflows/ci.yml")["jobs"]
    classified = re.findall(r"Python :: (3\.\d+)$", setup_cfg["metadata"]["classifiers"], re.MULTILINE)
    assert jobs["test"]["strategy"]["matrix"]["python-version"] == classified
    assert setup_cfg["options"]["python_requires"] == f">={classified[0]}"
    assert jobs["newest"]["continue-on-error"] is True and "continue-on-error" not in jobs["test"]


def test_the_hook_before_a_commit_has_the_tested_ruff():
    hooks = {hook["repo"].rpartition("/")[2]: hook["rev"] for hook in read(".pre-commit-config.yaml")["repos"]}
    assert f"ruff=={hooks['ruff-pre-commit'].lstrip('v')}\n" in (ROOT / "constraints.txt").read_text(encoding="utf-8")


def test_recipes_are_package_data_in_a_clone_and_in_a_wheel(setup_cfg):
    """A link in a clone; what is behind it is copied into wheels, by patterns that reach all of it."""
    patterns = setup_cfg["options.package_data"]["real_trl"].split()
    shipped = {path for pattern in patterns for path in (ROOT / "real_trl").glob(pattern) if path.is_file()}
    recipes = {path.relative_to(ROOT) for path in (ROOT / "recipes").rglob("*") if path.is_file()}
    assert recipes and {path.relative_to(ROOT / "real_trl") for path in shipped} >= recipes
    for path in recipes:
        assert (ROOT / "real_trl" / path).read_bytes() == (ROOT / path).read_bytes()


def test_an_sdist_has_every_file_that_is_committed():
    """By the patterns of MANIFEST.in; but where it is unpacked already, there is nothing to compare with."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    manifest = (ROOT / "MANIFEST.in").read_text(encoding="utf-8")
    whole = re.findall(r"^graft (\S+)$", manifest, re.MULTILINE)
    included = re.search(r"^include (.*)$", manifest, re.MULTILINE)[1].split()
    by_setuptools = ("real_trl/", "setup.cfg", "pyproject.toml", "MANIFEST.in")
    for file in filter(None, files):
        listed = any(fnmatch(file, pattern) and file.count("/") == pattern.count("/") for pattern in included)
        package = file.startswith(by_setuptools) and not file.endswith(".md")
        assert listed or package or file.startswith(tuple(f"{folder}/" for folder in whole)), file
