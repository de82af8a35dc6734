# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
What MkDocs does beside mkdocs.yml: README.md is the first page; the files of the repository that pages link to are part of the site, so
that the same links work there and where the repository is browsed; and the marks of our docstrings are shown as code.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
_TARGET = re.compile(r"(?<=\]\()(?![a-z]+:|[#/])([^)\s#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add README.md, and all that it and the pages link to, directly or by way of each other."""
    waiting = ["README.md", *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        if files.get_file_from_path(_uri(path)) is None:
            files.append(File.generated(config, _uri(path), abs_src_path=str(ROOT / path)))
        if path.endswith(".md"):
            linked = {_resolved(path, target) for target in _TARGET.findall((ROOT / path).read_text(encoding="utf-8"))}
            new = {target for target in linked - seen if (ROOT / target).is_file()}
            seen |= new
            waiting += sorted(new)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as they are in the site."""
    here = page.file.src_uri
    path = "README.md" if here == "index.md" else here.removeprefix("repository/")
    path = path if path != here or here == "index.md" else f"docs/{here}"

    def in_the_site(match: re.Match) -> str:
        target = _resolved(path, match[1])
        return (
            posixpath.relpath(_uri(target), posixpath.dirname(here) or ".") if (ROOT / target).exists() else match[0]
        )

    return _TARGET.sub(in_the_site, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """In the reference, [`~real_trl.judge.Judge`] is `Judge`, and a type in backticks the type."""
    if not page.file.src_uri.startswith("api/"):
        return html
    html = re.sub(r"\[(`|<code>)~[\w.]*?(\w+)(`|</code>)\]", r"\1\2\3", html)
    html = re.sub(r"\[(`|<code>)([\w.]+)(`|</code>)\]", r"\1\2\3", html)
    return re.sub(r"<code>[^<]*[`*][^<]*</code>", _plain, html)


def _plain(code: re.Match) -> str:
    """``<code>`str`, *optional*, defaults to `a`</code>``, whose default is shown beside it, without its marks."""
    return re.sub(r", \*optional\*.*(?=</code>)|`|\*(?=optional)|(?<=optional)\*", "", code[0])


def _resolved(path: str, target: str) -> str:
    """The file of the repository that a link in another one leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), target))


def _uri(path: str) -> str:
    """Where a file of the repository is in the site."""
    if path == "README.md":
        return "index.md"
    return path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}"
