"""The folder of a run's data: named by an option, the cluster file or $ICT_REF_DATA, and identified by its checksum."""

import dataclasses
import os
import re
from pathlib import Path

from ict_ref.config import Config
from ict_ref.config.cluster import DATA_SETS
from ict_ref.data.prepared import read_about
from ict_ref.slurm.cluster_file import SHIPPED, ClusterFile, folder

VARIABLE = "ICT_REF_DATA"
"""Environment variable with a folder of prepared data sets."""


def data_folder(name: str, file: ClusterFile) -> str:
    """Return the folder of a data set: that of the cluster file, else $ICT_REF_DATA/NAME if it exists, else "".

    A path in the cluster file may contain ~ and variables; if it is relative, it is relative to the file's folder.

    Raises:
        ValueError: $ICT_REF_DATA is not a folder, or the path in the cluster file is empty or cannot be expanded.
    """
    stated = file.group("data").get(name)
    if stated is not None and file.path is not None:
        return str(file.path.absolute().parent / _expanded(stated, f"{file.path}: [data] {name}"))
    root = os.environ.get(VARIABLE, "") if name in DATA_SETS else ""
    if root and not Path(root).is_dir():
        raise ValueError(f"${VARIABLE}: expected a folder of prepared data sets, got {root}. Correct or unset it.")
    return str(Path(root) / name) if root and (Path(root) / name).is_dir() else ""


def source(config: Config, file: ClusterFile) -> str:
    """Return the place that names the folder of the data, other than the command line; "" if none does."""
    data = config.data
    if not data.path or data.path != data_folder(data.name, file):
        return ""
    return str(file.path) if data.name in file.group("data") else f"${VARIABLE}"


def with_checksum(config: Config, file: ClusterFile) -> Config:
    """Return the configuration with the checksum of its data, which identifies them in any folder, and absolute paths.

    Raises:
        ValueError: `data.path` is empty or its folder does not hold prepared data.
        OSError: The prepared data cannot be read.
    """
    data = config.data
    if data.name == "digits":
        return config
    if not data.path:
        raise ValueError(
            f"--data.path: expected the folder of {data.name}, got nothing. Make it with python -m ict_ref.prepare. "
            f'Then give --data.path FOLDER, write {data.name} = "FOLDER" below [data] in '
            f"{_editable(file)}, or keep it as ${VARIABLE}/{data.name}."
        )
    try:
        checksum = data.checksum or read_about(Path(data.path)).checksum()
    except ValueError as error:
        named = source(config, file)
        raise ValueError(f"--data.path: {error}{f' (named by {named})' if named else ''}") from None
    path, held_out = (_absolute(place) if place else "" for place in (data.path, data.held_out))
    return dataclasses.replace(config, data=dataclasses.replace(data, checksum=checksum, path=path, held_out=held_out))


def _editable(file: ClusterFile) -> str:
    """Return the cluster file in which a user writes; one of the package is copied, since updates replace it."""
    if file.path is None:
        return str(folder() / "cluster.toml")
    own = folder() / file.path.name
    return f"{own}, a copy of {file.path}" if file.path.parent == SHIPPED else str(file.path)


def _expanded(path: str, where: str) -> Path:
    """Return a path with ~ and variables replaced.

    Raises:
        ValueError: The path is empty, or a variable or a user does not exist.
    """
    replaced = os.path.expandvars(path)
    if not path:
        raise ValueError(f"{where}: expected a folder, got an empty string")
    if unknown := re.search(r"\$\{?\w+\}?", replaced):
        raise ValueError(f"{where}: expected variables that are set, got {unknown[0]} in {path}")
    try:
        return Path(replaced).expanduser()
    except RuntimeError:
        raise ValueError(f"{where}: expected ~ or ~ with a user of this machine, got {path}") from None


def _absolute(place: str) -> str:
    """Return an absolute path of the same folder, with `..` only where it follows a symbolic link."""
    normal = Path(os.path.abspath(place))  # noqa: PTH100 (resolve() would follow links)
    return str(normal if normal.exists() and normal.samefile(place) else Path(place).absolute())
