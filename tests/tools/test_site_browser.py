"""Each fault that the browser looks for in the pages of the site is found; `nox -s docs` runs this with Chromium."""

import os
from pathlib import Path

import pytest

if "ICT_REF_SITE" not in os.environ:
    pytest.skip("nox -s docs runs it", allow_module_level=True)

from tools.site.browser import check
from tools.site.mathematics import render
from tools.site.reader import use

STYLE = Path(__file__).parents[2] / "docs" / "_static" / "katex" / "katex.min.css"
WIDE = r"\left(" + "a" * 80 + r"\right)"
FAULTS = {
    "a mark of an error": ('<span class="katex-error">x</span>', "error in equation x"),
    "a missing picture": ('<img src="missing.png">', "missing picture"),
    "a request": ('<img src="http://example.com/a.png">', "request: http://example.com/a.png"),
    "a script's request": ('<script>fetch("http://example.com/b").catch(() => 0)</script>', "request: http://"),
    "an error on the console": ('<script>console.error("x")</script>', "console"),
    "an exception": ("<script>null.x</script>", "exception"),
    "a dead link": ('<a href="missing.html">x</a>', "dead link"),
    "a hidden equation": (f'<div style="display: none">{render("x", display=False)}</div>', "without height"),
    "a wide equation": (render(WIDE, display=True), "wider than its column"),
    "a wide page": ('<div style="width: 1500px">x</div>', "page wider than the window"),
}


def found(folder: Path, body: str) -> tuple[int, int, list[str]]:
    head = f'<!doctype html><head><link rel="stylesheet" href="{STYLE.as_uri()}"></head>'
    column = "width: 360px; overflow: hidden" if "katex" in body else ""
    (folder / "page.html").write_text(f'{head}<body><article style="{column}">{body}</article></body>')
    return check(folder, folder, [])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_page_with_a_fault_is_reported(fault: str, tmp_path: Path) -> None:
    body, message = FAULTS[fault]
    assert any(message in line for line in found(tmp_path, body)[2])


def test_a_page_without_a_fault_is_not_reported(tmp_path: Path) -> None:
    equation = render(r"\frac{1}{2} + \sqrt{x}", display=True)
    assert found(tmp_path, f"<details>{equation}</details>") == (1, 1, [])


def test_an_equation_that_cannot_be_read_is_rejected() -> None:
    with pytest.raises(ValueError, match="Undefined control sequence"):
        render(r"\foo", display=True)


SLIDER = '<div id="play"><svg><path d="M0 0"/></svg><input type="range" style="height: {height}px" {script}></div>'
MOVES = """oninput="document.querySelector('path').setAttribute('d', this.value)\""""
RESULT = '<ul id="search-results"><li><a href="reference/ledger-ict.html">x</a></li></ul>'
DONE = ".then(() => this.classList.add('success'))"
COPY = f"""<button class="copybtn" onclick="navigator.clipboard.writeText('{{copied}}'){DONE}">x</button>"""


def used(folder: Path, *, result: str = RESULT, copied: str = "python3 -m venv .venv", slider: str = "") -> list[str]:
    (folder / "docs").mkdir()
    (folder / "search.html").write_text(result)
    (folder / "index.html").write_text(COPY.format(copied=copied))
    (folder / "docs" / "play.html").write_text(slider or SLIDER.format(height=32, script=MOVES))
    return use(folder)


def test_a_site_that_works_has_no_findings(tmp_path: Path) -> None:
    assert used(tmp_path) == []


def test_what_does_not_work_for_a_reader_is_reported(tmp_path: Path) -> None:
    failing = '<script>fetch("docs/play.html")</script>' + RESULT.replace("ledger-ict", "other")
    found = used(tmp_path, result=failing, copied="other", slider=SLIDER.format(height=9, script=""))
    assert [line.split(":")[0] for line in found if not line.startswith("search")] == [
        "copy", "play at 1280", "play at 1280", "play at 390", "play at 390",
    ]  # fmt: skip
    assert any("expected reference/ledger-ict.html" in line for line in found)
    assert any(line.startswith(("search: console", "search: not loaded", "search: exception")) for line in found)
