"""The page that reads the paper beside the code: each equation in LaTeX, its literal code, and its function."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from ict_ref.equations import Formula, Printed, formulas
from tools.equation_table import laws, oracles
from tools.site.reference import LATEX, escaped, listing

PLACE = re.compile(r"^<!-- literal: (.+) -->$", re.MULTILINE)


def write(page: Path) -> None:
    """Replace each comment that names functions by their equations and their literal code."""
    text = page.read_text(encoding="utf-8")
    page.write_text(PLACE.sub(lambda place: "\n".join(map(entry, names(place[1]))), text), encoding="utf-8")


def names(listed: str) -> list[str]:
    """Return the functions that a comment names."""
    return listed.split(", ")


def placed(text: str) -> Iterator[str]:
    """Yield the functions that a page has, in its order."""
    for place in PLACE.finditer(text):
        yield from names(place[1])


def entry(name: str) -> str:
    """Return a function's equation, its literal code, and a line that leads to its entry in the ledger."""
    (formula,) = (one for one in formulas() if one.name == name)
    assert formula.paper is not None, name
    equations = "".join(f"```{{math}}\n{line}\n```\n\n" for line in LATEX[name].strip().splitlines())
    return f"### {name}\n\n{equations}{listing(statements(formula.paper))}{summary(formula, formula.paper)}\n"


def statements(printed: Printed) -> str:
    """Return the literal code without its signature and docstring."""
    (node,) = ast.parse(printed.code).body
    assert isinstance(node, ast.FunctionDef)
    lines = printed.code.splitlines()[node.body[1].lineno - 1 :]
    return "\n".join(line.removeprefix("    ") for line in lines)


def summary(formula: Formula, printed: Printed) -> str:
    """Return where the paper has the equation, and how its function is tested."""
    (node,) = ast.parse(printed.code).body
    assert isinstance(node, ast.FunctionDef)
    place, _, rest = (ast.get_docstring(node) or "").partition(":")
    rows = re.findall(r"\bRow (\w+)", rest)
    choices = f" · row {', '.join(rows)} of [the paper and this code](paper_and_code.md)" if rows else ""
    number = len(oracles()[formula.name])
    tested = f"{len(laws()[formula.name])} laws, {number} oracle{'s' * (number > 1)}"
    return f"{escaped(place)} · [function, {tested}](../reference/ledger-ict.md#{formula.name}){choices}\n"
