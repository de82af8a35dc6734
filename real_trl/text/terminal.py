# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The one way out of a command: what it prints, logs and raises goes to the terminal without secrets ([`redact_text`]) and with control
characters that can be seen ([`printable`]), whoever wrote it.
"""

import logging
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from real_trl.text.redaction import redact_text
from real_trl.text.shown import printable

_MOVES_OF_BARS = re.compile(r"\n*(?:\x1b\[A)+|\r")  # what tqdm writes beside its bars


def clean(text: str) -> str:
    """`text` as it may be shown."""
    return printable(redact_text(text))


class CleanStream:
    """
    A stream of text in front of another one. Carriage returns at the beginning of what is written stay: progress bars
    have them.

    Args:
        stream (`TextIO`): Where the text goes.
        styled (`bool`): Whether it may say that it is a terminal. Libraries that believe so write colours, which would be escaped.
    """

    def __init__(self, stream: TextIO, styled: bool) -> None:
        self.stream, self._styled = stream, styled

    def write(self, text: str) -> int:
        """Write it clean."""
        if _MOVES_OF_BARS.fullmatch(text):
            self.stream.write(text)
            return len(text)
        start = "\r" if text.startswith("\r") and not text.startswith("\r\n") else ""
        shown = start + clean(text[len(start) :])
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        self.stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def isatty(self) -> bool:
        """Whether it is a terminal, and may say so."""
        return self._styled and self.stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class CleanConsole(Console):
    """Rich's console for text of whatever origin: its own styles are styles, but no text is markup, emoji or a control sequence."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})

    @property
    def file(self) -> TextIO:
        """The stream itself: what is written to it is clean already, and has styles."""
        stream = self._file or (sys.stderr if self.stderr else sys.stdout)
        return stream.stream if isinstance(stream, CleanStream) else stream

    @file.setter
    def file(self, new: TextIO) -> None:
        self._file = new

    def render_str(self, text: str, **options: Any) -> Text:
        """As of rich, with clean text, whose width is then known."""
        return super().render_str(clean(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As of rich, with clean text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=clean(segment.text))


class CleanRecord(logging.LogRecord):
    """A record whose message, and traceback, are clean for every handler."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.exc_info and not self.exc_text:
            self.exc_text = clean("".join(traceback.format_exception(*self.exc_info)).rstrip("\n"))

    def getMessage(self) -> str:  # noqa: N802 (logging's name)
        """The message."""
        return clean(super().getMessage())


@contextmanager
def command_line() -> Iterator[None]:
    """Around a command, as a decorator of its `main`: all that it shows is clean, also the error that ends it. Within another one it does nothing."""
    if isinstance(sys.stdout, CleanStream):
        yield
        return
    streams, factory = (sys.stdout, sys.stderr), logging.getLogRecordFactory()
    sys.stdout, sys.stderr = CleanStream(sys.stdout, styled=False), CleanStream(sys.stderr, styled=True)
    logging.setLogRecordFactory(CleanRecord)
    hook = sys.__excepthook__ if sys.excepthook is _show_uncaught else sys.excepthook
    sys.excepthook = _show_uncaught
    try:
        yield
        sys.excepthook = hook
    except SystemExit:
        sys.excepthook = hook
        raise  # any other error may be one that nobody catches, which Python shows by the hook after this
    finally:
        sys.stdout, sys.stderr = streams
        logging.setLogRecordFactory(factory)


def _show_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    first = next(iter(str(error).strip().splitlines()), "")
    if kind.__name__ == "OutOfMemoryError":
        fix = "Use smaller batches, or shorter texts; `real-trl plan` says what a recipe needs."
    else:
        fix = (
            "This is no error that real_trl knows: it may be a fault of its own, or of a library. What follows is for a bug report, "
            "with what `real-trl doctor` prints."
        )
    text = "".join(traceback.format_exception(kind, error, trace))
    sys.stderr.write(clean(f"error: {kind.__name__}: {first}\n{fix}\n\n{text}"))
