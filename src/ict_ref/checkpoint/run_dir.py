"""A run's folder: what was run, how it went, and where it stands. It is never taken by another run.

config.json     the configuration, and the version that began the run
metrics.jsonl   see `ict_ref.training.metrics_log`
checkpoint-*    see `ict_ref.checkpoint.training_state`
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ict_ref
from ict_ref.config import Config, is_learned
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
        if config_file.exists():
            _refuse_another(config_file, config)
        else:
            content = {"ict_ref": ict_ref.__version__, "config": json.loads(config.to_json())}
            write_atomically(config_file, json.dumps(content, indent=2).encode() + b"\n")
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


def _refuse_another(config_file: Path, config: Config) -> None:
    """Raise ValueError if the folder's run learns something else; how it is computed and recorded may differ."""
    try:
        there = json.loads(config_file.read_text())["config"]
        tree = {f"{room}.{name}": value for room, fields in there.items() for name, value in fields.items()}
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, UnicodeDecodeError):
        raise ValueError(f"{config_file} is damaged; choose another folder with --out") from None
    here = json.loads(json.dumps(config.learned()))
    for name in [*tree, *here]:
        if tree.get(name) != here.get(name) and is_learned(name):
            raise ValueError(
                f"{config_file.parent} is the run of another configuration: {name} is {tree.get(name)} there and "
                f"{here.get(name)} here; choose another folder with --out"
            )
