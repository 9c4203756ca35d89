"""Reading of tensors that other programs have saved, by torch.save or as safetensors, without executing code."""

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

from ict_ref.utils.lfs import POINTER, START
from ict_ref.utils.regular_file import open_regular


def content(file: Path) -> object:
    """Return the content of a file of torch.save or safetensors without executing code.

    Raises:
        ValueError: The file is damaged, has another format, or is a pickle with other objects than tensors.
        OSError: The file cannot be read.
    """
    if file.exists() and not file.is_file() and not file.is_dir():
        raise ValueError("expected a regular file, got a pipe or a device. Save its content to a file.")
    with open_regular(file) as stream:
        start = stream.read(16)
    is_safetensors = start[8:9] == b"{"  # a length of eight bytes, then JSON
    return _safetensors_content(file) if is_safetensors else _torch_content(file, start)


def _safetensors_content(file: Path) -> object:
    import safetensors
    import safetensors.torch

    try:
        return safetensors.torch.load_file(file)
    except safetensors.SafetensorError as error:
        raise ValueError(f"expected safetensors, got a damaged file ({error}). Download it again.") from None


def _torch_content(file: Path, start: bytes) -> object:
    import torch

    from ict_ref.utils.inflation import refuse_inflated
    from ict_ref.utils.zip_checksums import refuse_flipped

    refuse_inflated(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the message below replaces torch's warnings
            found: object = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a file of another format may raise any exception in torch
        raise ValueError(_reason(error, start)) from None
    refuse_flipped(file)
    _refuse_repeated("", found)
    return found


def _refuse_repeated(name: str, value: object) -> None:
    """Reject a tensor that repeats its stored values: a file of few bytes may declare one of any size.

    Raises:
        ValueError: There is such a tensor in the value or within it.
    """
    import torch

    if isinstance(value, Mapping):
        for key, one in value.items():
            _refuse_repeated(str(key), one)
    elif isinstance(value, list | tuple):
        for one in value:
            _refuse_repeated(name, one)
    elif isinstance(value, torch.Tensor) and value.layout == torch.strided:
        stored = value.untyped_storage().nbytes()
        if value.numel() * value.element_size() > stored:
            raise ValueError(f"expected stored values in {name}, got the sizes {list(value.shape)} for {stored} bytes")


def _reason(error: Exception, start: bytes) -> str:
    """Return the reason why torch rejected a file with these first bytes."""
    whole_archive = start[:2] == b"PK" and isinstance(error, pickle.UnpicklingError)
    if start and START.startswith(start):
        return f"expected tensors, got another file: {POINTER}."
    if start[:1] != b"\x80" and not whole_archive:
        expected = "expected a file of torch.save or safetensors, got another format or a damaged file"
        return f"{expected}. Download it again."
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    of = f" ({named[1]})" if named else ""
    return (
        f"expected tensors, got a pickle with other objects{of}. It is not read: it could execute code. "
        "If you trust it, save the state dict in the environment of the code that wrote it, and import that; "
        "for EDM: torch.save(pickle.load(open(FILE, 'rb'))['ema'].model.state_dict(), 'network.pt')."
    )
