"""`ict_ref.paper`: every printed equation is there once, short and unchecked, and code and docstrings agree.

The tests parse the equations in the docstrings, run the code of `paper.py` on SymPy's symbols, and compare both. This
keeps the docstrings of the formulas, those of `paper.py` and its code equal.
"""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sympy as sp

from ict_ref import paper
from ict_ref.equations import FORMULAS, PAPER, Formula, formulas

ORDER = re.findall(
    r"\w+",
    """
probability_flow_drift boundary_parameterization c_skip c_out c_in c_noise sigma_grid consistency_matching_loss
euler_step squared_l2 ema_update consistency_training_loss one_step_sample multistep_sample renoise
teacher_ema_decay sqrt_curriculum uniform_pmf uniform_weights
inverse_gap_weights delta_consistency_function ct_loss_limit ct_gradient_limit ct_gradient_divergence
pseudo_huber pseudo_huber_constant exponential_curriculum log_sigma_density lognormal_pmf index_from_uniform
frechet_distance
ct_gradient_leading_term ct_gradient_divergent_term
""",
)

KNOWN = {formula.name: formula for formula in formulas()}
TREE = ast.parse(PAPER.read_text())
FUNCTIONS = {node.name: node for node in TREE.body if isinstance(node, ast.FunctionDef)}
PUBLIC = [name for name in FUNCTIONS if not name.startswith("_")]


# ------------------------------------------------------------------ which functions there are, and their form


def in_the_paper(formula: Formula) -> bool:
    """Return whether the `Source:` line names a numbered equation, a formula below one, or Table 1."""
    return bool(formula.equations) or bool(re.search(r"Table 1|below Eq\. ", formula.source))


def test_every_equation_and_every_row_of_table_1_is_printed_in_the_paper_s_order() -> None:
    assert PUBLIC == ORDER
    assert {name for name, formula in KNOWN.items() if in_the_paper(formula)} <= set(PUBLIC)
    numbers = [KNOWN[name].equations[0] for name in PUBLIC if KNOWN[name].equations]
    assert numbers == sorted(numbers)


def test_every_printed_function_is_a_formula() -> None:
    assert set(PUBLIC) <= set(KNOWN)


def signature(node: ast.FunctionDef) -> str:
    """Return names, kinds, defaults and annotations."""
    return f"({ast.unparse(node.args)}) -> {ast.unparse(node.returns) if node.returns else ''}"


@pytest.mark.parametrize("name", PUBLIC)
def test_printed_functions_have_the_signature_of_their_formula(name: str) -> None:
    tree = ast.parse(KNOWN[name].file.read_text())
    [formula] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    assert signature(FUNCTIONS[name]) == signature(formula)


FORBIDDEN_NODES = (ast.If, ast.IfExp, ast.BoolOp, ast.Match, ast.Try, ast.Raise, ast.Assert, ast.While, ast.With)
FORBIDDEN_NAMES = {"where", "clamp", "clamp_min", "clamp_max", "clip", "minimum", "maximum", "max", "nan_to_num"}
FORBIDDEN_NAMES |= {"log1p", "expm1", "hypot", "erfc", "formulas"}


def faults(node: ast.FunctionDef) -> list[str]:
    """Return the faults of a printed function: more than four statements, branches, stable rearrangements."""
    inner = [part for statement in node.body for part in ast.walk(statement)]
    statements = sum(isinstance(part, ast.stmt) for part in inner) - (ast.get_docstring(node) is not None)
    named = {part.attr for part in inner if isinstance(part, ast.Attribute)}
    named |= {part.id for part in inner if isinstance(part, ast.Name)}
    return [
        *([f"{statements} statements"] if statements > 4 else []),
        *(type(part).__name__ for part in inner if isinstance(part, FORBIDDEN_NODES)),
        *sorted(named & FORBIDDEN_NAMES),
    ]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_printed_functions_are_short_and_unchecked(name: str) -> None:
    assert faults(FUNCTIONS[name]) == []
    assert len((ast.get_docstring(FUNCTIONS[name]) or "").replace("\n\n", "\n").splitlines()) in {1, 2}


def test_paper_does_not_import_this_package() -> None:
    modules = {alias.name for node in ast.walk(TREE) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in ast.walk(TREE) if isinstance(node, ast.ImportFrom)}
    assert modules == {"collections.abc", "jaxtyping", "math", "numpy.polynomial.legendre", "torch", "typing"}


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("a = 1; b = 2; c = 3; d = 4; return d", "5 statements"),
        ("for k in x:\n  a = 1\n  b = 2\n  c = 3\n return a", "5 statements"),
        ("return 1 if x else 2", "IfExp"),
        ("return torch.where(x > 0, x, 0)", "where"),
        ("return x.clamp(0)", "clamp"),
        ("return formulas.c_in(x)", "formulas"),
        ("return x or 1", "BoolOp"),
    ],
)
def test_a_function_that_does_more_than_print_is_found(body: str, fault: str) -> None:
    [node] = ast.parse(f"def f(x):\n '''Eq. (1).'''\n {body}").body
    assert isinstance(node, ast.FunctionDef)
    assert faults(node) == [fault]


def test_every_named_row_is_on_the_page() -> None:
    readme = (Path(__file__).parents[1] / "docs" / "paper_and_code.md").read_text()
    named = set(re.findall(r"\bRow (\w\d+)", PAPER.read_text()))
    assert named == {"M1", "M2", "M3", "M4", "M5", "M6", "M7", "M11", "A1", "A3"}
    assert named <= set(re.findall(r"^\| (\w\d+) \|", readme, re.MULTILINE))


# ------------------------------------------------------------------ the equations in the docstrings, parsed

SIGMA = sp.Symbol("sigma", positive=True)
SIGMA_MIN, SIGMA_MAX = sp.symbols("sigma_min sigma_max", positive=True)


def expectation(f: Callable[[Any], Any], low: Any = SIGMA_MIN, high: Any = SIGMA_MAX) -> Any:
    """Return E[f(sigma)] for sigma ~ U[low, high]."""
    return sp.integrate(sp.expand(f(SIGMA)), (SIGMA, low, high)) / (high - low)


WORDS: dict[str, Callable[..., Any]] = {
    "sqrt": sp.sqrt,
    "log": sp.log,
    "log2": lambda a: sp.log(a, 2),
    "exp": sp.exp,
    "erf": sp.erf,
    "floor": sp.floor,
    "ceil": sp.ceiling,
    "min": sp.Min,
    "stopgrad": lambda a: a,
}
NAME = r"Delta sigma|(?:f_)?theta-(?!\w)|[A-Za-z]\w*(?:\{\w[+-]1\})?'?"
TOKEN = re.compile(rf"(\s*)(E\[|\|\|_2|\|\||{NAME}|\d+(?:\.\d+)?|[-+*/^(),\]])")


def symbol(name: str) -> Any:
    """Return the positive number of this name."""
    if name == "sqrt2":
        return sp.sqrt(2)
    return sp.Symbol(name, positive=True, integer=True if name in {"k", "K", "N", "s0", "s1"} else None)


class Parser:
    """A recursive-descent parser of the docstrings' notation.

    A name with "(" directly behind it is a function, a space between factors is a product: "rho (a - b)", "log(a)".
    """

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[bool, str]] = []
        place = 0
        while place < len(text):
            found = TOKEN.match(text, place)
            assert found, f"cannot read {text[place:]!r}"
            self.tokens.append((bool(found[1]), found[2]))
            place = found.end()
        self.tokens.append((True, ""))

    @property
    def ahead(self) -> str:
        return self.tokens[0][1]

    def take(self, *expected: str) -> str:
        token = self.tokens.pop(0)[1]
        assert not expected or token in expected, f"got {token!r}, expected {expected}"
        return token

    def sum(self) -> Any:
        value = -self.product() if self.ahead == "-" and self.take() else self.product()
        while self.ahead in {"+", "-"}:
            value = value + self.product() if self.take() == "+" else value - self.product()
        return value

    def product(self) -> Any:
        value = self.power()
        while self.ahead == "/" or re.match(r"[\d(A-Za-z]|\|\|$", self.ahead):
            value = value / self.power() if self.ahead == "/" and self.take() else value * self.power()
        return value

    def power(self) -> Any:
        value = self.atom()
        return value ** self.power() if self.ahead == "^" and self.take() else value

    def atom(self) -> Any:
        word = self.take()
        if word in {"(", "E[", "||"}:
            value = self.sum()
            self.take({"(": ")", "E[": "]", "||": "||_2"}[word])
            return {"(": lambda a: a, "E[": lambda a: expectation(lambda _: a), "||": norm}[word](value)
        if re.match(r"\d", word):
            return sp.Float(word) if "." in word else sp.Integer(word)
        if self.tokens[0] == (False, "("):
            arguments = [self.sum()] if self.take("(") else []
            while self.take(",", ")") == ",":
                arguments.append(self.sum())
            return (WORDS.get(word) or sp.Function(word))(*arguments)
        return WORDS[word](self.atom()) if word in WORDS else symbol(word)


def norm(value: Any) -> Any:
    """Return ||value||_2."""
    return sp.Function("norm")(value)


def cut(text: str, separators: str) -> list[str]:
    """Return a text, cut at the separators that are outside all brackets."""
    parts, depth, start = [], 0, 0
    for found in re.finditer(rf"[(\[]|[)\]]|{separators}", text):
        depth += (found[0] in "([") - (found[0] in ")]")
        if depth == 0 and found[0] not in ")]":
            parts.append(text[start : found.start()])
            start = found.end()
    return [*parts, text[start:]]


def equation(sentence: str) -> Any:
    """Return the right side of the last " = " of a docstring's first sentence, up to a comma."""
    sentence = cut(" ".join(sentence.split()), r"\.(?= |$)")[0]
    stated, _, given = sentence.partition(" with ") if not re.search(", with ", sentence) else (sentence, "", "")
    side = cut(cut(stated, ", ")[0], " = | ~ | <- ")[-1]
    derived = side.removeprefix("d/dtheta ")
    value = Parser(derived).sum()
    if derived != side:
        value = sp.diff(value, symbol("theta"))
    for name, _, text in (definition.partition(" = ") for definition in cut(given, ", ") if given):
        value = value.subs(symbol(name), Parser(text).sum())
    return value


# ------------------------------------------------------------------ the code of paper.py, on symbols


class Levels:
    """A grid or its weights, seen from the interval i."""

    def __init__(self, low: Any, high: Any) -> None:
        self.low, self.high = low, high

    def __getitem__(self, key: Any) -> Any:
        return self.high if key in (slice(1, None), INDEX + 1) else self.low


INDEX = sp.Symbol("index")
ON_SYMBOLS: dict[str, Any] = {
    "math": SimpleNamespace(**WORDS),
    "torch": SimpleNamespace(
        **WORDS,
        arange=lambda *_, **__: symbol("i"),
        float64=None,
        full_like=lambda _, value: value,
        linalg=SimpleNamespace(vector_norm=norm),
        matmul=lambda a, b: a * b,
        ones_like=lambda _: sp.Integer(1),
        sum=lambda _: sp.Integer(1),  # "~" is up to a factor
        trace=sp.Function("tr"),
    ),
    "min": sp.Min,
    "len": lambda _: symbol("N"),
    "_each": lambda value, _: value,
    "_per_example": lambda value, _: value,
    "_stopgrad": lambda value: value,
    "_norm": norm,
    "_expectation": expectation,
    "_matrix_root": sp.sqrt,
    "renoise": lambda x, z, *, sigma, sigma_min: x + sp.sqrt(sigma**2 - sigma_min**2) * z,
    "float": lambda value: value,
    "euler_step": lambda *_: symbol("x_i"),
    "c_skip": lambda sigma, **_: sp.Function("c_skip")(sigma),
    "c_out": lambda sigma, **_: sp.Function("c_out")(sigma),
    "c_in": lambda sigma, **_: sp.Function("c_in")(sigma),
    "c_noise": sp.Function("c_noise"),
}

# An argument's symbol in the paper, where that is another one.
SYMBOLS: dict[str, Any] = {
    "step": "k",
    "total_steps": "K",
    "n": "N",
    "dim": "d",
    "p_mean": "P_mean",
    "p_std": "P_std",
    "theta_minus": "theta-",
    "delta_sigma": "Delta sigma",
    "x_hi": "x_{i+1}",
    "sigma_hi": "sigma_{i+1}",
    "sigma_lo": "sigma_i",
    "network": sp.Function("F"),
    "f": sp.Function("f"),
    "score": sp.Function("score"),
    "student": sp.Function("f_theta"),
    "teacher": sp.Function("f_theta-"),
    "distance": sp.Function("d"),
    "index": INDEX,
    "log_sigma": sp.log(SIGMA),
    "sigmas": Levels(symbol("sigma_i"), symbol("sigma_{i+1}")),
    "weights": Levels(sp.Function("lambda")(symbol("sigma_i")), None),
}


def on_symbols(name: str, **given: Any) -> Any:
    """Return the value of a function of paper.py for symbols, or for what is given in their place."""
    return value_on_symbols(FUNCTIONS[name], ON_SYMBOLS, SYMBOLS, **given)


def value_on_symbols(function: ast.FunctionDef, words: dict[str, Any], symbols: dict[str, Any], **given: Any) -> Any:
    """Return the value of a printed function for symbols, or for what is given in their place."""
    node = ast.parse(ast.unparse(function)).body[0]
    assert isinstance(node, ast.FunctionDef)
    node.returns = None
    names = []
    for argument in [*node.args.args, *node.args.kwonlyargs]:
        argument.annotation = None
        names.append(argument.arg)
    for statement in ast.walk(node):
        if isinstance(statement, ast.AnnAssign):
            statement.annotation = ast.Constant(None)
    space = words | ({"len": len} if "noises" in given else {})
    exec(compile(ast.fix_missing_locations(ast.Module([node], [])), "paper", "exec"), space)  # noqa: S102
    arguments = {argument: symbols.get(argument, argument) for argument in names} | given
    return space[node.name](
        **{key: symbol(value) if isinstance(value, str) else value for key, value in arguments.items()}
    )


NOT_AN_EXPRESSION = {
    "index_from_uniform": "a search, whose result has no closed form",
    "ct_gradient_divergence": "plus or minus infinity",
    "multistep_sample": "a recurrence, in a separate test",
}
EXPRESSIONS = [name for name in PUBLIC if name not in NOT_AN_EXPRESSION]


def printed(name: str) -> str:
    """Return the equation in a docstring of paper.py."""
    return (ast.get_docstring(FUNCTIONS[name]) or "").split("\n\n")[0].split(": ", 1)[1]


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_the_code_of_the_paper_is_the_equation_in_the_docstring_of_the_formula(name: str) -> None:
    assert sp.simplify(on_symbols(name) - equation(KNOWN[name].value)) == 0


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_the_code_of_the_paper_is_the_equation_in_its_docstring(name: str) -> None:
    assert sp.simplify(on_symbols(name) - equation(printed(name))) == 0


def test_the_code_of_multistep_sampling_is_the_recurrence_in_the_docstring_of_the_formula() -> None:
    levels, noises = sp.symbols("sigma_1 sigma_2", positive=True), sp.symbols("z_1 z_2", positive=True)
    first, second = (part.split("x = ")[1] for part in KNOWN["multistep_sample"].value.split(": ")[1].split("; "))
    x = equation(first)
    expected = equation(second).subs({symbol("x"): x, symbol("sigma_k"): levels[1], symbol("z_k"): noises[1]})
    assert sp.simplify(on_symbols("multistep_sample", noises=noises, sigmas=levels) - expected) == 0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a / b c", "c*a/b"),
        ("a/b^2 (1 - c)", "a*(1 - c)/b**2"),
        ("-a b + c", "c - a*b"),
        ("log a / b", "log(a)/b"),
        ("log(a) b", "b*log(a)"),
        ("f(a) - f(b c, 2)", "f(a) - f(b*c, 2)"),
        ("p(i) = 2 a, the same for every b", "2*a"),
        ("N = min(a, b) + 1 with b = 2 c", "Min(a, 2*c) + 1"),
        ("x = d/dtheta a (theta - b)^2", "a*(2*theta - 2*b)"),
    ],
)
def test_the_parser_reads_the_notation_of_the_docstrings(text: str, value: str) -> None:
    local = {name: symbol(name) for name in ("a", "b", "c", "theta")} | {"f": sp.Function("f")}
    assert sp.simplify(equation(text) - sp.sympify(value, locals=local)) == 0


def test_the_files_are_those_that_are_imported() -> None:
    assert paper.__file__ == str(PAPER)
    assert PAPER.parent == FORMULAS.parent
