# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What commands show: no secret, and no control character but those of our own styles and bars."""

import io
import logging
import subprocess
import sys

import pytest
from rich.table import Table
from rich.text import Text
from tqdm import tqdm

from real_trl.text.terminal import CleanConsole, CleanStream, command_line

ESCAPES = "\x1b[31m\x1b]0;owned\x07\x9b2J\rover\u202e"
SHOWN = r"\u001b[31m\u001b]0;owned\u0007\u009b2J\u000dover\u202e"
TOKEN = "hf_" + "Terminal7" * 3


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@command_line()
def show(text: str) -> None:
    print("print:", text)
    print("error:", text, file=sys.stderr)
    logging.getLogger("anything").warning("log: %s", text)
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger("anything").exception("exception")
    tqdm([], desc=text).close()


def test_everything_that_a_command_shows_is_clean(capsys):
    handler = logging.StreamHandler(sys.stderr)  # as libraries have them, from before the command
    logging.getLogger("anything").addHandler(handler)
    hook = sys.excepthook
    try:
        show(f"{ESCAPES} {TOKEN}")
    finally:
        logging.getLogger("anything").removeHandler(handler)
    out, err = capsys.readouterr()
    assert out == f"print: {SHOWN} [redacted]\n"
    for part in (f"error: {SHOWN} [redacted]", f"log: {SHOWN} [redacted]", f"ValueError: {SHOWN} [redacted]"):
        assert part in err
    assert f"{SHOWN} [redacted]: 0it" in err
    assert not set(out + err.replace("\r", "")) & set("\x1b\x07\x9b\r\u202e") and TOKEN not in err
    assert sys.excepthook is hook
    print(ESCAPES)  # after the command, the streams are the process's own
    assert capsys.readouterr().out == f"{ESCAPES}\n"


def test_what_python_calls_on_errors_is_put_back():
    hook = sys.excepthook
    with pytest.raises(SystemExit), command_line():
        raise SystemExit(2)
    assert sys.excepthook is hook
    with pytest.raises(KeyError), command_line():
        raise KeyError  # which Python would show, after the command
    show("the next one")
    assert sys.excepthook in (hook, sys.__excepthook__)
    sys.excepthook = hook


def test_bars_move_and_data_do_not():
    terminal = Terminal()
    stream = CleanStream(terminal, styled=True)
    for text in ("\r 50%", "\n\x1b[A", "\r", "\x1b[Adata", "a\rb", "\r\n"):
        stream.write(text)
    assert terminal.getvalue() == "\r 50%\n\x1b[A\r\\u001b[Adataa\\u000db\n"
    assert stream.isatty() and not CleanStream(terminal, styled=False).isatty()


def test_styles_are_ours_and_text_is_text():
    terminal = Terminal()
    console = CleanConsole(file=terminal, force_terminal=True, color_system="standard", width=200)
    console.print(f"[bold]{ESCAPES}[/bold] [link=http://evil]x[/link] :smile: {TOKEN}", style="red")
    table = Table("head [red]er", title=Text(ESCAPES, style="bold"))
    table.add_row(f"[bold]{ESCAPES}")
    console.print(table)
    shown = terminal.getvalue()
    tables = SHOWN.replace(r"\u0007", "").replace(r"\u000d", "")  # rich takes these out of its own texts
    assert f"\x1b[31m[bold]{SHOWN}[/bold] [link=http://evil]x[/link] :smile: [redacted]\x1b[0m" in shown
    assert (
        f"[bold]{SHOWN}" in shown and "head [red]er" in shown and f"\x1b[1m{tables}\x1b[0m" in shown.replace(" ", "")
    )
    assert not set(shown) & set("\x07\x9b\r\u202e") and "\x1b]" not in shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_that_cannot_write_a_letter_gets_its_escape(encoding):
    buffer = io.BytesIO()
    stream = CleanStream(io.TextIOWrapper(buffer, encoding=encoding), styled=False)
    stream.write("ŷ \ud800")
    stream.flush()
    assert buffer.getvalue().decode(encoding) == (r"ŷ \ud800" if encoding == "utf-8" else r"\u0177 \ud800")


@pytest.mark.parametrize("argv", [["sft", f"--acc\x1b[31m {TOKEN}"], ["no\x1b[31mstage"], ["init", "no\x1b[31m.csv"]])
def test_errors_of_the_command_line(argv):
    run = subprocess.run([sys.executable, "-m", "real_trl.cli", *argv], capture_output=True, text=True)
    assert run.returncode and "\x1b" not in run.stderr + run.stdout and TOKEN not in run.stderr
    assert r"\x1b[31m" in run.stderr  # as Python writes it


def test_what_nobody_catches():
    code = (
        "from real_trl.text.terminal import command_line\n@command_line()\ndef main():\n"
        f"    raise RuntimeError({ESCAPES!r} + {TOKEN!r})\nmain()"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 1 and f"RuntimeError: {SHOWN}[redacted]" in run.stderr
    assert "\x1b" not in run.stderr and TOKEN not in run.stderr.replace("'", "")
    assert run.stderr.startswith("error: RuntimeError: ") and "doctor" in run.stderr.partition("Traceback")[0]
