"""Print the import graph of the package: `python -m tools.import_graph [--edges]`.

A unit is a module or a package directly below src/ict_ref; an edge is an import of one unit by another, anywhere in it,
in functions and for type checking too. The level of a unit is one more than the highest level that it imports.
LAYERS is the rule: a unit imports only from lower layers. tests/test_architecture.py tests it.
"""

import argparse
import ast
import graphlib
import sys
from collections.abc import Iterable
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "ict_ref"
# From the ground upward. Units of one layer do not import each other.
LAYERS: tuple[frozenset[str], ...] = tuple(
    frozenset(names.split())
    for names in (
        "formulas utils equations task",
        "config paper papers verify",
        "networks data distributed slurm",
        "checkpoint prepare",
        "training sample import_checkpoint export_checkpoint",
        "evaluate edit experiments plan",
        "launch search figures",
        "__init__ __main__",
    )
)
Graph = dict[str, set[str]]


def modules(source: Path) -> dict[str, Path]:
    """Return every module below `source` by its dotted name, a package by its name."""
    paths = sorted(source.rglob("*.py"))
    return {".".join(path.relative_to(source).with_suffix("").parts).replace(".__init__", ""): path for path in paths}


def imports(path: Path, known: Iterable[str]) -> set[str]:
    """Return the modules of the package that a file imports anywhere. Raises ValueError for a relative import."""
    known, found = set(known), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{path}: relative import in line {node.lineno}; write the full name")
            # `from a import b` imports the module a.b if there is one, else a.
            inner = [(short(f"{node.module}.{alias.name}"), f"{node.module}") for alias in node.names]
            names = [f"ict_ref.{one}" if one in known else other for one, other in inner if _ours(other)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if _ours(alias.name)]
        else:
            continue
        found |= {short(name) for name in names}
    return found


def _ours(name: str) -> bool:
    return name.split(".")[0] == "ict_ref"


def short(name: str) -> str:
    """Return a module's name without the package's; the package itself is __init__."""
    return name.removeprefix("ict_ref.") if name != "ict_ref" else "__init__"


def module_graph(source: Path = SOURCE) -> Graph:
    """Return the imports of each module."""
    known = modules(source)
    return {name: imports(path, known) for name, path in known.items()}


def unit_graph(graph: Graph) -> Graph:
    """Return the imports of each unit from other units."""
    units: Graph = {name.split(".")[0]: set() for name in graph}
    for name, imported in graph.items():
        unit = name.split(".")[0]
        units[unit] |= {other.split(".")[0] for other in imported} - {unit}
    return units


def cycle(graph: Graph) -> list[str]:
    """Return the names along a circle of imports, or an empty list."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [str(name) for name in error.args[1]]
    return []


def levels(units: Graph) -> dict[str, int]:
    """Return the level of each unit, from 0. Raises graphlib.CycleError for a circle."""
    found: dict[str, int] = {}
    for unit in graphlib.TopologicalSorter(units).static_order():
        found[unit] = 1 + max((found[other] for other in units.get(unit, ())), default=-1)
    return found


def violations(source: Path = SOURCE, layers: Iterable[Iterable[str]] = LAYERS) -> list[str]:
    """Return a line for each unit in no layer, for each import that does not point downward, and for a circle."""
    layer = {unit: height for height, units in enumerate(layers) for unit in units}
    graph = module_graph(source)
    found = [f"{unit} is in no layer" for unit in unit_graph(graph) if unit not in layer]
    for name, imported in sorted(graph.items()):
        here = name.split(".")[0]
        for other in sorted(imported):
            there = other.split(".")[0]
            if there != here and here in layer and layer.get(there, len(layer)) >= layer[here]:
                found.append(f"{name} imports {other}, which is not below it")
    if circle := cycle(graph):
        found.append(f"circle: {' -> '.join(circle)}")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print the figures, and with --edges every edge; return 1 if the rule is broken."""
    parser = argparse.ArgumentParser(prog="python -m tools.import_graph", description=__doc__.splitlines()[0])
    parser.add_argument("--edges", action="store_true", help="print every edge between units too")
    options = parser.parse_args(arguments)
    graph = module_graph()
    units = unit_graph(graph)
    wrong = violations()
    upward = sum("not below it" in line for line in wrong)
    circles = int(bool(cycle(units))) + int(bool(cycle(graph)))
    height = "unknown" if cycle(units) else str(1 + max(levels(units).values()))
    edges = sorted((unit, other) for unit, others in units.items() for other in others)
    print(f"units {len(units)}, levels {height}, edges {len(edges)}, cycles {circles}, upward edges {upward}")
    print("".join(f"{unit} -> {other}\n" for unit, other in edges) if options.edges else "", end="")
    print("".join(f"{line}\n" for line in wrong), end="", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
