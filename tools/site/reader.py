"""Use the site as a reader does: search, copy a command, and move the sliders by the keyboard."""

import time
from collections.abc import Iterator
from pathlib import Path

from tools.site.browser import WIDTHS, Browser, chromium, noticed

FOUND = "[...document.querySelectorAll('#search-results li > a')].map((link) => link.getAttribute('href'))"
BUTTON = "document.querySelector('.copybtn')"
FIELD = "document.body.append(document.createElement('textarea')); document.querySelector('body > textarea').focus()"
PASTED = "document.querySelector('body > textarea').value"
DRAWN = "[...document.querySelectorAll('#play path')].map((path) => path.getAttribute('d')).join()"
# The last one, sigma_data: another K draws the same curves over another axis.
SLIDER = "[...document.querySelectorAll('#play input')].at(-1)"


def use(site: Path) -> list[str]:
    """Return what does not work in the site."""
    with chromium() as tab:
        return [*search(tab, site), *copy(tab, site), *play(tab, site)]


def waited(tab: Browser, script: str, seconds: float = 20.0) -> object:
    """Return the value of a script as soon as it is not empty, or after this time."""
    end = time.monotonic() + seconds
    while not (value := tab.evaluate(script)) and time.monotonic() < end:
        time.sleep(0.1)
    return value


def press(tab: Browser, key: str, code: int, **more: object) -> None:
    """Press a key and release it."""
    for kind in ("rawKeyDown", "keyUp"):
        tab("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more)


def search(tab: Browser, site: Path) -> Iterator[str]:
    """Yield what is wrong with the results for a formula."""
    words, expected = "pseudo huber", "reference/ledger-ict.html"
    tab.open(site / "search.html", "?q=pseudo+huber")
    if not waited(tab, f"{FOUND}.some((place) => place.startsWith('{expected}'))"):
        yield f"search: expected {expected} for {words}, got {tab.evaluate(FOUND)}"
    yield from (f"search: {line}" for line in noticed(tab.events))


def copy(tab: Browser, site: Path) -> Iterator[str]:
    """Yield what is wrong with the first button that copies, that of the first command."""
    tab.resize(max(WIDTHS))
    tab.open(site / "index.html")
    waited(tab, f"{BUTTON} !== null")
    tab("Runtime.evaluate", expression=f"{BUTTON}.click()", userGesture=True)
    waited(tab, "document.querySelector('.copybtn.success') !== null")
    tab.evaluate(FIELD)
    press(tab, "v", 86, modifiers=2, commands=["paste"])
    if not str(pasted := waited(tab, PASTED)).startswith("python3 -m venv .venv"):
        yield f"copy: expected the first command, got {pasted!r}"


def play(tab: Browser, site: Path) -> Iterator[str]:
    """Yield what is wrong with a slider at each width: its size, and its keys."""
    for width in WIDTHS:
        tab.resize(width)
        tab.open(site / "docs" / "play.html")
        if not tab.evaluate(f"{SLIDER} !== undefined"):
            yield f"play at {width}: no slider"
            continue
        if tab.evaluate(f"{SLIDER}.getBoundingClientRect().height") < 24:
            yield f"play at {width}: a slider is too low for a finger"
        before = tab.evaluate(f"{SLIDER}.focus(); {DRAWN}")
        press(tab, "ArrowLeft", 37)
        if tab.evaluate(DRAWN) == before:
            yield f"play at {width}: a key does not change the charts"
