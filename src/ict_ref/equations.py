"""The function of each equation, read from the `Source:` lines of the formulas, and its literal form.

The module parses the formulas' files instead of importing them, so that it is fast and does not need a registry.
"""

import ast
import re
from dataclasses import asdict, dataclass
from pathlib import Path

FORMULAS = Path(__file__).parent / "formulas"
PAPER = Path(__file__).parent / "paper.py"
# The paper numbers its equations from 1 to 13.
EQUATIONS = range(1, 14)


@dataclass(frozen=True)
class Printed:
    """A function of `ict_ref.paper`: the literal form of a formula, in the lines of its file."""

    file: Path
    line: int
    code: str


@dataclass(frozen=True)
class Formula:
    """A public function of `ict_ref.formulas` and its place in its file."""

    name: str
    file: Path
    line: int
    signature: str
    docstring: str
    paper: Printed | None = None

    @property
    def value(self) -> str:
        """The equation of its value: the first sentence of its docstring."""
        return " ".join(self.docstring.split("\n\n")[0].split()).removeprefix("Return ").removesuffix(".")

    @property
    def source(self) -> str:
        """Its `Source:` line without the word, or "" if there is not exactly one."""
        lines = re.findall(r"^ *Source: (.+?)\.?$", self.docstring, re.MULTILINE)
        return lines[0] if len(lines) == 1 else ""

    @property
    def equations(self) -> tuple[int, ...]:
        """The numbered equations of the paper that it implements, without those of other papers."""
        ours = [part for part in self.source.split("; ") if part.startswith("iCT")]
        return tuple(int(number) for part in ours for number in re.findall(r"(?<!below )Eq\. \((\d+)\)", part))

    def as_dict(self) -> dict[str, object]:
        """Return it as an object for JSON."""
        properties = {"value": self.value, "source": self.source, "equations": list(self.equations)}
        paper = {**asdict(self.paper), "file": str(self.paper.file)} if self.paper else None
        return {**asdict(self), "file": str(self.file), "paper": paper, **properties}


def formulas(folder: Path = FORMULAS, paper: Path = PAPER) -> list[Formula]:
    """Return every function of the flat namespace, in the order of the paper's equations, then of the files."""
    printed = literal_forms(paper)
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    public = _public(trees[folder / "__init__.py"])
    found = [
        Formula(
            node.name,
            path,
            node.lineno,
            "\n".join(texts[path].splitlines()[node.lineno - 1 : node.body[0].lineno - 1]).removesuffix(":"),
            ast.get_docstring(node) or "",
            printed.get(node.name),
        )
        for path, tree in trees.items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name in public
    ]
    return sorted(found, key=lambda formula: min(formula.equations, default=len(EQUATIONS) + 1))


def literal_forms(paper: Path = PAPER) -> dict[str, Printed]:
    """Return every function of the paper's file by its name."""
    text = paper.read_text(encoding="utf-8")
    return {
        node.name: Printed(paper, node.lineno, "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno]))
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef)
    }


def _public(namespace: ast.Module) -> set[str]:
    """Return the names in `__all__`."""
    for node in namespace.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    raise LookupError("no __all__")
