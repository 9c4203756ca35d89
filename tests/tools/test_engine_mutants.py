import ast
from pathlib import Path

import pytest
from tools.engine_mutants import Mutant, draw, mutants

SOURCE = '''"""A module of 1 function."""
LIMIT: Final[int] = 3


@cached(size=4)
def f(x: Literal[1], *, y: bool = True) -> Annotated[int, 2]:
    """Return 5."""
    if x >= LIMIT and not y:
        raise ValueError(f"ü: expected less than {LIMIT - 6}, got {x}")
    x.total = max(x, 7, key=abs)
    x.total += 8
    g("ü", -x)
    return x ** 9
'''
ALL = {
    ("number", "LIMIT: Final[int] = 3", "LIMIT: Final[int] = 4"),
    ("boolean", "y: bool = True", "y: bool = False"),
    ("boolean", "x >= LIMIT and not y", "not (x >= LIMIT and not y)"),
    ("boolean", "x >= LIMIT and not y", "x >= LIMIT or not y"),
    ("compare", "x >= LIMIT", "x > LIMIT"),
    ("boolean", "not y", "y"),
    ("statement", "raise", "pass"),
    ("statement", "x.total = max", "pass"),
    ("name", "max", "min"),
    ("argument", "max(x, 7, key=abs)", "max(x, 7)"),
    ("argument", "max(x, 7, key=abs)", "max(x, key=abs)"),
    ("number", "7", "8"),
    ("statement", "x.total += 8", "pass"),
    ("arithmetic", "x.total += 8", "x.total -= 8"),
    ("number", "8", "9"),
    ("statement", "g", "pass"),
    ("argument", "g('ü', -x)", "g('ü')"),
    ("arithmetic", "-x", "x"),
    ("value", "return x ** 9", "return None"),
    ("arithmetic", "x ** 9", "x * 9"),
    ("number", "x ** 9", "x ** 10"),
}


def test_each_operator_changes_its_places_and_no_other() -> None:
    found = mutants("m.py", SOURCE)
    assert len(found) == len(ALL)
    operators = sorted(place.operator for place in found)
    assert operators == sorted(operator for operator, _, _ in ALL)
    for operator, was, becomes in ALL:
        plain = [
            place
            for place in found
            if place.operator == operator
            and was.replace("'", '"') in place.mutant.was.replace("'", '"')
            and becomes.replace("(", "").replace(")", "") in place.mutant.becomes.replace("(", "").replace(")", "")
        ]
        assert plain, (operator, was, becomes)


def test_a_mutant_is_a_module_that_differs_in_one_place() -> None:
    original = ast.dump(ast.parse(SOURCE))
    texts = [place.text for place in mutants("m.py", SOURCE)]
    assert len({ast.dump(ast.parse(text)) for text in texts} - {original}) == len(texts)
    for text in texts:  # positions after a letter of two bytes are right, and texts stay
        assert 'raise ValueError(f"ü: expected less than {LIMIT - 6}' in text or "pass" in text
        assert text.startswith('"""A module of 1 function."""\n')
        assert "@cached(size=4)\ndef f(x: Literal[1], *, y" in text


def test_mutants_of_equal_lines_are_numbered() -> None:
    found = [place.mutant for place in mutants("m.py", "x = 1\nx = 1\n")]
    assert found == [Mutant("m.py", "x = 1", "x = 2", 0), Mutant("m.py", "x = 1", "x = 2", 1)]


def test_a_change_within_several_lines_shows_the_lines_that_differ() -> None:
    (found,) = mutants("m.py", "x = f(\n    a,\n    1,\n    b)\n")[1:]
    assert (found.mutant.was, found.mutant.becomes, found.line) == ("1,", "2,", 3)


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    (tmp_path / "a.py").write_text("".join(f"a{i} = {i}\n" for i in range(30)))
    (tmp_path / "b.py").write_text("".join(f"b{i} = {i}\n" for i in range(10)))
    (tmp_path / "c.py").write_text("c = 1\n")
    return tmp_path


def test_each_module_has_its_share_of_the_draw_and_at_least_one(modules: Path) -> None:
    drawn = [place.mutant.path for place in draw(modules, ["a.py", "b.py", "c.py"], sample=8, seed=0)]
    assert {path: drawn.count(path) for path in drawn} == {"a.py": 6, "b.py": 2, "c.py": 1}


def test_a_larger_draw_of_the_same_seed_contains_a_smaller_one(modules: Path) -> None:
    few, many, others = (
        {place.mutant for place in draw(modules, ["a.py", "b.py"], sample=sample, seed=seed)}
        for sample, seed in ((12, 0), (24, 0), (12, 1))
    )
    assert few < many
    assert few != others


def test_a_draw_stays_while_other_lines_change(modules: Path) -> None:
    before = {place.mutant for place in draw(modules, ["a.py"], sample=10, seed=0)}
    (modules / "a.py").write_text("import math\n\n" + (modules / "a.py").read_text())
    assert {place.mutant for place in draw(modules, ["a.py"], sample=10, seed=0)} == before
