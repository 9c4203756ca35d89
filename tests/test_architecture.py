"""Which room may import which. A module that is not listed fails, and so does an import upward or in a circle."""

import ast
import graphlib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "ict_ref"

# From the ground floor upward: a room imports only from the rooms it names, which stand above it in this list.
ROOMS: dict[str, set[str]] = {
    "__init__": set(),
    "formulas": set(),
    "paper": set(),
    "config": set(),
    "files": set(),
    "supervisor": set(),
    "command": {"supervisor"},
    "stop": {"supervisor"},
    "prepared": {"__init__"},
    "sources": {"prepared"},
    "prepare": {"command", "files", "prepared", "sources"},
    "ledger": set(),
    "__main__": {"__init__", "ledger"},
    "verify": {"__init__", "formulas"},
    "randomness": set(),
    "pictures": {"files", "sources"},
    "networks": {"formulas", "config", "randomness"},
    "data": {"config", "randomness", "prepared"},
    "tensor_file": set(),
    "checkpoints": {"__init__", "files", "tensor_file"},
    "metrics": {"files"},
    "run_folder": {"__init__", "config", "files"},
    "network_file": {"__init__", "checkpoints", "config", "files", "networks", "tensor_file"},
    "import_checkpoint": {"command", "files", "networks", "network_file"},
    "metric": {"formulas", "config"},
    "denoiser": {"config", "formulas", "network_file"},
    "step": {"metric", "denoiser", "formulas", "config", "randomness", "networks"},
    "optimizer": set(),
    "processes": {"config"},
    "batches": {"config", "data", "networks", "step"},
    "trainer": {"batches", "checkpoints", "config", "denoiser", "networks", "optimizer", "processes", "step"},
    "training": {"checkpoints", "metrics", "step", "trainer"},
    "job": set(),
    "typed_options": set(),
    "task": {"command", "files", "job"},
    "following": {"command", "supervisor", "task"},
    "submission": {"following", "task"},
    "export_checkpoint": {"checkpoints", "command", "data", "networks", "network_file", "run_folder"},
    "trained": {"config", "export_checkpoint", "network_file", "networks", "run_folder"},
    "sample": {
        "__init__",
        "checkpoints",
        "command",
        "config",
        "data",
        "files",
        "formulas",
        "job",
        "networks",
        "pictures",
        "processes",
        "randomness",
        "stop",
        "submission",
        "supervisor",
        "task",
        "trained",
        "typed_options",
    },
    "evaluate": {
        "__init__",
        "command",
        "config",
        "data",
        "files",
        "formulas",
        "pictures",
        "prepared",
        "randomness",
        "sample",
        "sources",
        "trained",
    },
    "edit": {
        "__init__",
        "command",
        "data",
        "files",
        "formulas",
        "networks",
        "pictures",
        "randomness",
        "sample",
        "trained",
    },
    "experiments": {"batches", "command", "config", "data", "files", "formulas", "optimizer", "randomness", "trainer"},
    "figures": {
        "__init__",
        "batches",
        "command",
        "config",
        "data",
        "evaluate",
        "experiments",
        "files",
        "formulas",
        "networks",
        "pictures",
        "processes",
        "sample",
        "trained",
        "trainer",
    },
    "search": {"__init__", "command", "evaluate", "figures", "files", "formulas", "sample", "trained"},
    "options": {"config", "job", "prepared", "typed_options"},
    "listing": {"config", "data", "networks", "randomness"},
    "run": {
        "__init__",
        "command",
        "data",
        "evaluate",
        "figures",
        "files",
        "metrics",
        "options",
        "processes",
        "run_folder",
        "sample",
        "stop",
        "trainer",
        "training",
    },
    "submit_run": {
        "command",
        "data",
        "metrics",
        "options",
        "processes",
        "run",
        "run_folder",
        "step",
        "submission",
        "task",
    },
    "launch": {"command", "listing", "options", "run", "submit_run", "supervisor"},
}


def modules(source: Path) -> dict[str, Path]:
    """Return every module below `source` by its dotted name, a package by its own."""
    paths = sorted(source.rglob("*.py"))
    return {".".join(path.relative_to(source).with_suffix("").parts).replace(".__init__", ""): path for path in paths}


def imports(path: Path, known: set[str]) -> set[str]:
    """Return the modules of ours that a file imports anywhere, in functions and for type checking too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import in line {node.lineno}"
            # `from a import b` is of the module a.b if there is one, else of a.
            module = f"{node.module}."
            names = [module + a.name if short(module + a.name) in known else f"{node.module}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {short(name) for name in names if name.split(".")[0] == "ict_ref"}
    return found


def short(name: str) -> str:
    """Return a module's name without the package's; the package itself is __init__."""
    return name.removeprefix("ict_ref.") if name != "ict_ref" else "__init__"


def violations(source: Path) -> list[str]:
    """Return a line for each module in no room, import upward and circle below `source`."""
    known = modules(source)
    graph = {name: imports(path, set(known)) for name, path in known.items()}
    found = []
    for name, imported in graph.items():
        room = name.split(".")[0]
        if room not in ROOMS:
            found.append(f"{name} is in no room")
            continue
        for other in sorted(imported):
            if other.split(".")[0] not in ROOMS[room] | {room}:
                found.append(f"{name} imports {other}")
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        found.append(f"circle: {' -> '.join(error.args[1])}")
    return found


def test_every_module_is_in_a_room_and_imports_only_downward() -> None:
    assert violations(SOURCE) == []


def test_rooms_are_listed_from_the_ground_floor_upward() -> None:
    order = list(ROOMS)
    for room, below in ROOMS.items():
        assert all(order.index(other) < order.index(room) for other in below)


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"formulas/schedule.py": "import ict_ref.config"}, "formulas.schedule imports config"),
        (
            {"formulas/__init__.py": "def f():\n    from ict_ref import step", "step.py": ""},
            "formulas imports step",
        ),
        ({"step.py": "from ict_ref.training import fit"}, "step imports training"),
        ({"attic.py": ""}, "attic is in no room"),
        (
            {
                "formulas/a.py": "from ict_ref.formulas import b",
                "formulas/b.py": "from ict_ref.formulas.a import x",
            },
            "circle: formulas.a -> formulas.b -> formulas.a",
        ),
    ],
)
def test_a_wrong_import_is_found(tmp_path: Path, files: dict[str, str], complaint: str) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert complaint in violations(tmp_path)


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
