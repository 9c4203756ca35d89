"""The page of error messages: the texts in the code that are raised, with names in braces for what is filled in."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "src" / "ict_ref"
# Formulas have a page of their own, and laws report what another implementation does wrong.
ELSEWHERE = ("formulas", "verify/laws")
LONGEST = 30
"""Length of an expression from which on a message shows dots in its place."""
CHECKS = {"expect": 1, "refuse": 0}
"""The functions that raise `option: expected X, got Y. What to do.`, and the argument with which this begins."""


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    by_unit: dict[str, list[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        place = file.relative_to(PACKAGE).as_posix()
        if not place.startswith(ELSEWHERE):
            unit = place.split("/")[0].removesuffix(".py").strip("_").replace("init", "ict_ref").replace("main", "eq")
            by_unit.setdefault(unit, []).extend(of_module(file.read_text("utf-8")))
    for unit, messages in by_unit.items():
        if messages:
            parts.append(f"## {unit}\n\n```text\n" + "\n".join(dict.fromkeys(messages)) + "\n```\n")
    return "\n".join(parts)


HEAD = """# Error messages

A command that rejects something prints one line and ends with [status 2](exit-statuses.md).
The lines below are read from the code, by the part of the package that raises them.
A name in braces stands for a value, and dots stand for a longer expression.
[Formulas](messages-formulas.md) have a list of their own, which a test keeps complete.
"""


def of_module(code: str) -> list[str]:
    """Return the messages of a module, in the order of its lines."""
    tree = ast.parse(code)
    constants = dict(_constants(tree))
    found = sorted(_raised(tree, constants))
    return [" ".join(message.split()) for _, message in found if re.search("[a-z]{2}", re.sub(r"\{.*?\}", "", message))]


def _constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the names and values of the module's texts."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield ast.unparse(node.targets[0]), node.value.value


def _raised(tree: ast.Module, constants: dict[str, str]) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each exception that has a text, and of each check."""
    for node in ast.walk(tree):
        match node:
            case ast.Raise(exc=ast.Call(func=ast.Name(id=name), args=[first, *_])) if name.endswith("Error"):
                if isinstance(first, ast.Constant | ast.JoinedStr | ast.BinOp | ast.Name):
                    yield node.lineno, text(first, constants)
            case ast.Call(func=ast.Name(id=name), args=[*_, _, _, _] as given) if name in CHECKS:
                words = [text(one, constants) for one in given[CHECKS[name] :]]
                yield node.lineno, "".join(_check(words, name))


def _check(words: list[str], name: str) -> Iterator[str]:
    """Yield the parts of a check's message."""
    if name == "expect":
        yield f"{words.pop(0)}: "
    yield f"expected {words[0]}"
    yield from (f"{before}{word}" for before, word in zip((", got ", ". "), words[1:], strict=False) if word)


def text(node: ast.expr, constants: dict[str, str]) -> str:
    """Return an expression as the message shows it."""
    match node:
        case ast.Constant(value=str(value)):
            return value
        case ast.Name(id=name) if name in constants:
            return constants[name]
        case ast.JoinedStr(values=values):
            return "".join(text(value, constants) for value in values)
        case ast.BinOp(
            left=left, op=ast.Add(), right=ast.Constant(value=str()) | ast.JoinedStr() | ast.Name() as right
        ):
            return text(left, constants) + text(right, constants)
        case ast.FormattedValue(value=value):
            return text(value, constants)
    written = ast.unparse(node)
    return f"{{{written}}}" if len(written) <= LONGEST and "\n" not in written else "{...}"
