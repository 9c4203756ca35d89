"""A run's folder: what was run, how it went, and where it stands. What a run needs to go on is never half-written, and
never overwritten by another run.

config.json             the configuration, and the version that began the run
metrics.jsonl           one JSON object per line: step, levels N(k), loss, images per second
checkpoint.safetensors  parameters, their average and the optimizer's state after some step
"""

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from jaxtyping import Shaped
from torch import Tensor

import ict_ref
from ict_ref.config import PLACES, Config
from ict_ref.files import write_atomically

CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the rest of a run depends on."""

    step: int
    tensors: Mapping[str, Shaped[Tensor, "..."]]
    config: str
    """Digest of the configuration."""


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
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{folder} is in use by another process; wait for it, or choose another --out") from None
        if config_file.exists():
            _refuse_another(config_file, config)
        else:
            content = {"ict_ref": ict_ref.__version__, "config": json.loads(config.to_json())}
            write_atomically(config_file, json.dumps(content, indent=2).encode() + b"\n")
        yield


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint in place of the one before."""
    about = {
        "version": ict_ref.__version__,
        "config": checkpoint.config,
        "step": checkpoint.step,
        "sha256": _checksum(checkpoint),
    }
    tensors = {name: tensor.detach().contiguous() for name, tensor in checkpoint.tensors.items()}
    # One key: safetensors writes several in any order, and equal checkpoints shall be equal files.
    write_atomically(folder / CHECKPOINT, safetensors.torch.save(tensors, {"ict_ref": json.dumps(about)}))


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the folder's checkpoint, or None if there is none yet.

    Raises ValueError if the file is damaged or is not a checkpoint. Safetensors hold numbers: nothing is executed.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    advice = "restore it from a copy, or move it away to train from the start"
    if not path.is_file():
        raise ValueError(f"{path} is not a file; {advice}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = _about(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); {advice}") from None
    if about is None:
        raise ValueError(f"{path} is not a checkpoint of ict_ref: it has no step and checksum; {advice}")
    step, config, sha256 = about
    checkpoint = Checkpoint(step, tensors, config)
    if _checksum(checkpoint) != sha256:
        raise ValueError(f"{path} is damaged (its checksum differs); {advice}")
    return checkpoint


def load_config(folder: Path) -> Config:
    """Return the configuration of the run in this folder. Raises ValueError if it is none, or damaged."""
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(f"{folder} is not a run folder: it has no config.json; give one that ict_ref.launch made")
    try:
        return Config.from_dict(json.loads(file.read_text())["config"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{file} is damaged or of another version of ict_ref ({error})") from None


def checksum(heading: str, tensors: Mapping[str, Shaped[Tensor, "..."]]) -> str:
    """Return the SHA-256 of the heading and of every tensor with its name, dtype and shape."""
    digest = hashlib.sha256(heading.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())  # NumPy has no bfloat16
    return digest.hexdigest()


def forget_metrics_after(folder: Path, step: int) -> None:
    """Drop the lines that a killed process wrote after its last checkpoint, which will be written again.

    Raises ValueError for a line that is whole and is not of these metrics.
    """
    path = folder / METRICS
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = []
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            break  # the last line, cut off by a kill
        try:
            if int(json.loads(line)["step"]) <= step:
                kept.append(line)
        except (ValueError, TypeError, KeyError):
            raise ValueError(f"{path} is damaged in line {number}; mend it or move it away") from None
    if kept != lines:
        write_atomically(path, b"".join(kept))


def _about(metadata: Mapping[str, str]) -> tuple[int, str, str] | None:
    """Return a checkpoint's step, configuration and checksum, or None where there are none."""
    try:
        about = json.loads(metadata["ict_ref"])
        return int(about["step"]), str(about["config"]), str(about["sha256"])
    except (KeyError, ValueError, TypeError):
        return None


def _checksum(checkpoint: Checkpoint) -> str:
    return checksum(f"{checkpoint.step} {checkpoint.config}", checkpoint.tensors)


def _refuse_another(config_file: Path, config: Config) -> None:
    try:
        there = _flat(json.loads(config_file.read_text())["config"])
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError):
        raise ValueError(f"{config_file} is damaged; choose another folder with --out") from None
    here = _flat(json.loads(config.to_json()))
    for name in [*there, *here]:
        if there.get(name) != here.get(name) and name not in [f"data.{place}" for place in PLACES]:
            raise ValueError(
                f"{config_file.parent} is the run of another configuration: {name} is {there.get(name)} there and "
                f"{here.get(name)} here; choose another folder with --out"
            )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
