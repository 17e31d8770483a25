"""A headless Chromium, spoken to through a pipe: what a page asks of the network, complains of, and looks like."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

__all__ = ["Browser", "Visit", "browsing", "chromium"]

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
SILENCE_S: Final = 120.0  # a browser that says nothing for so long will never say anything


def chromium() -> str | None:
    """Where a Chromium is, if there is one among the programs of this machine."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Visit:
    """What a page did while it was open: addresses that it asked for beside its own, and complaints on the console."""

    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    load_s: float = 0.0


class Browser:
    """One page at a time. Messages are JSON with a zero byte behind each."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._buffer, self._last, self._session, self._url, self._loaded = b"", 0, "", "", False
        self.visit = Visit()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its answer; what happens meanwhile is noted.

        Raises:
            RuntimeError: the browser refused, ended, or fell silent.
        """
        number = self._send(method, params)
        while (answer := self._next()).get("id") != number:
            self._note(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error'].get('message')}")
        result: dict[str, Any] = answer["result"]
        return result

    def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """Be so large, and have the person ask for a dark page or a light one."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="", features=[scheme])

    def open(self, url: str) -> Visit:
        """Load a page and watch it for a second more."""
        self.visit, began, self._loaded, self._url = Visit(), time.perf_counter(), False, url
        self.call("Page.navigate", url=url)
        while not self._loaded:
            self._note(self._next())
        self.visit.load_s = time.perf_counter() - began
        time.sleep(1)
        self.value("1")  # whatever came in the meantime is noted
        return self.visit

    def value(self, expression: str) -> Any:
        """What an expression is on the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def screenshot(self, path: Path, *, top: int = 0, height: int | None = None) -> None:
        """The page from `top` on, all of it by default, as PNG."""
        box = self.call("Page.getLayoutMetrics")["cssContentSize"]
        tall = min(box["height"] - top, height or box["height"])
        clip = {"x": 0, "y": top, "width": box["width"], "height": tall, "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _send(self, method: str, params: dict[str, Any]) -> int:
        """A command whose answer nobody waits for yet; its number."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        return self._last

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], SILENCE_S)[0]:
                raise RuntimeError(f"the browser has said nothing for {SILENCE_S:.0f} s")
            read = os.read(self._read, 1 << 20)
            if not read:
                raise RuntimeError("the browser ended")
            self._buffer += read
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        method, params = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            url = str(params["request"]["url"])
            if url != self._url and not url.startswith("data:"):
                self.visit.requests.append(url)
        elif method == "Page.javascriptDialogOpening":
            self.visit.errors.append(f"a dialog: {params['message']}")
            self._send("Page.handleJavaScriptDialog", {"accept": True})  # nothing goes on while it is open
        elif method == "Runtime.exceptionThrown":
            self.visit.errors.append(str(params["exceptionDetails"].get("text")))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert", "warning"):
            self.visit.errors.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.visit.errors.append(str(params["entry"]["text"]))


@contextlib.contextmanager
def browsing(program: str) -> Iterator[Browser]:
    """A browser with a profile of its own, ended and forgotten afterwards."""
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    # The browser reads commands from descriptor 3 and answers on 4; only a shell can be told so portably.
    shell = f'exec "$@" 3<&{in_read} 4>&{out_write}'
    with tempfile.TemporaryDirectory(prefix="whereupon-browser-") as profile:
        arguments = [
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
            "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank",
        ]  # fmt: skip
        process = subprocess.Popen(
            ["bash", "-c", shell, "browser", *arguments], pass_fds=(in_read, out_write),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(in_read)
        os.close(out_write)
        try:
            yield Browser(out_read, in_write)
        finally:
            os.close(in_write)  # it ends when nobody can speak to it any more
            os.close(out_read)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
