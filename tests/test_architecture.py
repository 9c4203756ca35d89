"""Units import only from layers below their own; the layers are the list in tools/import_graph.py."""

import ast
from pathlib import Path

import pytest
from tools.import_graph import LAYERS, SOURCE, cycle, levels, main, module_graph, unit_graph, violations


def test_every_unit_is_in_one_layer_and_imports_only_downward() -> None:
    assert violations() == []
    units = unit_graph(module_graph())
    assert sorted(unit for layer in LAYERS for unit in layer) == sorted(units)


def test_the_graph_stays_small(capsys: pytest.CaptureFixture[str]) -> None:
    units = unit_graph(module_graph())
    edges = sum(map(len, units.values()))
    height = 1 + max(levels(units).values())
    assert len(units) <= 30
    assert height <= 8
    assert edges <= 100
    assert cycle(units) == []
    assert main([]) == 0
    assert capsys.readouterr().out == f"units {len(units)}, levels {height}, edges {edges}, cycles 0, upward edges 0\n"


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"low/a.py": "import ict_ref.high"}, "low.a imports high, which is not below it"),
        ({"low/__init__.py": "def f():\n    from ict_ref import high"}, "low imports high, which is not below it"),
        ({"low/a.py": "from ict_ref.high import b"}, "low.a imports high.b, which is not below it"),
        ({"low/a.py": "from ict_ref import beside"}, "low.a imports beside, which is not below it"),
        ({"attic.py": ""}, "attic is in no layer"),
        (
            {"low/a.py": "from ict_ref.low import b", "low/b.py": "from ict_ref.low.a import x"},
            "circle: low.a -> low.b -> low.a",
        ),
    ],
)
def test_a_wrong_import_is_found(tmp_path: Path, files: dict[str, str], complaint: str) -> None:
    given = {"low/__init__.py": "", "beside.py": "", "high/__init__.py": "", "high/b.py": "import ict_ref.low", **files}
    for name, text in given.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = violations(tmp_path, [["low", "beside"], ["high"]])
    assert found[-1:] == [complaint]
    assert len(found) == 1


def test_a_relative_import_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("from . import b")
    with pytest.raises(ValueError, match="relative import in line 1"):
        violations(tmp_path)


def test_levels_count_the_longest_way_down() -> None:
    assert levels({"a": set(), "b": {"a"}, "c": {"a", "b"}, "d": {"a"}}) == {"a": 0, "b": 1, "c": 2, "d": 1}


def test_formulas_stand_on_torch_and_the_standard_library_alone_and_draw_nothing() -> None:
    standard = {"collections", "dataclasses", "fractions", "functools", "itertools", "math", "typing"}
    allowed = standard | {"torch", "jaxtyping", "ict_ref"}
    random = {"rand", "randn", "randint", "randperm", "normal", "normal_", "bernoulli", "multinomial", "dropout"}
    for path in sorted((SOURCE / "formulas").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= allowed, path
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] in allowed, path
            elif isinstance(node, ast.Attribute):
                assert node.attr not in random, f"{path}:{node.lineno}"
