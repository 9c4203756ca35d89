"""A reader of the LaTeX of scalar equations: it returns them as SymPy's expressions."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

import sympy
from sympy import Expr

TOKEN = re.compile(r"\\[a-zA-Z]+|\\[,;|\\]|[A-Za-z]'*|\d+(?:\.\d+)?|\S")
SPACES = (r"\,", r"\;", r"\allowbreak", r"\left", r"\right", r"\displaystyle")
FUNCTIONS = {
    r"\log": sympy.log, r"\exp": sympy.exp, r"\sin": sympy.sin, r"\cos": sympy.cos, r"\tan": sympy.tan,
    r"\arctan": sympy.atan, r"\min": sympy.Min, r"\max": sympy.Max, "erf": sympy.erf,
}  # fmt: skip
CLOSED_BY = {"(": ")", "[": "]", "{": "}", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil", r"\lVert": r"\rVert"}
RELATIONS = {"<": sympy.StrictLessThan, ">": sympy.StrictGreaterThan, r"\ge": sympy.GreaterThan}
ENDS = {"+", "-", ",", "&", r"\\", r"\end", *CLOSED_BY.values(), *RELATIONS}
Functions: TypeAlias = Mapping[str, Callable[..., Expr]]


class Reader:
    """A reader of one expression: sums of products of powers, products being written without a sign."""

    def __init__(self, latex: str, functions: Functions) -> None:
        self.functions = functions
        self.tokens = [word for word in TOKEN.findall(latex) if word not in SPACES]

    def next(self) -> str:
        word: str = self.tokens.pop(0)
        return word

    def has(self, *tokens: str) -> bool:
        return bool(self.tokens) and self.tokens[0] in tokens

    def sum(self) -> Expr:
        total = sympy.Integer(0)
        sign = -1 if self.has("+", "-") and self.next() == "-" else 1
        while True:
            total += sign * self.product()
            if not self.has("+", "-"):
                return total
            sign = 1 if self.next() == "+" else -1

    def product(self) -> Expr:
        value = self.power()
        while self.tokens and not self.has(*ENDS):
            divides = self.has("/") and bool(self.next())
            value = value / self.power() if divides else value * self.power()
        return value

    def power(self) -> Expr:
        value = self.base()
        return value ** self.group() if self.has("^") and self.next() else value

    def group(self) -> Expr:
        """Read {...}, or one word."""
        if self.has("{"):
            return self.base()
        return Reader(self.next(), {}).sum()

    def base(self) -> Expr:
        word = self.next()
        if word == r"\operatorname":
            word = self.name()
        if word in CLOSED_BY:
            return self.closed(word)
        if word == r"\frac":
            return self.group() / self.group()
        if word == r"\sqrt":
            return sympy.sqrt(self.group())
        if word == r"\begin":
            return self.cases()
        if word in FUNCTIONS:
            return self.function(word)
        if word[0].isdigit():
            return sympy.Rational(word)
        constants = {r"\pi": sympy.pi, r"\infty": sympy.oo}
        return constants[word] if word in constants else self.symbol(word)

    def cases(self) -> Expr:
        """Read rows of a value and its condition."""
        assert self.name() == "cases"
        rows: list[tuple[Expr, sympy.Basic]] = []
        while not rows or self.next() == r"\\":
            value = self.sum()
            assert self.next() == "&"
            left, relation, right = self.sum(), self.next(), self.sum()
            rows.append((value, RELATIONS[relation](left, right)))
        assert self.name() == "cases"
        return sympy.Piecewise(*rows)

    def closed(self, word: str) -> Expr:
        value = self.sum()
        assert self.next() == CLOSED_BY[word]
        if word == r"\lVert":  # of examples with one value each
            assert (self.next(), self.next() in ("1", "2")) == ("_", True)
            return sympy.Abs(value)
        return {r"\lfloor": sympy.floor, r"\lceil": sympy.ceiling}.get(word, lambda same: same)(value)

    def function(self, word: str) -> Expr:
        base = self.group() if self.has("_") and self.next() else None
        exponent = self.group() if self.has("^") and self.next() else 1
        value = FUNCTIONS[word](*self.arguments()) ** exponent
        return value / sympy.log(base) if base is not None else value

    def arguments(self) -> list[Expr]:
        end = CLOSED_BY[self.next()]
        arguments = [self.sum()]
        while self.has(",") and self.next():
            arguments.append(self.sum())
        assert self.next() == end
        return arguments

    def name(self) -> str:
        """Read {letters}."""
        assert self.next() == "{"
        letters = ""
        while (word := self.next()) != "}":
            letters += "" if word in (r"\mathrm", "{") else word
            if word == "{":
                letters += self.rest_of_name()
        return letters

    def rest_of_name(self) -> str:
        letters = ""
        while (word := self.next()) != "}":
            letters += word
        return letters

    def symbol(self, word: str) -> Expr:
        """Read the subscript of a symbol, and return the symbol by its name in Python, or its function's value."""
        below = ""
        if self.has("_") and self.next():
            below = self.name() if self.has("{") else self.next()
        name = "_".join(filter(None, (word.lstrip("\\"), below.lstrip("\\"))))
        if name in self.functions and self.has("(", "["):
            return self.functions[name](*self.arguments())
        return sympy.Symbol(name)


def equation(latex: str) -> tuple[str, str]:
    r"""Return what stands left and right of the last sign =, \propto, \approx or \leftarrow; the left may be empty."""
    *left, right = re.split(r"=|\\propto|\\approx|\\leftarrow", latex)
    return "=".join(left).strip(), right


def expression(latex: str, functions: Functions) -> Expr:
    """Return an expression, all of which must be read."""
    reader = Reader(latex, functions)
    value = reader.sum()
    assert not reader.tokens, f"not read: {reader.tokens}"
    return value


def read(text: str, given: Collection[str], functions: Functions) -> Expr:
    r"""Return an equation's value; what follows it defines symbols in it, except those whose values are given.

    A definition has a line of its own, or stands behind \quad. Conditions without a sign = are not read.
    """
    first, *others = (part for line in text.strip().splitlines() for part in line.split(r",\allowbreak\quad"))
    value = expression(equation(first)[1], functions)
    meanings = {
        sympy.Symbol(name): expression(meaning, functions)
        for name, meaning in map(equation, others)
        if name and name not in given
    }
    for _ in meanings:  # a meaning may have symbols that another one defines
        value = value.subs(meanings)
    return value
