"""Run folders: the configuration, metrics and checkpoints of one run.

config.json     the configuration, and the version of ict_ref that began the run
metrics.jsonl   see `ict_ref.training.metrics_log`
checkpoint-*    see `ict_ref.checkpoint.training_state`
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ict_ref
from ict_ref.config import Config
from ict_ref.config.identity import Tree, digest, digest_of_0_1_0, flat, identity, is_identity
from ict_ref.config.old_names import with_current_names
from ict_ref.config.validate import option
from ict_ref.utils.atomic import locked, write_atomically

BEGUN_AS = "digest_of_0_1_0"
"""Key of config.json with the digest of 0.1.0 that the run had before an option outside its identity changed."""


@contextmanager
def open_run(folder: Path, config: Config) -> Iterator[None]:
    """Create or reopen a run folder, and lock it while the block runs.

    Names of earlier versions in config.json are replaced by today's, and changed options are recorded. Options of
    `sample`, `acceptance`, `machine` and `record` may change.

    >>> from ict_ref.config import minimal
    >>> with open_run(Path("run"), minimal()):
    ...     load_config(Path("run")) == minimal()
    True

    Raises:
        ValueError: the folder belongs to another run, holds other files, is damaged or is in use.
        OSError: the folder cannot be written.
    """
    config_file = folder / "config.json"
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file. Choose a folder with --out.")
    ours = {".lock", "config.json.tmp"}  # left by a run that was killed while it began
    if folder.is_dir() and not config_file.exists() and any(file.name not in ours for file in folder.iterdir()):
        raise ValueError(f"{folder} is not a run folder: it has files but no config.json. Choose another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, ".lock"):
        here = json.loads(config.to_json())
        content = {"ict_ref": ict_ref.__version__, "config": here}
        if config_file.exists():
            content = _read(config_file)
            _refuse_another(content["config"], here, folder)
            _record_changes(content, here)
        text = json.dumps(content, indent=2).encode() + b"\n"
        if not config_file.exists() or config_file.read_bytes() != text:
            write_atomically(config_file, text)
        yield


def load_config(folder: Path) -> Config:
    """Return the configuration of the run in this folder, which an earlier version may have begun.

    Raises:
        ValueError: the folder is not a run folder, or its configuration is damaged or of a later version.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(f"{folder} is not a run folder: it has no config.json. Give one that ict_ref.launch made.")
    try:
        return Config.from_dict(with_current_names(json.loads(file.read_text())["config"]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        advice = "Restore it from a copy."
        raise ValueError(f"{file} is damaged or of another version of ict_ref ({error}). {advice}") from None


def stored_digests(folder: Path) -> tuple[str, ...]:
    """Return the digests that bind checkpoints to the run in this folder: today's and that of version 0.1.0.

    Raises:
        ValueError: config.json is damaged.
    """
    content = _read(folder / "config.json")
    tree = content["config"]
    return digest(identity(Config, tree)), content.get(BEGUN_AS) or digest_of_0_1_0(tree)


def _read(config_file: Path) -> dict[str, Any]:
    """Return the content of config.json under today's names.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        content: dict[str, Any] = json.loads(config_file.read_text())
        content["config"] = with_current_names(content["config"])
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, UnicodeDecodeError):
        raise ValueError(f"{config_file} is damaged. Restore it from a copy, or choose another --out.") from None
    return content


def _refuse_another(there: Tree, here: Tree, folder: Path) -> None:
    """Reject a configuration of another identity than that of the folder's run.

    A field that is not stored counts as its default.

    Raises:
        ValueError: a field of the identity differs. The message names it.
    """
    default = flat(json.loads(Config().to_json()))
    stored, given = flat(there), flat(here)
    for name in [*stored, *given]:
        was, now = stored.get(name, default.get(name)), given.get(name)
        if was != now and is_identity(Config, name):
            expected = f"expected {was} as in the run of {folder}"
            raise ValueError(f"{option(name)}: {expected}, got {now}. Choose another folder with --out.")


def _record_changes(content: dict[str, Any], here: Tree) -> None:
    """Update the stored fields that are not part of the identity.

    Checkpoints of version 0.1.0 are bound to a digest over such fields, so the first digest is kept.
    """
    stored = content["config"]
    before = digest_of_0_1_0(stored)
    for name, value in flat(here).items():
        if not is_identity(Config, name):
            group, _, field = name.partition(".")
            stored.setdefault(group, {})[field] = value
    if digest_of_0_1_0(stored) != before:
        content.setdefault(BEGUN_AS, before)
