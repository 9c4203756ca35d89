"""Mutants of the engine: the places of its modules that one operator each can change, and a seeded draw of them.

Operators:

- compare: `<` and `<=`, `>` and `>=`, `==` and `!=`, `is` and `is not`, `in` and `not in` change places;
- arithmetic: `+` and `-`, `*` and `/`, `//` and `%` change places, in assignments too; `**` becomes `*`; a minus is
  dropped;
- boolean: `and` and `or` change places, `not` is dropped, a condition is negated, True and False change places;
- number: a number grows by one, and defaults are among them;
- argument: a keyword argument is dropped, or the last of several positional ones;
- name: `min` and `max`, `any` and `all` change places;
- value: a returned value becomes None;
- statement: a call, a raise, an assignment to an attribute or an element, or an augmented assignment becomes `pass`.

Texts, annotations, decorators, docstrings and the arguments of `raise` stay.
"""

import ast
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAIRS: tuple[tuple[type[ast.AST], type[ast.AST], str], ...] = (
    (ast.Lt, ast.LtE, "compare"), (ast.Gt, ast.GtE, "compare"), (ast.Eq, ast.NotEq, "compare"),
    (ast.Is, ast.IsNot, "compare"), (ast.In, ast.NotIn, "compare"), (ast.And, ast.Or, "boolean"),
    (ast.Add, ast.Sub, "arithmetic"), (ast.Mult, ast.Div, "arithmetic"), (ast.FloorDiv, ast.Mod, "arithmetic"),
)  # fmt: skip
SWAPS = {a: (b, kind) for a, b, kind in (*PAIRS, *((b, a, kind) for a, b, kind in PAIRS))}
SWAPS[ast.Pow] = (ast.Mult, "arithmetic")
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}

Change = tuple[ast.AST, str, str]
"""The node that is replaced, the operator, and the new text."""


@dataclass(frozen=True)
class Mutant:
    """A module with one place changed."""

    path: str
    """The module, from the root of the repository."""
    was: str
    """The changed lines, each without its indentation, joined by a space."""
    becomes: str
    number: int = 0
    """The number of mutants before this one in the module that look the same."""

    @property
    def key(self) -> str:
        """Return a text that identifies this mutant while other lines change."""
        return f"{self.path}\n- {self.was}\n+ {self.becomes}\n# {self.number}"


@dataclass(frozen=True)
class Place:
    """Where a mutant is, and the text of its module."""

    mutant: Mutant
    operator: str
    line: int
    text: str


def mutants(path: str, source: str) -> list[Place]:
    """Return all mutants of a module, in the order of its text."""
    seen: dict[tuple[str, str], int] = {}
    found = []
    for node, operator, replacement in _changes(ast.parse(source)):
        text = _spliced(source, node, replacement)
        was, becomes = _difference(source, text)
        number = seen[was, becomes] = seen.get((was, becomes), -1) + 1
        line: int = node.lineno  # type: ignore[attr-defined]
        found.append(Place(Mutant(path, was, becomes, number), operator, line, text))
    return found


def draw(root: Path, paths: list[str], *, sample: int, seed: int) -> list[Place]:
    """Return `sample` mutants, from each module in proportion to its number of mutants, and at least one.

    The draw sorts by a digest of seed and mutant: it stays the same where the code does. A smaller sample is a part of
    a larger one, up to rounding, and comes first in it.
    """
    modules = [mutants(path, (root / path).read_text()) for path in paths]
    total = sum(map(len, modules))
    drawn = []
    for places in modules:
        ordered = sorted(places, key=lambda place: _hash(seed, place.mutant))
        count = min(len(places), max(1, round(sample * len(places) / total)))
        drawn += [
            ((rank + 0.5) / count, _hash(seed, place.mutant), place) for rank, place in enumerate(ordered[:count])
        ]
    return [place for _, _, place in sorted(drawn, key=lambda one: one[:2])]


def _hash(seed: int, mutant: Mutant) -> str:
    return hashlib.sha256(f"{seed}\n{mutant.key}".encode()).hexdigest()


def _spliced(source: str, node: ast.AST, replacement: str) -> str:
    """Return the source with a node replaced. Positions of nodes are in bytes of UTF-8."""
    lines = source.encode().splitlines(keepends=True)
    start = len(b"".join(lines[: node.lineno - 1])) + node.col_offset  # type: ignore[attr-defined]
    end = len(b"".join(lines[: node.end_lineno - 1])) + node.end_col_offset  # type: ignore[attr-defined]
    whole = b"".join(lines)
    return (whole[:start] + replacement.encode() + whole[end:]).decode()


def _difference(source: str, text: str) -> tuple[str, str]:
    """Return the lines that differ, before and after."""
    old, new = source.splitlines(), text.splitlines()
    first = next(i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    last = next(i for i, (a, b) in enumerate(zip(old[::-1], new[::-1], strict=False)) if a != b)
    last = min(last, len(old) - first - 1, len(new) - first - 1)
    was, becomes = (" ".join(line.strip() for line in lines[first : len(lines) - last]) for lines in (old, new))
    return was, becomes


def _changes(tree: ast.Module) -> Iterator[Change]:
    """Yield the changes of a module, those of a node before those of the nodes within it."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        for kind, changes in OPERATORS:
            if isinstance(node, kind):
                yield from changes(node)
        pending += reversed(list(_children(node)))


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes within a node that may be changed: not annotations, decorators, texts and errors."""
    kept = {"annotation", "returns", "decorator_list", "type_comment", "type_params"}
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom):
        return
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    for name, value in ast.iter_fields(node):
        if name not in kept:
            yield from (one for one in (value if isinstance(value, list) else [value]) if isinstance(one, ast.AST))


def _binary(node: ast.BinOp) -> Iterator[Change]:
    for op, operator in _swapped(node.op):
        yield node, operator, f"({ast.unparse(ast.BinOp(node.left, op, node.right))})"


def _augmented(node: ast.AugAssign) -> Iterator[Change]:
    yield node, "statement", "pass"
    for op, operator in _swapped(node.op):
        yield node, operator, ast.unparse(ast.AugAssign(node.target, op, node.value))


def _compare(node: ast.Compare) -> Iterator[Change]:
    for i, old in enumerate(node.ops):
        for op, operator in _swapped(old):
            ops = [*node.ops[:i], op, *node.ops[i + 1 :]]
            yield node, operator, f"({ast.unparse(ast.Compare(node.left, ops, node.comparators))})"


def _bool_op(node: ast.BoolOp) -> Iterator[Change]:
    for op, operator in _swapped(node.op):
        yield node, operator, f"({ast.unparse(ast.BoolOp(op, node.values))})"


def _swapped(op: ast.AST) -> Iterator[tuple[Any, str]]:
    """Yield what takes the place of an operator of Python, and the name of the change."""
    if type(op) in SWAPS:
        new, operator = SWAPS[type(op)]
        yield new(), operator


def _unary(node: ast.UnaryOp) -> Iterator[Change]:
    if isinstance(node.op, ast.USub | ast.Not):
        operator = "arithmetic" if isinstance(node.op, ast.USub) else "boolean"
        yield node, operator, f"({ast.unparse(node.operand)})"


def _condition(node: ast.If | ast.While | ast.IfExp) -> Iterator[Change]:
    if not (isinstance(node.test, ast.UnaryOp | ast.Compare)):  # their own operators negate them
        yield node.test, "boolean", f"(not ({ast.unparse(node.test)}))"


def _constant(node: ast.Constant) -> Iterator[Change]:
    if isinstance(node.value, bool):
        yield node, "boolean", str(not node.value)
    elif isinstance(node.value, int | float):
        yield node, "number", repr(node.value + 1)


def _call(node: ast.Call) -> Iterator[Change]:
    if isinstance(node.func, ast.Name) and node.func.id in NAMES:
        yield node.func, "name", NAMES[node.func.id]
    for i, keyword in enumerate(node.keywords):
        if keyword.arg is not None:
            shorter = ast.Call(node.func, node.args, node.keywords[:i] + node.keywords[i + 1 :])
            yield node, "argument", ast.unparse(shorter)
    if len(node.args) > 1 and not isinstance(node.args[-1], ast.Starred):
        yield node, "argument", ast.unparse(ast.Call(node.func, node.args[:-1], node.keywords))


def _return(node: ast.Return) -> Iterator[Change]:
    if node.value is not None and ast.unparse(node.value) != "None":
        yield node, "value", "return None"


def _deleted(node: ast.Expr | ast.Raise) -> Iterator[Change]:
    if isinstance(node, ast.Raise) or isinstance(node.value, ast.Call):
        yield node, "statement", "pass"


def _assigned(node: ast.Assign) -> Iterator[Change]:
    if isinstance(node.targets[0], ast.Attribute | ast.Subscript):
        yield node, "statement", "pass"


OPERATORS: tuple[tuple[type[ast.AST], Callable[[ast.AST], Iterator[Change]]], ...] = (
    (ast.BinOp, _binary), (ast.AugAssign, _augmented), (ast.Compare, _compare), (ast.BoolOp, _bool_op),
    (ast.UnaryOp, _unary), (ast.If, _condition), (ast.While, _condition), (ast.IfExp, _condition),
    (ast.Constant, _constant), (ast.Call, _call), (ast.Return, _return), (ast.Expr, _deleted), (ast.Raise, _deleted),
    (ast.Assign, _assigned),
)  # type: ignore[assignment]  # fmt: skip
