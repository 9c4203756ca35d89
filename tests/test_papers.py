"""`ict_ref.papers`: what iCT's successors print, each function short and unchecked, and code and docstrings agree."""

import ast
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sympy as sp
from tests import test_paper
from tests.test_paper import ON_SYMBOLS, SYMBOLS, WORDS, equation, signature, symbol, value_on_symbols

from ict_ref.equations import BOOKS, formulas

KNOWN = {formula.name: formula for formula in formulas()}
SUCCESSORS = BOOKS[1:]
TREES = {book.key: ast.parse(book.file.read_text()) for book in SUCCESSORS}
FUNCTIONS = {
    (key, node.name): node for key, tree in TREES.items() for node in tree.body if isinstance(node, ast.FunctionDef)
}
PUBLIC = [(key, name) for key, name in FUNCTIONS if not name.startswith("_")]
EACH = pytest.mark.parametrize(("key", "name"), PUBLIC, ids=[f"{key}-{name}" for key, name in PUBLIC])

# A name of a guard is allowed where the printed equation has it.
PRINTED_AS = {"clamp": "max("}


def faults(node: ast.FunctionDef) -> list[str]:
    """Return the faults of a printed function, except of what its equation prints."""
    stated = ast.get_docstring(node) or ""
    return [fault for fault in test_paper.faults(node) if PRINTED_AS.get(fault, fault) not in stated]


NOT_PRINTED = {"log_student_t_level": "the inverse of an integral, without a closed form"}


def test_every_formula_of_a_paper_is_printed_there_and_no_others() -> None:
    for book in SUCCESSORS:
        ours = {name for name, formula in KNOWN.items() if formula.of == book.key} - set(NOT_PRINTED)
        assert {name for key, name in PUBLIC if key == book.key} == ours


@EACH
def test_printed_functions_have_the_signature_of_their_formula(key: str, name: str) -> None:
    tree = ast.parse(KNOWN[name].file.read_text())
    [formula] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    assert signature(FUNCTIONS[key, name]) == signature(formula)


@EACH
def test_printed_functions_are_short_and_unchecked(key: str, name: str) -> None:
    node = FUNCTIONS[key, name]
    assert faults(node) == []
    assert len((ast.get_docstring(node) or "").replace("\n\n", "\n").splitlines()) in {1, 2}


def test_a_guard_that_the_equation_does_not_print_is_found() -> None:
    for stated, found in (("r = max(0, t)", []), ("r = t", ["clamp"])):
        [node] = ast.parse(f"def f(t):\n '''Eq. (1): {stated}.'''\n return torch.clamp(t, min=0)").body
        assert isinstance(node, ast.FunctionDef)
        assert faults(node) == found


@pytest.mark.parametrize("book", SUCCESSORS, ids=lambda book: book.key)
def test_papers_do_not_import_this_package(book: Any) -> None:
    tree = TREES[book.key]
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules <= {"collections.abc", "jaxtyping", "math", "numpy.polynomial.legendre", "torch", "typing"}


def test_every_named_row_is_on_the_page() -> None:
    page = (Path(__file__).parents[1] / "docs" / "paper_and_code.md").read_text()
    named = {row for book in SUCCESSORS for row in re.findall(r"\bRow (\w\d+)", book.file.read_text())}
    assert named <= set(re.findall(r"^\| (\w\d+) \|", page, re.MULTILINE))
    assert len(named) >= 3


WORDS |= {
    "max": sp.Max,
    "Phi": sp.Function("Phi"),
    "Q": sp.Function("Q"),
    "cos": sp.cos,
    "sin": sp.sin,
    "tan": sp.tan,
    "atan": sp.atan,
}
OF_PAPERS: dict[str, Any] = ON_SYMBOLS | {
    "torch": SimpleNamespace(
        **{**vars(ON_SYMBOLS["torch"]), **WORDS},
        clamp=lambda value, min: sp.Max(min, value),  # noqa: A006 - torch's name
        special=SimpleNamespace(ndtri=sp.Function("Q")),
    ),
    "math": SimpleNamespace(**WORDS, inf=sp.oo, pi=symbol("pi")),
    "_derivative": lambda *_: symbol("dF") / symbol("dt"),
    "trigflow_step": lambda *_: symbol("x'"),
    "_phi": sp.Function("Phi"),
    "_log": sp.log,
}
SYMBOLS_OF: dict[str, dict[str, Any]] = {
    "ECT": {"exponent": "a", "steps_per_stage": "d", "weights": "w"},
    "TCM": {},
    "sLCT": {},
    "sCM": {
        "network": sp.Function("F"),
        "velocity": "v",
        "t_low": "t'",
        "warmup": "r",
        "warmup_steps": "H",
        "squared_norm": "s",
        "log_weight": "w",
    },
}
NOT_AN_EXPRESSION = {
    "lognormal_level": "its docstring defines A and B in words",
    "trigflow_tangent": "two values, in a separate test",
    "trigflow_difference": "F at two places, in a separate test",
    "trigflow_sample": "a recurrence, in a separate test",
    "scm_loss": "F with and without gradient is one number",
    "truncated": "a choice for each example",
    "truncated_weights": "a choice for each example",
    "log_student_t_density": "a density and its integral, in words",
}
EXPRESSIONS = [(key, name) for key, name in PUBLIC if name not in NOT_AN_EXPRESSION]


def on_symbols(key: str, name: str, **given: Any) -> Any:
    """Return the value of a printed function for its symbols, or for what is given in their place."""
    symbols = {**SYMBOLS, **SYMBOLS_OF[key]}
    return value_on_symbols(FUNCTIONS[key, name], OF_PAPERS, symbols, **given)


def printed(key: str, name: str) -> str:
    """Return the equation in a docstring."""
    return (ast.get_docstring(FUNCTIONS[key, name]) or "").split("\n\n")[0].split(": ", 1)[1]


@pytest.mark.parametrize(("key", "name"), EXPRESSIONS)
def test_the_code_of_a_paper_is_the_equation_in_both_docstrings(key: str, name: str) -> None:
    value = on_symbols(key, name)
    for stated in (KNOWN[name].value, printed(key, name)):
        assert sp.simplify(sp.nsimplify(value - equation(stated))) == 0, stated


def test_the_lognormal_level_is_the_equation_in_the_docstring_of_its_formula() -> None:
    value = on_symbols("ECT", "lognormal_level")
    stated = equation(KNOWN["lognormal_level"].value).subs(symbol("m"), sp.exp(symbol("P_mean")))
    assert sp.simplify(sp.expand_log(value - stated, force=True)) == 0


def named_network(_: Any, t: Any) -> Any:
    """Return F at t, and F' at t'."""
    return symbol("F" if t == symbol("t") else "F'")


@pytest.mark.parametrize("name", ["trigflow_tangent", "trigflow_difference"])
def test_the_tangents_are_the_equations_in_both_docstrings(name: str) -> None:
    found = on_symbols("sCM", name, network=named_network)
    value = found[1] if isinstance(found, tuple) else found
    for stated in (KNOWN[name].value.split(" and g = ")[-1], printed("sCM", name).split(" and g = ")[-1]):
        assert sp.simplify(value - equation(f"g = {stated}")) == 0, stated


def test_the_sampler_is_the_recurrence_in_both_docstrings() -> None:
    f, times, noises = sp.Function("f"), sp.symbols("t_1 t_2", positive=True), sp.symbols("z_1 z_2", positive=True)
    node = FUNCTIONS["sCM", "trigflow_sample"]
    code = (
        ast.unparse(node)
        .replace("times[0].expand(len(noises[0]))", "times[0]")
        .replace("times[k].expand(len(x))", "times[k]")
    )
    [plain] = ast.parse(code).body
    assert isinstance(plain, ast.FunctionDef)
    value = value_on_symbols(plain, OF_PAPERS, {"f": f}, noises=noises, times=times)
    for stated in (KNOWN["trigflow_sample"].value.split(": ")[1], printed("sCM", "trigflow_sample")):
        first, second = (part.split("x = ")[1] for part in stated.split("; "))
        x = equation(first)
        named = {symbol("x"): x, symbol("t_k"): times[1], symbol("z_k"): noises[1]}
        assert sp.simplify(value - equation(second.removesuffix(", k > 1")).subs(named)) == 0
