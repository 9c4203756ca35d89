"""Open every page of the site in headless Chromium, with the network off, and list what is wrong with it.

Chromium is driven by its own protocol through two pipes, so that nothing but Chromium is needed.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

CHECK = Path(__file__).with_name("check_page.js")
WIDTHS = {1280: 900, 390: 844}
"""Width of the window and its height, of a desk and of a telephone."""
# Names are not resolved, so that no page reaches the network by a way that is not seen here.
FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--no-first-run", "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND", "--hide-scrollbars",
)  # fmt: skip


@dataclass
class Browser:
    """A tab of a running Chromium: commands go out, and answers and events come in, each ended by a zero byte."""

    to: int
    back: int
    session: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    buffer: bytes = b""

    def __call__(self, method: str, **parameters: object) -> dict[str, Any]:
        """Return the answer to a command; events that come before it are kept.

        Raises:
            RuntimeError: Chromium rejects the command.
        """
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        os.write(self.to, json.dumps(message | ({"sessionId": self.session} if self.session else {})).encode() + b"\0")
        while (answer := self.read()).get("id") != number:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def read(self) -> dict[str, Any]:
        """Return the next message.

        Raises:
            RuntimeError: Chromium has ended.
        """
        while b"\0" not in self.buffer:
            if not (part := os.read(self.back, 1 << 16)):
                raise RuntimeError("Chromium has ended")
            self.buffer += part
        line, self.buffer = self.buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def open(self, page: Path, query: str = "") -> None:
        """Open a page and wait until it is loaded, its pictures and scripts included."""
        self.events.clear()
        self("Page.navigate", url=page.as_uri() + query)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.read())

    def resize(self, width: int) -> None:
        """Give the window a width."""
        size = {"width": width, "height": WIDTHS[width], "deviceScaleFactor": 1, "mobile": width < 600}
        self("Emulation.setDeviceMetricsOverride", **size)

    def evaluate(self, script: str) -> Any:
        """Return the value of a script in the page."""
        answer = self("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def picture(self, file: Path) -> None:
        """Write a screenshot."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(self("Page.captureScreenshot")["data"]))


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium and give a tab of it.

    Raises:
        FileNotFoundError: Chromium is not installed.
    """
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise FileNotFoundError("needs Chromium: apt-get install chromium, or leave it out by --no-browser")
    commands, answers = os.pipe(), os.pipe()

    def connect() -> None:
        for number, end in ((3, os.dup(commands[0])), (4, os.dup(answers[1]))):
            os.dup2(end, number)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = (program, *FLAGS, f"--user-data-dir={profile}", "about:blank")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, preexec_fn=connect, close_fds=False, **quiet)  # type: ignore[call-overload]
        os.close(answers[1])
        try:
            tab = Browser(commands[1], answers[0])
            target = tab("Target.createTarget", url="about:blank")["targetId"]
            tab.session = tab("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                tab(f"{domain}.enable")
            yield tab
        finally:
            process.kill()
            process.wait()


def noticed(events: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield what the console, exceptions and requests among the events say is wrong."""
    for event in events:
        about = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                yield f"exception: {about['exceptionDetails']['text']}"
            case "Runtime.consoleAPICalled" if about["type"] in ("error", "warning", "assert"):
                yield f"console: {about['args']}"
            case "Log.entryAdded" if about["entry"]["level"] == "error":
                yield f"console: {about['entry']['text']}"
            case "Network.loadingFailed":
                yield f"not loaded: {about['errorText']}"
            case "Network.requestWillBeSent" if not about["request"]["url"].startswith(("file:", "data:", "blob:")):
                yield f"request: {about['request']['url']}"


def dead(links: Iterable[str]) -> Iterator[str]:
    """Yield the links to files that do not exist."""
    for link in sorted({link.partition("#")[0] for link in links}):
        if not Path(unquote(urlsplit(link).path)).is_file():
            yield f"dead link: {link}"


def check(site: Path, pictures: Path, pictured: Iterable[str]) -> tuple[int, int, list[str]]:
    """Open every page at both widths. Return the numbers of pages and equations, and what is wrong.

    Screenshots of the pages `pictured` are written to the folder `pictures`.
    """
    script, wrong, equations = CHECK.read_text(encoding="utf-8"), [], 0
    pages = sorted(site.rglob("*.html"))
    with chromium() as tab:
        for page in pages:
            name = page.relative_to(site).as_posix()
            tab.resize(min(WIDTHS))
            tab.open(page)
            for width in WIDTHS:
                tab.resize(width)
                found = tab.evaluate(script)
                wrong += [f"{name} at {width}: {line}" for line in found["wrong"]]
                if name in pictured:
                    tab.picture(pictures / f"{name.removesuffix('.html').replace('/', '-')}-{width}.png")
            equations += found["equations"]
            wrong += [f"{name}: {line}" for line in (*noticed(tab.events), *dead(found["links"]))]
    return len(pages), equations, wrong
