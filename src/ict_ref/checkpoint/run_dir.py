"""A run's folder: what was run, how it went, and where it stands. It is never taken by another run.

config.json     the configuration, and the version that began the run
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
from ict_ref.utils.atomic import locked, write_atomically


@contextmanager
def open_run(folder: Path, config: Config) -> Iterator[None]:
    """Hold the folder for this run: new, or begun earlier with the same configuration and not in use.

    Raises ValueError if it is another run's, or no run's and not empty; OSError if it cannot be written.
    """
    config_file = folder / "config.json"
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; choose a folder with --out")
    ours = {".lock", "config.json.tmp"}  # what is there if we were killed while beginning
    if folder.is_dir() and not config_file.exists() and any(file.name not in ours for file in folder.iterdir()):
        raise ValueError(f"{folder} has files in it but no config.json: not a run folder; choose another with --out")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, ".lock"):
        here = json.loads(config.to_json())
        content = {"ict_ref": ict_ref.__version__, "config": here}
        if config_file.exists():
            content = _read(config_file)
            _refuse_another(content["config"], here, config_file)
            for name, value in flat(here).items():
                if not is_identity(Config, name):  # how it is computed, recorded, sampled and accepted may change
                    group, _, field = name.partition(".")
                    content["config"].setdefault(group, {})[field] = value
        text = json.dumps(content, indent=2).encode() + b"\n"
        if not config_file.exists() or config_file.read_bytes() != text:
            write_atomically(config_file, text)
        yield


def load_config(folder: Path) -> Config:
    """Return the configuration of the run in this folder. Raises ValueError if it is none, or damaged."""
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(f"{folder} is not a run folder: it has no config.json; give one that ict_ref.launch made")
    try:
        return Config.from_dict(json.loads(file.read_text())["config"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{file} is damaged or of another version of ict_ref ({error})") from None


def stored_digests(folder: Path) -> tuple[str, ...]:
    """Return the digests by which checkpoints of the run in this folder are bound to it, over what was stored."""
    tree = _read(folder / "config.json")["config"]
    return digest(identity(Config, tree)), digest_of_0_1_0(tree)


def _read(config_file: Path) -> dict[str, Any]:
    """Return the content of config.json. Raises ValueError if it is damaged."""
    try:
        content: dict[str, Any] = json.loads(config_file.read_text())
        flat(content["config"])
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, UnicodeDecodeError):
        raise ValueError(f"{config_file} is damaged; choose another folder with --out") from None
    return content


def _refuse_another(there: Tree, here: Tree, config_file: Path) -> None:
    """Raise ValueError if the folder's run has another identity; a field that is not stored has its default."""
    default = flat(json.loads(Config().to_json()))
    stored, given = flat(there), flat(here)
    for name in [*stored, *given]:
        was, now = stored.get(name, default.get(name)), given.get(name)
        if was != now and is_identity(Config, name):
            raise ValueError(
                f"{config_file.parent} is the run of another configuration: {name} is {was} there and {now} here; "
                "choose another folder with --out"
            )
