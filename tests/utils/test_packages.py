"""Which package is missing, and how to install it."""

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from ict_ref.utils.packages import how_to_install, requirements

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
# Run a command where the given packages do not exist.
WITHOUT = """\
import sys
for name in {packages!r}: sys.modules[name] = None
from ict_ref.__main__ import main
sys.exit(main({arguments!r}))
"""
BASE = {"hypothesis", "jaxtyping", "numpy", "torch", "tqdm", "tyro"}
BEYOND = ["PIL", "safetensors", "sklearn", "submitit", "matplotlib", "scipy", "tensorboard", "pyarrow", "beartype"]


def run(packages: list[str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    program = WITHOUT.format(packages=packages, arguments=list(arguments))
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("module", "requirement"),
    [
        ("PIL", "pillow>=11"),
        ("PIL.Image", "pillow>=11"),
        ("sklearn.datasets", "scikit-learn>=1.6"),
        ("matplotlib", "matplotlib>=3.10"),
        ("submitit", "submitit<1.6,>=1.5"),
    ],
)
def test_the_line_names_the_package_and_its_smallest_version(module: str, requirement: str) -> None:
    line = how_to_install(ModuleNotFoundError(f"No module named {module!r}", name=module))
    assert line is not None
    assert line.endswith(f"Run pip install '{requirement}'.")


@pytest.mark.parametrize("module", ["ict_ref.nothing", "no_such_package", "", None])
def test_a_module_of_nobody_is_an_error_of_the_code(module: str | None) -> None:
    assert how_to_install(ModuleNotFoundError("No module", name=module)) is None


def test_a_source_tree_without_metadata_keeps_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", missing)
    requirements.cache_clear()
    try:
        assert how_to_install(ModuleNotFoundError("No module", name="PIL")) is None
    finally:
        requirements.cache_clear()


def test_what_stands_in_pyproject_is_found() -> None:
    extras = PROJECT["optional-dependencies"]
    everything = [*PROJECT["dependencies"], *(line for lines in extras.values() for line in lines)]
    found = {Requirement(line) for line, _ in requirements().values()}
    # Metadata and pyproject.toml order the bounds of a version differently.
    assert {one for one in found if one.name != "ict_ref"} <= {Requirement(line) for line in everything}
    assert requirements()["matplotlib"][1] == "figures"


def test_the_base_is_what_formulas_and_verify_need() -> None:
    assert {line.split(">")[0] for line in PROJECT["dependencies"]} == BASE


@pytest.mark.parametrize(
    "arguments",
    [
        ("--version",),
        ("eq", "pseudo_huber"),
        ("verify", "ict_ref.formulas", "--only", "c_skip"),
        *((command, "--help") for command in ("launch", "sample", "evaluate", "search", "edit", "prepare", "figures")),
    ],
)
def test_the_base_alone_is_enough_for(arguments: tuple[str, ...]) -> None:
    done = run(BEYOND, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_a_dry_run_without_slurm_does_not_need_submitit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(["submitit", "matplotlib", "tensorboard", "pyarrow"], "launch", "--config", "minimal", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\nready\n")


@pytest.mark.parametrize(
    ("missing", "arguments", "requirement"),
    [
        ("sklearn", ("launch", "--config", "minimal", "--out", "run"), "scikit-learn>=1.6"),
        ("safetensors", ("launch", "--config", "minimal", "--out", "run"), "safetensors>=0.5"),
        ("PIL", ("prepare", "images", "--out", "data"), "pillow>=11"),
        ("submitit", ("launch", "--slurm", "--config", "minimal", "--dry-run"), "submitit<1.6,>=1.5"),
    ],
)
def test_a_command_without_its_package_is_refused_in_one_line(
    missing: str, arguments: tuple[str, ...], requirement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    done = run([missing], *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"ict_ref.{arguments[0]}: expected the package ")
    assert line.endswith(f"Run pip install '{requirement}'.")
