"""Loading of extractors: `module:callable`, programs of torch.export, and TorchScript, which torch has deprecated.

All three are programs that run with the rights of the user.
"""

import inspect
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ict_ref.data.prepared import sha256
from ict_ref.utils.archive import refuse_damaged
from ict_ref.utils.command_line import expect
from ict_ref.utils.inflation import refuse_inflated
from ict_ref.utils.lfs import POINTER, is_pointer
from ict_ref.utils.named_callable import is_callable_name, named_callable
from ict_ref.utils.nearest import hint
from ict_ref.utils.torchscript import exported_operations, load_torchscript, refuse_operations, show
from ict_ref.utils.zip_checksums import refuse_flipped

NAMES = ("pixels", "digits")
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
    if not path.exists() and is_callable_name(name):
        return _from_module(name, device)
    if not path.is_file():
        raise ValueError(f"--features: expected {FORMS}, got {path}, which does not exist{hint(name, NAMES)}")
    return _from_export(path, device) if _is_exported(path) else _from_torchscript(path, device)


def _from_module(name: str, device: torch.device | str) -> Loaded:
    """Return a callable of a module, which may lie in the working directory."""
    value, file = named_callable(name, "--features")
    if inspect.isclass(value):
        raise ValueError(f"--features: expected a callable, got the class {name}. Give an instance of it.")
    if isinstance(value, nn.Module):
        value = value.eval().to(device)
    advice = "It gets float32 images [n, channels, height, width] from -1 to 1."
    return Loaded(value, _arguments(value), file, advice)


def _arguments(function: Callable[..., Any]) -> frozenset[str]:
    called = function.forward if isinstance(function, nn.Module) else function
    try:
        return frozenset(inspect.signature(called).parameters)
    except (TypeError, ValueError):  # a function of another language
        return frozenset()


def _is_exported(path: Path) -> bool:
    try:
        with refuse_damaged(path):
            if not zipfile.is_zipfile(path):
                return False
            with zipfile.ZipFile(path) as archive:
                return any(member.rpartition("/")[2] in EXPORTED for member in archive.namelist())
    except (OSError, ValueError):
        return False


def _from_export(path: Path, device: torch.device | str) -> Loaded:
    """Return the program in a file of torch.export.save, moved to a device. No pickle in it is opened."""
    from torch.export.passes import move_to_device_pass

    try:
        refuse_inflated(path)
        refuse_flipped(path)  # torch does not compare the checksums
        with _weights_only():
            program = move_to_device_pass(torch.export.load(path), str(device))
    except Exception as error:
        got = f"another or damaged file {path} ({type(error).__name__})"
        advice = "Write it with torch.export.save of this version of torch."
        raise ValueError(f"--features: expected a torch.export program, got {got}. {advice}") from None
    digest = sha256(path)
    refuse_operations(path, digest, exported_operations(program.graph_module))
    show(path, digest, "torch.export")
    function = program.module()
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
        expect(not is_pointer(path), "--features", FORMS, f"{path}: {POINTER}")
        raise ValueError(
            f"--features: expected TorchScript, got another or damaged file {path}. Pickles are not opened; "
            "write the module with torch.export.save or torch.jit.save."
        )
    names = frozenset(argument.name for argument in module.forward.schema.arguments)
    return Loaded(module, names, path, "Give images of the shape that it was written for.")
