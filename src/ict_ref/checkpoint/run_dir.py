"""Run folders: the configuration, metrics and checkpoints of one run.

config.json     the configuration, the run's identity, the images of the model, and the version that began the run
metrics.jsonl   see `ict_ref.training.metrics_log`
checkpoint-*    see `ict_ref.checkpoint.training_state`
"""

import dataclasses
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ict_ref.checkpoint.environment import environment
from ict_ref.checkpoint.safetensors_io import description
from ict_ref.checkpoint.training_state import NAME, checkpoints
from ict_ref.config import Config
from ict_ref.config.identity import (
    DEFAULTS_OF_FORMAT_1,
    Tree,
    digest,
    digest_of_0_1_0,
    flat,
    identity,
    is_identity,
    nested,
)
from ict_ref.config.images import ImageDescription, image_description
from ict_ref.config.network_note import NetworkNote, network_note, refuse_another_network
from ict_ref.config.old_names import with_current_names
from ict_ref.config.validate import option
from ict_ref.data.prepared import sha256
from ict_ref.utils import file_format
from ict_ref.utils.atomic import locked, remove_leftovers, write_atomically, written_name
from ict_ref.utils.command_line import expect
from ict_ref.utils.file_format import LaterFormatError
from ict_ref.utils.json_file import checked, read_json
from ict_ref.utils.locks import OWNER, refuse_locked
from ict_ref.utils.regular_file import read_regular
from ict_ref.utils.version import __version__

FORMAT = 2
"""Format 1, of version 0.1.0, has neither identity nor images; the identity is computed from the configuration."""
FILES = ("method.denoiser", "method.lpips", "train.init")
"""Options with the path of a file on which training depends; a run is tied to the content of the file."""
IN_PYTHON = "Resume it in Python: ict_ref.train(..., network=...)."
"""Advice for a run with a network of the user's own."""
BEGUN_AS = "digest_of_0_1_0"
"""Key of config.json with the digest of 0.1.0 that the run had before an option outside its identity changed."""
ENTRIES = {file_format.KEY, "written_by", "ict_ref", "identities", BEGUN_AS, "config", "files", "images"}
ENTRIES |= {"own_network", "environment"}
"""Entries of config.json in all formats."""


@dataclass(frozen=True)
class Run:
    """The content of config.json."""

    config: Config
    identities: tuple[str, ...]
    """The identity of the run, with which its checkpoints are marked, and those that earlier versions gave it."""
    images: ImageDescription | None
    """Images of the model; None in a file of format 1."""
    own_network: NetworkNote | None = None
    """Note on a network of the user's own; None for one that the configuration describes."""


def run_identity(config: Config, own_network: NetworkNote | None = None) -> str:
    """Return the identity of a run: the digest of its configuration, and of the checksum of a network of one's own.

    >>> from ict_ref.config import minimal
    >>> run_identity(minimal()) == minimal().digest() != run_identity(minimal(), NetworkNote("m:build", "0123"))
    True
    """
    own = {} if own_network is None else {"own_network": own_network.sha256}
    return digest(config.identity() | own)


@contextmanager
def open_run(
    folder: Path,
    config: Config,
    images: ImageDescription | None = None,
    own_network: NetworkNote | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[list[str]]:
    """Create or reopen a run folder, and lock it while the block runs; yield a line if the environment has changed.

    The environment is what rounding depends on: versions, the CPU's instructions and the model of the device. `images`
    describe the model's images, and `own_network` a network that the configuration does not describe. A config.json of
    an earlier version is written anew in today's format, and changed options are recorded. Options of `sample`,
    `acceptance`, `machine` and `record` may change, and paths of data and `data.partial`.

    >>> from ict_ref.config import minimal
    >>> with open_run(Path("run"), minimal()):
    ...     load_config(Path("run")) == minimal()
    True

    Raises:
        LaterFormatError: a later version of ict_ref wrote the folder.
        ValueError: the folder belongs to another run, holds other files, is damaged or is in use.
        OSError: the folder cannot be written.
    """
    _refuse_other_folders(folder)
    config_file = folder / "config.json"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, ".lock"):
        _refuse_other_folders(folder)  # another process may have written into it in the meantime
        for place in (folder, folder / "samples"):
            remove_leftovers(place, _is_of_training)
        content = _content(folder, config, images, own_network)
        before, content["environment"] = content.get("environment"), environment(device)
        text = json.dumps(content, indent=2).encode() + b"\n"
        if not config_file.exists() or read_regular(config_file) != text:
            write_atomically(config_file, text)
        yield _changes(before, content["environment"])


def _is_of_training(name: str) -> bool:
    """Return whether a file of this name in a run folder is written by training alone, under the lock of the run."""
    known = ("config.json", "metrics.jsonl", "samples.png", "scores.json")
    return name in known or name.startswith("step-") or NAME.fullmatch(name) is not None


def _changes(before: Mapping[str, str] | None, now: Mapping[str, str]) -> list[str]:
    """Return a line with the differences between two environments, if there are any and the first is known."""
    known = {name: before[name] for name in now if name in before} if before else {}
    changed = [f"{name} {now[name]} instead of {was}" for name, was in known.items() if now[name] != was]
    return [f"resumes with {', '.join(changed)}; values may differ in their last digits"] if changed else []


def refuse_unusable(folder: Path, config: Config) -> None:
    """Reject a run folder that `open_run` would reject, without creating or changing anything.

    Raises:
        LaterFormatError: a later version of ict_ref wrote the folder.
        ValueError: the folder belongs to another run, holds other files, is damaged, in use or cannot be written.
    """
    _refuse_other_folders(folder)
    _content(folder, config, None, None)
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise ValueError(f"--out: expected a writable folder, got {folder}, and {there} cannot be written")
    refuse_locked(folder / ".lock")


def _refuse_other_folders(folder: Path) -> None:
    """Reject a path that is a file, or a folder with other files than those of a run.

    Raises:
        ValueError: the path is such a file or folder.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file. Choose a folder with --out.")
    # Left by a run that was killed while it began, or by a job that has not begun.
    ours = {".lock", f".lock{OWNER}", "config.json", "config.json.tmp", "slurm"}
    there = {written_name(file.name) for file in folder.iterdir()} if folder.is_dir() else set()
    if there - ours and not (folder / "config.json").exists():
        lost = any(name.startswith("checkpoint-") for name in there)
        advice = " To resume from these checkpoints, copy here the config.json that the same command writes there."
        raise ValueError(
            f"{folder} is not a run folder: it has files but no config.json. Choose another --out.{advice * lost}"
        )


def _content(
    folder: Path, config: Config, images: ImageDescription | None, own_network: NetworkNote | None
) -> dict[str, Any]:
    """Return the content of config.json for a run that begins or resumes in this folder.

    Raises:
        LaterFormatError: a later version of ict_ref wrote the file that is there.
        ValueError: the file that is there is damaged, or belongs to another run.
    """
    here = json.loads(config.to_json())
    files = {name: sha256(path) for name in FILES if (path := Path(flat(here)[name])).is_file()}
    content: dict[str, Any] = {
        "ict_ref": __version__,
        "identities": [run_identity(config, own_network)],
        "config": here,
    }
    if (folder / "config.json").exists():
        stored, _ = _read(folder / "config.json", "Restore it from a copy, or choose another --out.")
        refuse_another_network(network_note(stored.get("own_network")), own_network, folder, IN_PYTHON)
        known = stored.get("files", {})
        _refuse_other_files(known, files, here, folder)
        _refuse_another(stored["config"], here, folder, same_files=known.keys() & files)
        content = _renewed(stored, here)
        _refuse_foreign_checkpoints(folder, content["identities"])
    first = {file_format.KEY: FORMAT, "written_by": __version__}
    described = content.get("images") if images is None else dataclasses.asdict(images)
    own = {} if own_network is None else {"own_network": dataclasses.asdict(own_network)}
    return {**first, **content, "files": content.get("files", {}) | files, "images": described, **own}


def read_run(folder: Path) -> Run:
    """Return the content of config.json in this folder, which an earlier version may have written.

    Raises:
        LaterFormatError: a later version of ict_ref wrote the file.
        ValueError: the folder is not a run folder, or its config.json is damaged or has options of a later version.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(f"{folder} is not a run folder: it has no config.json. Give one that ict_ref.launch made.")
    content, config = _read(file, "Restore it from a copy.")
    images = content.get("images")
    described = None if images is None else image_description(images)
    return Run(config, _identities(content), described, network_note(content.get("own_network")))


def load_config(folder: Path) -> Config:
    """Return the configuration of the run in this folder.

    Raises:
        LaterFormatError: a later version of ict_ref wrote the file.
        ValueError: the folder is not a run folder, or its config.json is damaged or has options of a later version.
    """
    return read_run(folder).config


def _identities(content: dict[str, Any]) -> tuple[str, ...]:
    """Return the identities of a run: those that config.json stores, or those that its format 1 implies."""
    if "identities" in content:
        return tuple(content["identities"])
    tree = content["config"]
    return digest(identity(Config, tree, DEFAULTS_OF_FORMAT_1)), content.get(BEGUN_AS) or digest_of_0_1_0(tree)


def _read(config_file: Path, advice: str) -> tuple[dict[str, Any], Config]:
    """Return the content of config.json under today's names, and its configuration.

    Raises:
        LaterFormatError: a later version of ict_ref wrote the file.
        ValueError: the file is damaged. The message names the entry.
    """
    content = read_json(config_file, advice)
    file_format.format_of(config_file, content, FORMAT)
    # An entry with a damaged name would otherwise count as absent, and what it protects as unchecked.
    if other := content.keys() - ENTRIES:
        expected = f"expected the entries of version {__version__} of ict_ref, got {min(other)}"
        raise LaterFormatError(f"{config_file}: {expected}. A later version wrote it, or it is damaged. {advice}")
    try:
        content["config"] = with_current_names(checked(content.get("config"), Mapping[str, Any], "config"))
        known = json.loads(Config().to_json())
        unknown = flat(content["config"]).keys() - flat(known).keys() - known.keys()
        if unknown:
            expected = f"expected the options of version {__version__} of ict_ref, got {option(min(unknown))}"
            raise LaterFormatError(f"{config_file}: {expected}. A later version wrote it. Install that version.")
        config = Config.from_dict(content["config"])
        if content.get("images") is not None:
            image_description(content["images"])
        network_note(content.get("own_network"))
        if "identities" in content:
            some = checked(content["identities"], tuple[str, ...], "identities")
            expect(len(some) > 0, "identities", "one or more", "none")
        checked(content.get(BEGUN_AS), str | None, BEGUN_AS)
        checked(content.get("files", {}), Mapping[str, str], "files")
        checked(content.get("environment"), Mapping[str, str] | None, "environment")
    except LaterFormatError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{config_file} is damaged or of another version of ict_ref ({error}). {advice}") from None
    return content, config


def _refuse_other_files(there: Mapping[str, str], here: Mapping[str, str], config: Tree, folder: Path) -> None:
    """Reject a file with other content than that with which the run began, wherever it is.

    Raises:
        ValueError: a checksum differs. The message names the option.
    """
    for name in there.keys() & here:
        if there[name] != here[name]:
            expected = f"expected the file with SHA-256 {there[name][:16]}... as in the run of {folder}"
            path = flat(config)[name]
            raise ValueError(
                f"{option(name)}: {expected}, got {path} with {here[name][:16]}... Give the first file, by any path."
            )


def _refuse_foreign_checkpoints(folder: Path, identities: Collection[str]) -> None:
    """Reject a folder whose checkpoints all belong to another run, before anything in it is changed.

    Raises:
        ValueError: no checkpoint has an identity of the run.
    """
    found = {description(file).get("config") for file in checkpoints(folder).values()}
    if found and not found & {None, *identities}:  # None: damaged, which is reported where it is read
        reason = "the checkpoint is of another configuration than that of config.json"
        raise ValueError(f"{folder}: {reason}. Restore one of them, or choose another --out.")


def _refuse_another(there: Tree, here: Tree, folder: Path, *, same_files: Collection[str]) -> None:
    """Reject a configuration of another identity than that of the folder's run.

    A field that is not stored counts as its default. `same_files` are options whose files are those of the run, even if
    they have been moved.

    Raises:
        ValueError: a field of the identity differs. The message names it.
    """
    default = flat(json.loads(Config().to_json()))
    stored, given = flat(there), flat(here)
    for name in [*stored, *given]:
        was, now = stored.get(name, default.get(name)), given.get(name)
        if was != now and is_identity(Config, name) and name not in same_files:
            expected = f"expected {was} as in the run of {folder}"
            raise ValueError(f"{option(name)}: {expected}, got {now}. Choose another folder with --out.")


def _renewed(stored: dict[str, Any], here: Tree) -> dict[str, Any]:
    """Return the content of config.json with today's values of the fields that are not part of the identity.

    The stored identities and fields of the identity stay. A field that an earlier version did not have is added, so
    that a later default does not change it.
    """
    given = flat(here)
    changed = {name: value for name, value in given.items() if name in FILES or not is_identity(Config, name)}
    config = nested(given | flat(stored["config"]) | changed)
    kept = {name: value for name, value in stored.items() if name not in (file_format.KEY, "written_by", BEGUN_AS)}
    return kept | {"identities": list(_identities(stored)), "config": config}
