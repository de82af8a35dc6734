# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The documentation site as it is built: its links lead to its own files, nothing is loaded from elsewhere, and our marks are shown as code."""

import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.integrations


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> dict[str, str]:
    """Page → HTML."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    pages = {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in folder.rglob("*.html")}
    for name, html in pages.items():
        for target in re.findall(r'(?:href|src)="(?![a-z]+:|//|#)([^"#?]+)', html):
            where = folder if target.startswith("/") else (folder / name).parent
            assert (where / unescape(target).lstrip("/")).exists(), f"{name}: {target}"
    return pages


def test_the_readme_is_the_first_page_and_leads_to_files_outside_docs(site):
    assert '<h1 id="real_trl">' in site["index.html"] and 'href="repository/RESULTS.html"' in site["index.html"]
    found = site["repository/RESULTS.html"]
    assert "<table>" in found and 'href="../results/paper-in-miniature.html"' in found
    assert 'src="../paper-methods.png"' in site["results/paper-in-miniature.html"]


def test_nothing_is_loaded_from_elsewhere(site):
    for name, html in site.items():
        loaded = re.findall(r'src="([^"]*)"|<link[^>]*rel="(?:stylesheet|preconnect)"[^>]*href="([^"]*)"', html)
        assert loaded and not [url for pair in loaded for url in pair if re.match(r"https?:|//", url)], name


def test_the_reference_shows_names_and_types(site):
    judge = site["api/judge.html"]
    text = unescape(re.sub(r"<[^>]+>", "", judge))
    for shown in ("real_trl.judge.Judge", "from_pretrained", "the order of Judgment.probabilities"):
        assert shown in text
    for name, html in site.items():
        if name.startswith("api/"):
            assert not re.search(r"\[<code>~?[\w.]+</code>\]|\*optional\*|<code>[^<]*`[^<]*</code>", html), name
