"""The function of each equation of each paper, read from the `Source:` lines of the formulas, and its literal form.

The module parses the formulas' files instead of importing them, so that it is fast and does not need a registry.
"""

import ast
import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

FORMULAS = Path(__file__).parent / "formulas"
PAPER = Path(__file__).parent / "paper.py"
PAPERS = Path(__file__).parent / "papers"
LAWS = Path(__file__).parent / "verify" / "laws"
VECTORS = Path(__file__).parent / "verify" / "data"
# The paper numbers its equations from 1 to 13.
EQUATIONS = range(1, 14)


@dataclass(frozen=True)
class Paper:
    """A paper whose equations have literal forms; `key` begins its part of a `Source:` line."""

    key: str
    title: str
    file: Path


BOOKS = (
    Paper("iCT", "Song & Dhariwal 2023, arXiv:2310.14189", PAPER),
    Paper("ECT", "Geng et al. 2024, arXiv:2406.14548", PAPERS / "ect.py"),
    Paper("sCM", "Lu & Song 2024, arXiv:2410.11081", PAPERS / "scm.py"),
    Paper("TCM", "Lee et al. 2024, arXiv:2410.14895", PAPERS / "tcm.py"),
    Paper("sLCT", "Dao et al. 2025, arXiv:2502.01441", PAPERS / "slct.py"),
)


def paper_of(source: str) -> str:
    """Return the key of the paper to which a `Source:` line belongs; iCT has what it takes from others."""
    return next((book.key for book in BOOKS if source.startswith(f"{book.key}, ")), BOOKS[0].key)


@dataclass(frozen=True)
class Printed:
    """A function of `ict_ref.paper` or `ict_ref.papers`: the literal form of a formula, in the lines of its file."""

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
    laws: int = 0
    """Number of laws of every implementation in `ict_ref.verify`."""
    oracle: str = ""
    """Second computation that made its newest vectors; "" without vectors."""

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
        return self.numbers(BOOKS[0].key)

    @property
    def of(self) -> str:
        """The key of its paper."""
        return paper_of(self.source)

    def numbers(self, key: str) -> tuple[int, ...]:
        """Return the numbered equations of one paper that it implements."""
        parts = [part for part in self.source.split("; ") if part.startswith(f"{key}, ")]
        return tuple(int(number) for part in parts for number in re.findall(r"(?<!below )Eq\. \((\d+)\)", part))

    def as_dict(self) -> dict[str, object]:
        """Return it as an object for JSON."""
        places = [f"{book.key.lower()}:{number}" for book in BOOKS for number in self.numbers(book.key)]
        properties = {"value": self.value, "source": self.source, "equations": list(self.equations), "places": places}
        paper = {**asdict(self.paper), "file": str(self.paper.file)} if self.paper else None
        return {**asdict(self), "file": str(self.file), "paper": paper, **properties}


def formulas(folder: Path = FORMULAS, paper: Path = PAPER) -> list[Formula]:
    """Return every function of the flat namespace: by paper, in the order of its equations, then of the files."""
    printed = {name: form for book in BOOKS[1:] for name, form in literal_forms(book.file).items()}
    printed |= literal_forms(paper)
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    public, laws, found_oracles = _public(trees[folder / "__init__.py"]), laws_by_name(), oracles_of_vectors()
    found = [
        Formula(
            node.name,
            path,
            node.lineno,
            "\n".join(texts[path].splitlines()[node.lineno - 1 : node.body[0].lineno - 1]).removesuffix(":"),
            ast.get_docstring(node) or "",
            printed.get(node.name),
            laws[node.name],
            found_oracles.get(node.name, ""),
        )
        for path, tree in trees.items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name in public
    ]
    keys = [book.key for book in BOOKS]
    return sorted(found, key=lambda one: (keys.index(one.of), min(one.numbers(one.of), default=1000)))


def literal_forms(paper: Path = PAPER) -> dict[str, Printed]:
    """Return every function of the paper's file by its name."""
    text = paper.read_text(encoding="utf-8")
    return {
        node.name: Printed(paper, node.lineno, "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno]))
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef)
    }


def laws_by_name(folder: Path = LAWS) -> Counter[str]:
    """Return the number of laws of each formula.

    They are the arguments of decorators such as `@law("c_in", *DISTANCES)`, and those of calls such as
    `also(symmetric, "l2")`, which make a law of one formula a law of another.
    """
    found: Counter[str] = Counter()
    for path in folder.glob("*.py"):
        module = ast.parse(path.read_text(encoding="utf-8")).body
        assigned = {}
        for node in module:
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                assigned[ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)] = node.value
        decorators = [one for node in module if isinstance(node, ast.FunctionDef) for one in node.decorator_list]
        calls = [one for one in (*decorators, *assigned.values()) if isinstance(one, ast.Call)]
        for call in calls:
            arguments = {"law": call.args, "also": call.args[1:]}.get(ast.unparse(call.func), [])
            found.update(name for argument in arguments for name in _texts(argument, assigned))
    return found


def _texts(node: ast.expr | None, constants: dict[str, ast.expr]) -> list[str]:
    """Return the texts in a constant, in a tuple or the keys of a dictionary, or under a name of one of these."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.Starred):
        return _texts(node.value, constants)
    if isinstance(node, ast.Name):
        return _texts(constants[node.id], constants)
    parts = node.keys if isinstance(node, ast.Dict) else node.elts if isinstance(node, ast.Tuple) else []
    return [text for part in parts for text in _texts(part, constants)]


def oracles_of_vectors(folder: Path = VECTORS) -> dict[str, str]:
    """Return the oracle of the newest vectors of each formula, which stands at the beginning of their file."""
    newest = max(folder.glob("v*"), key=lambda version: int(version.name[1:]))
    found = {}
    for path in newest.glob("*.json"):
        with path.open(encoding="utf-8") as file:
            start = re.search(r'^ "oracle": "(.+)",$', file.read(2000), re.MULTILINE)
        if start:
            found[path.stem] = start[1]
    return found


def _public(namespace: ast.Module) -> set[str]:
    """Return the names in `__all__`."""
    for node in namespace.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    raise LookupError("no __all__")
