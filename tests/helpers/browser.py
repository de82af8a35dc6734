# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium that is driven over its DevTools protocol."""

import base64
import itertools
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.helpers.chromium import CHROMIUM, FLAGS


class Tab:
    """
    A page of the browser.

    Attributes:
        requested (`list[str]`): Every address that the page asked for.
        complaints (`list[str]`): Exceptions and errors of its scripts.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._ids = socket, itertools.count(1)
        self.requested: list[str] = []
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Give an order and wait for its result."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            event, values = message.get("method"), message.get("params", {})
            if event == "Network.requestWillBeSent":
                self.requested.append(values["request"]["url"])
            elif event == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(values["exceptionDetails"]))

    def open(self, url: str) -> None:
        """Go to an address."""
        assert "errorText" not in self.send("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page."""
        result = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, script: str, seconds: float = 180) -> Any:
        """The value of an expression as soon as it is true."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(script)):
            text = "document.body ? document.body.innerText.slice(0, 2000) : ''"
            assert time.monotonic() < end, f"never true: {script}\n{self.evaluate(text)}"
            time.sleep(0.1)
        return value

    def place(self, selector: str) -> dict[str, float]:
        """Where an element is in the window, after it was scrolled to."""
        quoted = json.dumps(selector)
        self.wait_for(f"document.querySelector({quoted}) !== null")
        return self.evaluate(
            f"(() => {{ const e = document.querySelector({quoted}); e.scrollIntoView({{block: 'center'}}); "
            "const r = e.getBoundingClientRect(); return {x: r.x, y: r.y, width: r.width, height: r.height}; })()"
        )

    def click(self, selector: str) -> None:
        """Click with the mouse on the middle of an element."""
        box = self.place(selector)
        at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, **at)

    def type(self, selector: str, text: str) -> None:
        """Click into a field, and replace what is in it."""
        self.click(selector)
        self.evaluate(f"document.querySelector({json.dumps(selector)}).select()")
        self.send("Input.insertText", text=text)

    def screenshot(self, path: Path) -> Path:
        """A PNG file of the whole page."""
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 4000), "scale": 1}
        data = self.send("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))
        return path


@contextmanager
def open_tab(folder: Path) -> Iterator[Tab]:
    """A new browser with an empty page; its profile is made in `folder`."""
    profile = folder / "profile"
    browser = subprocess.Popen(
        [
            CHROMIUM,
            *FLAGS,
            "--remote-debugging-port=0",
            "--window-size=1280,900",
            f"--user-data-dir={profile}",
            "about:blank",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        active, end = profile / "DevToolsActivePort", time.monotonic() + 60
        while not (active.is_file() and active.read_text().strip()):
            assert browser.poll() is None and time.monotonic() < end, "the browser did not start"
            time.sleep(0.1)
        port = active.read_text().split()[0]
        pages = [each for each in httpx.get(f"http://127.0.0.1:{port}/json").json() if each["type"] == "page"]
        with connect(pages[0]["webSocketDebuggerUrl"], max_size=None, proxy=None) as socket:
            yield Tab(socket)
    finally:
        browser.terminate()
        browser.wait(30)
