"""The generated pages of the site: the ledger of equations, the Python interface, the commands, and what they print."""

import ast
import contextlib
import importlib
import importlib.util
import inspect
import io
import os
import re
import textwrap
import tomllib
from pathlib import Path
from unittest.mock import patch

import ict_ref
from ict_ref.equations import BOOKS, Formula, Paper, formulas
from ict_ref.verify.laws import LAWS
from ict_ref.verify.options import COMMANDS
from ict_ref.verify.report.finding import effect_of, fix_of
from ict_ref.verify.vectors.load import deviations as known_deviations
from tools.equation_table import laws, oracles
from tools.site import messages

ROOT = Path(__file__).parents[2]
LATEX: dict[str, str] = tomllib.loads((ROOT / "docs" / "latex.toml").read_text(encoding="utf-8"))
STATEMENTS = {(law.function, law.name): inspect.getdoc(law.statement) or "" for law in LAWS}
COLUMNS = 96
MODULES = (
    "launch", "sample", "evaluate", "search", "edit", "prepare", "plan", "figures", "experiments",
    "import_checkpoint", "export_checkpoint",
)  # fmt: skip
LONG = 60
"""Lines of a listing from which on it is folded."""


def pages() -> dict[str, str]:
    """Return the generated pages by their paths."""
    found = {f"reference/ledger-{book.key.lower()}.md": ledger(book) for book in BOOKS}
    found["reference/python.md"] = interface()
    found["reference/commands.md"] = commands()
    found["reference/presets.md"] = presets()
    found["reference/exit-statuses.md"] = exit_statuses()
    found["reference/deviations.md"] = deviations()
    found["reference/messages.md"] = messages.page()
    found["reference/messages-formulas.md"] = messages_of_formulas()
    return found


def ledger(book: Paper) -> str:
    """Return the page of a paper's equations, in its order."""
    head = f"""# Equations of {book.key}

{book.title}. Each entry has the equation, its place in the paper, the function that computes it,
the literal form where the paper prints one, and what tests it.
{CHECKED}
"""
    return head + "\n".join(map(entry, (formula for formula in formulas() if formula.of == book.key)))


CHECKED = "`tests/test_latex.py` reads the equations of scalars by SymPy, and compares them with the code."


def entry(formula: Formula) -> str:
    """Return a formula's entry in the ledger."""
    equations = "\n".join(f"```{{math}}\n{line}\n```\n" for line in LATEX[formula.name].strip().splitlines())
    source = f"{link(f'{formula.file.name}, line {formula.line}', formula.file)} · {escaped(formula.source)}"
    literal = formula.paper and folded("Literal form", listing(formula.paper.code))
    function = folded("Signature and docstring", listing(formula.signature) + documentation(formula.docstring))
    return "\n".join(
        [f"## {formula.name}\n", equations, f"{source}\n", literal or "", function, folded(*evidence(formula)), ""]
    )


def evidence(formula: Formula) -> tuple[str, str]:
    """Return the title and the text of the laws and oracles of a formula."""
    found, tests = laws()[formula.name], oracles()[formula.name]
    lines = [f"- {link(law_in_words(formula.name, name), ROOT / file)}" for file, name in found]
    lines += [f"- oracle: {link(escaped(described), ROOT / file)}" for file, described in tests]
    title = f"{len(found)} laws, {len(tests)} oracle{'s' * (len(tests) > 1)}"
    return title, "\n".join(lines) + "\n"


def law_in_words(function: str, name: str) -> str:
    """Return what a law states, or its name in words."""
    statement = " ".join(STATEMENTS.get((function, name), "").split("\n\n")[0].split())
    return escaped(statement or name.removeprefix("test_").replace("_", " "))


def interface() -> str:
    """Return the page of the Python interface: `ict_ref`, then `ict_ref.formulas` by module."""
    parts = ["# Python interface\n", "[Train and sample in Python](../docs/python.md) shows how they are used.\n"]
    parts.append("## ict_ref\n")
    for name in ("train", "loss"):
        parts.append(function_of(name, getattr(ict_ref, name)))
    parts.append(f"### Run\n\n{documentation(inspect.getdoc(ict_ref.Run) or '')}")
    for name, member in vars(ict_ref.Run).items():
        inner = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(inner):
            parts.append(function_of(f"Run.{name}", inner))
    files = sorted({formula.file for formula in formulas()})
    for file in files:
        parts.append(f"## ict_ref.formulas: {file.stem}\n\n{documentation(module_docstring(file))}")
        for one in formulas():
            if one.file == file:
                parts.append(f"### {one.name}\n\n{listing(one.signature)}{documentation(one.docstring)}")
    return "\n".join(parts)


def module_docstring(file: Path) -> str:
    """Return the docstring of a module."""
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def function_of(name: str, function: object) -> str:
    """Return the entry of a function or method, with the signature as it is written."""
    assert callable(function)
    source = textwrap.dedent(inspect.getsource(function))
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.FunctionDef)
    signature = "\n".join(source.splitlines()[node.lineno - 1 : node.body[0].lineno - 1]).removesuffix(":")
    return f"### {name}\n\n{listing(signature)}{documentation(inspect.getdoc(function) or '')}"


def documentation(docstring: str) -> str:
    """Return a docstring as Markdown: its paragraphs, its examples as code, and its `Raises:` as a list."""
    return "".join(map(paragraph, re.split(r"\n\s*\n", inspect.cleandoc(docstring)))) + "\n"


def paragraph(text: str) -> str:
    """Return a paragraph of a docstring as Markdown."""
    if text.startswith(">>>"):
        return f"```pycon\n{text}\n```\n\n"
    first, *rest = text.split("\n")
    if re.fullmatch(r"[A-Z]\w+:", first):
        # Lines that are indented further continue an item.
        items = re.sub(r"\n {5,}", " ", "\n".join(rest)).split("\n")
        return f"{first}\n\n" + "".join(f"- {escaped(item.strip())}\n" for item in items) + "\n"
    if rest and all(re.match(r" {2,}|\S+ {2,}", line) for line in rest):
        return f"```text\n{text}\n```\n\n"
    return f"{escaped(text)}\n\n"


def commands() -> str:
    """Return the page of every command's help, which is written from the docstrings of its options."""
    texts = [help_of("ict_ref", ()), help_of("ict_ref", ("eq",))]
    texts += [help_of(f"ict_ref.{module}", ()) for module in MODULES]
    texts += [help_of("ict_ref.verify", tuple(words.split())) for words in COMMANDS]
    head = "# Commands\n\nThe help of every command. `ict-ref launch` is short for `python -m ict_ref.launch`.\n\n"
    return head + "\n".join(texts)


def help_of(module: str, words: tuple[str, ...]) -> str:
    """Return a heading and what a command prints for --help."""
    package = importlib.util.find_spec(module)
    inner = f"{module}.__main__" if package and package.submodule_search_locations else module
    out = io.StringIO()
    wide = patch.dict(os.environ, {"COLUMNS": str(COLUMNS)})
    with wide, contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        importlib.import_module(inner).main([*words, "--help"])
    text = re.sub(r"\x1b\[[\d;]*m", "", out.getvalue()).strip()
    code = f"```text\n{text}\n```\n"
    title = " ".join((module.replace(".", " ", 1).replace("ict_ref", "ict-ref", 1), *words))
    return f"## {title}\n\n{folded('options', code) if text.count(chr(10)) > LONG else code}"


def presets() -> str:
    """Return the page of presets, as `launch --list` prints it."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        importlib.import_module("ict_ref.launch.__main__").main(["--list"])
    head = "# Presets\n\n`python -m ict_ref.launch --list` prints this table. [Train](../docs/training.md) uses them.\n"
    return f"{head}\n```text\n{out.getvalue().rstrip()}\n```\n"


def deviations() -> str:
    """Return the page of known deviations, from the file that belongs to the vectors."""
    rows = [
        f"| `{name}` | [{one.function}]({place_of(one.function)}) | {escaped(one.what)} "
        f"| {escaped(effect_of(name))} | {escaped(fix_of(name))} | {escaped(one.seen_in)} |"
        for name, one in known_deviations().items()
    ]
    head = """# Known deviations of public code

`ict_ref.verify` names each of these when it explains all wrong values of a function.
[Public code, audited](../docs/peers.md) lists them by code.
[Costs of known deviations](../docs/deviations.md) has the small runs that measured some effects.

| identifier | function | difference | effect on training | fix | seen in |
|---|---|---|---|---|---|
"""
    return head + "\n".join(rows) + "\n"


def place_of(function: str) -> str:
    """Return the link to a function's entry in its ledger."""
    (formula,) = (one for one in formulas() if one.name == function)
    return f"ledger-{formula.of.lower()}.md#{function}"


def exit_statuses() -> str:
    """Return the page of exit statuses, whose tables are those of the how-to pages."""
    parts = ["# Exit statuses\n"]
    for title, page in (("Every command", "resume"), ("verify", "verify")):
        text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
        table = re.search(r"^\| exit status \| meaning \|\n(\|.*\n)+", text, re.MULTILINE)
        assert table is not None
        parts.append(f"## {title}\n\nFrom [{page}](../docs/{page}.md).\n\n{table[0]}")
    return "\n".join(parts)


def messages_of_formulas() -> str:
    """Return the page of the messages of formulas, which a test keeps complete."""
    text = (ROOT / "tests" / "formulas" / "refusals.txt").read_text(encoding="utf-8")
    head = "# Error messages of formulas\n\nA formula raises `ValueError` outside its domain. These are its messages.\n"
    return f"{head}\n```text\n{text.rstrip()}\n```\n"


def link(label: str, file: Path) -> str:
    """Return a link from a generated page to a file."""
    return f"[{label}](../{file.relative_to(ROOT).as_posix()})"


def listing(code: str) -> str:
    """Return a block of Python."""
    return f"```python\n{code}\n```\n\n"


def folded(title: str, text: str) -> str:
    """Return a part that opens at a click."""
    return f"<details><summary>{title}</summary>\n\n{text}\n</details>\n"


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is, except for its inline code."""
    parts = re.split(r"(`[^`]+`)", text)
    parts[::2] = (re.sub(r"([\\`*_\[\]<>#|{}$~])", r"\\\1", part) for part in parts[::2])
    return "".join(parts)
