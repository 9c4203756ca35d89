"""Pages that are notebooks: their Python runs while the site is built, and what it shows follows each block."""

import ast
import contextlib
import io
import json
import re
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

CODE = re.compile(r"^```python\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Cell:
    """A part of a page: text, or code with what it printed and the picture or the value of its last expression."""

    source: str
    is_code: bool = False
    printed: str = ""
    picture: bytes = b""


def executed(text: str) -> list[Cell]:
    """Return the parts of a page, whose blocks of Python run in order in one namespace and in a folder of their own."""
    parts, cells = CODE.split(text), []
    namespace: dict[str, object] = {"__name__": "notebook"}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for number, part in enumerate(parts):
            cells.append(_run(part, namespace) if number % 2 else Cell(part.strip("\n")))
    return [cell for cell in cells if cell.source]


def _run(code: str, namespace: dict[str, object]) -> Cell:
    """Return a block of code with its output; the progress that it writes to standard error is dropped."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        exec(compile(tree, "<cell>", "exec"), namespace)  # noqa: S102
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace)  # noqa: S307
    picture = io.BytesIO()
    if isinstance(value, Image.Image):
        value.save(picture, "png")
    elif value is not None:
        printed.write(f"{value!r}\n")
    return Cell(code.rstrip("\n"), True, printed.getvalue(), picture.getvalue())


def write(page: Path, described: str) -> None:
    """Run a page of the source tree; write it with its outputs, its pictures, and the file for Jupyter beside it.

    `described` is the alternative text of its pictures.
    """
    cells = executed(page.read_text(encoding="utf-8"))
    parts = []
    for number, cell in enumerate(cells):
        if cell.picture:
            page.with_name(f"{page.stem}-{number}.png").write_bytes(cell.picture)
        parts.append("\n".join(_markdown(cell, f"{page.stem}-{number}.png", described)))
    file = page.with_suffix(".ipynb")
    file.write_text(as_notebook(cells), encoding="utf-8")
    parts.append(f"{{download}}`This page as a notebook, with its outputs <{file.name}>`")
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _markdown(cell: Cell, picture: str, described: str) -> Iterator[str]:
    """Yield a part of a page in Markdown."""
    yield f"```python\n{cell.source}\n```\n" if cell.is_code else cell.source
    if cell.printed:
        yield f"```{{code-block}} text\n:class: output\n\n{cell.printed.rstrip()}\n```\n"
    if cell.picture:
        yield f"![{described}]({picture})\n"


def as_notebook(cells: list[Cell]) -> str:
    """Return cells in the format of Jupyter, nbformat 4.5."""
    found, count = [], 0
    for number, cell in enumerate(cells):
        entry: dict[str, object] = {"id": f"cell-{number}", "metadata": {}, "source": cell.source}
        if cell.is_code:
            count += 1
            outputs: list[dict[str, object]] = [{"output_type": "stream", "name": "stdout", "text": cell.printed}]
            if not cell.printed:
                outputs.clear()
            if cell.picture:
                data = {"image/png": b64encode(cell.picture).decode()}
                outputs.append({"output_type": "display_data", "metadata": {}, "data": data})
            entry |= {"execution_count": count, "outputs": outputs}
        found.append(entry | {"cell_type": "code" if cell.is_code else "markdown"})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": found}, indent=1) + "\n"
