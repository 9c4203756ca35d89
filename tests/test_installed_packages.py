"""Each package that .ci/run installs has a version and a hash, and uv.lock has the same versions."""

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PINS = re.compile(r"^([\w.-]+)==([\w.+]+)", re.MULTILINE)
HASHED = re.compile(r"^([\w.-]+)==([\w.+]+)[^\\\n]*((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE)


def plain(name: str) -> str:
    """Return a project's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def hashed(file: str) -> dict[str, str]:
    """Return the version of each project with hashes in a file, all of whose lines must be of such projects."""
    text = "".join(
        line for line in (ROOT / "requirements" / file).read_text().splitlines(keepends=True) if line[0] != "#"
    )
    assert HASHED.sub("", text).strip() == ""
    return {plain(name): version for name, version, _ in HASHED.findall(text)}


def test_every_pinned_version_has_a_hash() -> None:
    pinned = {plain(name): version for name, version in PINS.findall((ROOT / "constraints.txt").read_text())}
    found = {name: version.partition("+")[0] for name, version in hashed("ci.txt").items()}
    build = {"hatchling", "hatch-fancy-pypi-readme", "editables", "tomlkit", "trove-classifiers"}
    assert {name: version for name, version in found.items() if name not in build} == pinned
    assert build < found.keys()


def test_nox_and_what_builds_the_package_are_those_of_ci() -> None:
    assert hashed("nox.txt").items() <= hashed("ci.txt").items()
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    for file in ("ci.txt", "package.txt"):
        assert requires == [f"{name}=={hashed(file)[name]}" for name in ("hatchling", "hatch-fancy-pypi-readme")]


def locked() -> dict[str, dict[str, Any]]:
    """Return the packages of uv.lock."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    return {plain(package["name"]): package for package in lock["package"]}


def declared() -> dict[str, set[str]]:
    """Return the packages that pyproject.toml requires, with the extras of the package itself resolved."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {"": project["dependencies"], **project["optional-dependencies"]}

    def expanded(lines: list[str]) -> set[str]:
        own = re.compile(r"ict_ref\[(.*)\]")
        names = {name for line in lines if (found := own.fullmatch(line)) for name in found[1].split(",")}
        return {line for line in lines if not own.fullmatch(line)}.union(*(expanded(extras[name]) for name in names))

    return {extra: expanded(lines) for extra, lines in extras.items()}


def test_the_lock_is_of_the_declared_requirements() -> None:
    # `nox -s package` asks uv itself; this is what `uv lock` must be run for.
    found: dict[str, set[str]] = {extra: set() for extra in declared()}
    for entry in locked()["ict-ref"]["metadata"]["requires-dist"]:
        extra = entry.get("marker", "").removeprefix("extra == '").removesuffix("'")
        found[extra].add(entry["name"] + entry.get("specifier", ""))
    assert found == declared()


def test_the_lock_has_the_tested_versions() -> None:
    pinned = {plain(name): version for name, version in PINS.findall((ROOT / "constraints.txt").read_text())}
    versions = {name: package.get("version", "") for name, package in locked().items()}
    assert {name: versions.get(name) for name in pinned} == pinned


def test_every_file_of_the_lock_has_a_hash() -> None:
    for name, package in locked().items():
        files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else [])]
        assert files or name == "ict-ref"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", file["hash"]) for file in files)
