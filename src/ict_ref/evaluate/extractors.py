"""Loading of extractors: `module:callable`, programs of torch.export, and TorchScript, which torch has deprecated."""

import importlib
import inspect
import os
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ict_ref.utils.torchscript import load_torchscript

CALLABLE = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_][\w.]*)")
FORMS = "pixels, digits, module:callable, a torch.export program or a TorchScript file"
# Members of an archive of torch.export: the file of today, and that of torch 2.6.
EXPORTED = ("archive_format", "serialized_exported_program.json")
FORCED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


@dataclass(frozen=True)
class Loaded:
    """A function from images to features."""

    function: Callable[..., Any]
    arguments: frozenset[str]
    """Names of its arguments."""
    file: Path | None
    """File whose checksum identifies the extractor; None without a file."""
    advice: str
    """Advice for a call that fails."""


def load_extractor(name: str, device: torch.device | str) -> Loaded:
    """Return the extractor of this name: `module:callable`, or the path of a file.

    Raises:
        ValueError: The module, the callable or the file does not exist, or the file is neither kind of program.
    """
    path = Path(name)
    if not path.exists() and (found := CALLABLE.fullmatch(name)):
        return _from_module(name, found[1], found[2], device)
    if not path.is_file():
        raise ValueError(f"--features: expected {FORMS}, got {path}, which does not exist")
    return _from_export(path, device) if _is_exported(path) else _from_torchscript(path, device)


def _from_module(name: str, module: str, attribute: str, device: torch.device | str) -> Loaded:
    """Return a callable of a module, which may lie in the working directory."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        value: Any = importlib.import_module(module)
        for part in attribute.split("."):
            value = getattr(value, part)
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        advice = "Run the command in its folder, or set PYTHONPATH."
        raise ValueError(f"--features: expected {name} as module:callable, got {got}. {advice}") from None
    if not callable(value):
        raise ValueError(f"--features: expected a callable, got {name}, which is {type(value).__name__}")
    if inspect.isclass(value):
        raise ValueError(f"--features: expected a callable, got the class {name}. Give an instance of it.")
    if isinstance(value, nn.Module):
        value = value.eval().to(device)
    file = getattr(sys.modules[module], "__file__", None)
    advice = "It gets float32 images [n, channels, height, width] from -1 to 1."
    return Loaded(value, _arguments(value), None if file is None else Path(file), advice)


def _arguments(function: Callable[..., Any]) -> frozenset[str]:
    called = function.forward if isinstance(function, nn.Module) else function
    try:
        return frozenset(inspect.signature(called).parameters)
    except (TypeError, ValueError):  # a function of another language
        return frozenset()


def _is_exported(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(member.rpartition("/")[2] in EXPORTED for member in archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def _from_export(path: Path, device: torch.device | str) -> Loaded:
    """Return the program in a file of torch.export.save, moved to a device. No pickle in it is opened."""
    from torch.export.passes import move_to_device_pass

    try:
        with _weights_only():
            program = move_to_device_pass(torch.export.load(path), str(device))
        function = program.module()
    except Exception as error:
        got = f"another or damaged file {path} ({type(error).__name__})"
        advice = "Write it with torch.export.save of this version of torch."
        raise ValueError(f"--features: expected a torch.export program, got {got}. {advice}") from None
    names = inspect.signature(function.forward).parameters
    advice = "Export it with a dynamic number of images, and with their shape."
    return Loaded(function, frozenset(names), path, advice)


@contextmanager
def _weights_only() -> Iterator[None]:
    """Let torch.load open tensors only while the block runs: torch.export opens pickles by default."""
    before = os.environ.get(FORCED)
    os.environ[FORCED] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[FORCED]
        else:
            os.environ[FORCED] = before


def _from_torchscript(path: Path, device: torch.device | str) -> Loaded:
    module = load_torchscript(path, device)
    if module is None or not hasattr(module, "forward"):
        raise ValueError(
            f"--features: expected TorchScript, got another or damaged file {path}. Pickles are not opened; "
            "write the module with torch.export.save or torch.jit.save."
        )
    names = frozenset(argument.name for argument in module.forward.schema.arguments)
    return Loaded(module, names, path, "Give images of the shape that it was written for.")
