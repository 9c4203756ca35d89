"""The tables of docs/equations.md: the function of each equation, its laws and its independent oracles.

`nox -s equations` writes them; tests/test_equations.py fails where they are stale.

A law of a function is one of `ict_ref.verify.laws`, or a test in properties/; both name their functions in a decorator,
`@law("c_in")` and `@law_of("c_in")`. An oracle of a function is a test module whose docstring
has an `Oracle:` line. It imports the function and calls it in a test, and its `Ingredients:` line does not name it.
"""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ict_ref.equations import BOOKS, Formula, formulas
from ict_ref.verify.laws import LAWS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "equations.md"
BEGIN, END = "<!-- equations: written by `nox -s equations` -->", "<!-- end of equations -->"


def names(node: ast.AST) -> set[str]:
    """Return every name that a piece of code reads."""
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load)}


def tests_of(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Return the tests of a module."""
    return (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))


def definitions(tree: ast.Module) -> dict[str, ast.AST]:
    """Return the definitions of a module's names, except its tests."""
    known: dict[str, ast.AST] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("test_"):
            known[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            known[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            known[node.target.id] = node.value
    return known


def imported(tree: ast.Module) -> set[str]:
    """Return the names that a module imports from `ict_ref.formulas`."""
    return {
        alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == "ict_ref.formulas"
        for alias in node.names
    }


def reached(start: set[str], known: dict[str, ast.AST]) -> set[str]:
    """Return these names and all names that their definitions use, directly or not."""
    found: set[str] = set()
    ahead = set(start)
    while ahead:
        name = ahead.pop()
        found.add(name)
        ahead |= (names(known[name]) if name in known else set()) - found
    return found


@cache
def laws(root: Path = ROOT) -> dict[str, list[tuple[Path, str]]]:
    """Return the laws of each function, as files and names."""
    found: dict[str, list[tuple[Path, str]]] = {formula.name: [] for formula in formulas()}
    for law in LAWS if root == ROOT else ():
        found[law.function].append((Path("src", *law.statement.__module__.split(".")).with_suffix(".py"), law.name))
    for path in sorted((root / "properties").glob("test_*.py")):
        for test in tests_of(ast.parse(path.read_text())):
            for name in functions_of(test):
                found[name].append((path.relative_to(root), test.name))
    return found


def functions_of(test: ast.FunctionDef) -> list[str]:
    """Return the functions that the decorator `@law_of` of a test names."""
    return [
        str(ast.literal_eval(argument))
        for decorator in test.decorator_list
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "law_of"
        for argument in decorator.args
    ]


@cache
def oracles(root: Path = ROOT) -> dict[str, list[tuple[Path, str]]]:
    """Return the independent routes to each function, as files and the text of their `Oracle:` lines."""
    found: dict[str, list[tuple[Path, str]]] = {formula.name: [] for formula in formulas()}
    for path in sorted((root / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text())
        docstring = ast.get_docstring(tree) or ""
        described = re.search(r"^Oracles?: (.+?)\.?$", docstring, re.MULTILINE)
        used = re.search(r"^Ingredients: (.+?)\.?$", docstring, re.MULTILINE)
        if described:
            called = reached(set().union(*map(names, tests_of(tree))), definitions(tree))
            tested = imported(tree) & called - (set(used[1].split(", ")) if used else set())
            for name in tested & set(found):
                found[name].append((path.relative_to(root), described[1]))
    return found


def link(text: str, file: Path) -> str:
    """Return a link from the page to a file, given by its path from the root."""
    return f"[{text}](../{file.as_posix()})"


def row(paper: str, place: str, formula: Formula) -> str:
    """Return a line of a table of equations."""
    value = formula.value.replace("|", "\\|").replace("`", "")
    name = link(f"`{formula.name}`", formula.file.relative_to(ROOT))
    return f"| {paper} | {place} | {name} | `{value}` |"


def numbered(known: list[Formula]) -> Iterator[str]:
    """Return the lines of the numbered equations, paper by paper."""
    for book in BOOKS:
        for number in sorted({number for formula in known for number in formula.numbers(book.key)}):
            yield from (
                row(book.key, f"({number})", formula) for formula in known if number in formula.numbers(book.key)
            )


def place(formula: Formula) -> tuple[str, str]:
    """Return the paper and the place of a formula without a number: the first part of its source."""
    paper, _, where = formula.source.split("; ")[0].partition(", ")
    return paper, where


def evidence(formula: Formula) -> str:
    """Return a line of the table of laws and oracles."""
    known = laws()[formula.name]
    law = ", ".join(link(str(sum(where == file for where, _ in known)), file) for file in dict(known))
    oracle = "; ".join(link(described, file) for file, described in oracles()[formula.name])
    return f"| `{formula.name}` | {law} | {oracle} |"


def table() -> str:
    """Return the tables in Markdown: numbered equations, formulas without a number, laws and oracles."""
    known = formulas()
    head = "| paper | {} | function | value |\n|---|---|---|---|"
    others = sorted((one for one in known if not one.numbers(one.of)), key=lambda formula: formula.source)
    return "\n".join(
        [
            BEGIN,
            "\n## Numbered equations\n",
            head.format("equation"),
            *numbered(known),
            "\n## Formulas without a number\n",
            head.format("place"),
            *(row(*place(formula), formula) for formula in others),
            "\n## Laws and oracles\n",
            "| function | laws | oracles |\n|---|---|---|",
            *map(evidence, known),
            "",
            END,
        ]
    )


def written(page: str) -> str:
    """Return the page with current tables."""
    before, rest = page.split(BEGIN)
    return before + table() + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
    sys.stdout.write(f"{PAGE}: {len(formulas())} functions\n")
