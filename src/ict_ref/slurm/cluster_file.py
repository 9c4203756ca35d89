"""Cluster files: a TOML file with the data, the jobs and the hardware of a cluster.

    [data]
    imagenet64 = "/datasets/imagenet64"
    [job]
    partition = "gpu"
    [machine]
    compile = true

A cluster file is found by --profile, else by $ICT_REF_PROFILE, else at ~/.config/ict_ref/cluster.toml. Both accept a
path, or the name of a file NAME.toml in ~/.config/ict_ref or in this package; `none` is no cluster file.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

from ict_ref.slurm.options import Job, job_option, refuse_without_slurm
from ict_ref.utils.command_line import expect
from ict_ref.utils.json_file import checked
from ict_ref.utils.nearest import hint
from ict_ref.utils.option_parser import Given
from ict_ref.utils.toml_file import read_toml

Groups = Mapping[str, Mapping[str, Any]]
"""Values or types by group and name."""
VARIABLE = "ICT_REF_PROFILE"
NONE = "none"
"""The name of no cluster file."""
SHIPPED = Path(str(files("ict_ref.slurm").joinpath("profiles")))


@dataclass(frozen=True)
class ClusterFile:
    """The values of a cluster file, by group and name. Without a file it is empty."""

    path: Path | None = None
    values: Groups = field(default_factory=dict)

    def group(self, name: str) -> dict[str, Any]:
        """Return the values of a group."""
        return dict(self.values.get(name, {}))

    def described(self, message: str, given: Given) -> str:
        """Return a message about options, with the values among them that this file sets and no option changes."""
        typed = {path[-2:] for path in given}
        options = {
            f"--{group}.{name.replace('_', '-')}": f"[{group}] {name} = {value}"
            for group, values in self.values.items()
            for name, value in values.items()
            if (group, name) not in typed
        }
        named = [text for option, text in options.items() if re.search(rf"{option}(?![\w-])", message)]
        return f"{message} ({', '.join(named)} in {self.path})" if named else message


def read_cluster_file(
    profile: str | None, options: Groups, current_names: Callable[[Groups], Groups] = dict
) -> ClusterFile:
    """Return the cluster file that --profile names, or the default one.

    `options` are the options that the file may set besides those of a job, with their types. `current_names` gives the
    file's content the names of today.

    Raises:
        ValueError: The file does not exist, is not TOML, or has an unknown option or a value of another type.
        OSError: The file cannot be read.
    """
    path = found(profile)
    if path is None:
        return ClusterFile()
    content = current_names(read_toml(path))
    known = {"job": get_type_hints(Job), **options}
    return ClusterFile(path, _checked(_by_group(content, known, path), known, path))


def job_of(base: Job, file: ClusterFile, given: Given, *, gpus: bool = True) -> Job:
    """Return a job with the values of the cluster file, and before them those of the command line.

    Without `gpus`, the job takes no GPUs of the cluster file.

    Raises:
        ValueError: A value is not allowed, or the command line has options of a job but no --slurm.
    """
    typed = {path[1]: value for path, value in given.items() if path[0] == "job"}
    if typed and not given.get(("slurm",), False):
        refuse_without_slurm(job_option(min(typed)))
    try:
        job = replace(base, **_of_file(file, gpus=gpus) | typed)
    except ValueError as error:
        raise ValueError(file.described(str(error), given)) from None
    if "gpu_type" in typed and not job.gpus_per_node:
        raise ValueError("--job.gpu-type: expected GPUs, got a job without. Give --job.gpus-per-node too.")
    return job


def _of_file(file: ClusterFile, *, gpus: bool) -> dict[str, Any]:
    return {name: value for name, value in file.group("job").items() if gpus or not name.startswith("gpu")}


def found(profile: str | None) -> Path | None:
    """Return the path of the cluster file, or None without one.

    Raises:
        ValueError: A file is named that does not exist.
    """
    if profile is not None:
        return None if profile == NONE else _named(profile, "--profile")
    if named := os.environ.get(VARIABLE, ""):
        return None if named == NONE else _named(named, f"${VARIABLE}")
    default = folder() / "cluster.toml"
    return default if default.exists() else None


def folder() -> Path:
    """Return the folder of the user's cluster files.

    Raises:
        ValueError: $XDG_CONFIG_HOME is not an absolute path, which the XDG specification requires.
    """
    named = os.environ.get("XDG_CONFIG_HOME")
    expect(
        not named or Path(named).is_absolute(), "$XDG_CONFIG_HOME", "an absolute path", named, "Correct or unset it."
    )
    # A user without a home folder has no cluster file: then ~ stays as it is, and the folder does not exist.
    return Path(named or os.path.expanduser("~/.config")) / "ict_ref"  # noqa: PTH111


def names() -> list[str]:
    """Return the names of the cluster files that need no path."""
    return sorted({path.stem for place in (folder(), SHIPPED) for path in place.glob("*.toml")})


def _named(name: str, by: str) -> Path:
    """Return the cluster file of a name or path that `by` gives.

    Raises:
        ValueError: The file does not exist.
    """
    known = [place / f"{name}.toml" for place in (folder(), SHIPPED)] if Path(name).name == name else []
    file = Path(os.path.expanduser(os.path.expandvars(name)))  # noqa: PTH111 (a user may be unknown)
    for path in (*known, file):
        if path.is_file():
            return path
    why = "" if known else f", which {'is not a file' if file.exists() else 'does not exist'}"
    expected = f"a TOML file or one of {', '.join(names())}"
    raise ValueError(f"{by}: expected {expected}, got {name or 'an empty string'}{why}{_hint(name, names())}")


def _by_group(content: Mapping[str, Any], known: Groups, path: Path) -> Groups:
    """Return the values by group; values outside a group are of the job, as in files of earlier versions.

    Raises:
        ValueError: A group is unknown, or is not a table.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, value in content.items():
        if name in known and not isinstance(value, dict):
            raise ValueError(f"{path}: expected a table [{name}], got {name} = {value!r}")
        if isinstance(value, dict):
            if name not in known:
                raise ValueError(f"{path}: unknown group [{name}]{_hint(name, known, 'groups')}")
            groups[name] = {**groups.get(name, {}), **value}
        else:
            groups["job"] = {**groups.get("job", {}), name: value}
    return groups


def _checked(groups: Groups, known: Groups, path: Path) -> Groups:
    """Return the values as their type hints have them.

    Raises:
        ValueError: A name is unknown, or a value has another type.
    """
    values: dict[str, dict[str, Any]] = {}
    for group, given in groups.items():
        types = known[group]
        for name in given:
            if name not in types:
                elsewhere = [other for other in known if name in known[other]]
                place = f"; it belongs to [{elsewhere[0]}]" if elsewhere else _hint(name, types, "options")
                raise ValueError(f"{path}: unknown option {name} in [{group}]{place}")
        values[group] = {
            name: checked(value, types[name], f"{path}: [{group}] {name}") for name, value in given.items()
        }
    return values


def _hint(word: str, known: Iterable[str], kind: str = "") -> str:
    return hint(word, known) or (f"; known {kind}: {', '.join(known)}" if kind else "")
