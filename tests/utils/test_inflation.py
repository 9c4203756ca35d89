"""Archives whose content is larger than it says, or than the memory, are rejected before it is decompressed."""

import resource
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.one_line import rejection

from ict_ref.evaluate.__main__ import main as evaluate
from ict_ref.import_checkpoint import main as import_network
from ict_ref.prepare.__main__ import main as prepare
from ict_ref.utils.inflation import refuse_inflated_arrays
from ict_ref.utils.regular_file import open_regular

BOMB = 1 << 30
"""Bytes of zeros, of which an archive needs one in a thousand."""


@pytest.fixture(autouse=True)
def little_memory(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail at an allocation of 700 MB more than is in use."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 700 * 2**20, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


def array(shape: str, descr: str = "|u1") -> bytes:
    """Return the beginning of an array with this shape."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def archive(path: Path, member: str, start: bytes, more: int) -> Path:
    """Write an archive with one member, which begins like this, with `more` zeros after it."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
        file.open(member, "w", force_zip64=True) as stream,
    ):
        stream.write(start)
        for _ in range(more >> 24):
            stream.write(bytes(1 << 24))
        stream.write(bytes(more % (1 << 24)))
    return path


LONG = b"\x93NUMPY\x02\x00" + struct.pack("<I", BOMB - 12)
BOMBS: dict[str, tuple[str, bytes, int, str]] = {
    "zeros after the array": (
        "arr_0.npy",
        array("(3, 8, 8, 3)"),
        BOMB,
        "expected 704 bytes in its member arr_0.npy, got",
    ),
    "fewer bytes than the shape": ("arr_0.npy", array("(2, 99999, 99999, 3)"), 9, "got 137"),
    "a shape of 1 EB": ("arr_0.npy", array(f"({2**60}, 8, 8, 3)"), 576, "got 704"),
    "a member that is not an array": ("arr_0", b"", BOMB, "expected an array in its member arr_0, got other content"),
    "a header of 1 GB": ("arr_0.npy", LONG, BOMB, "expected an array in its member arr_0.npy, got other content"),
}


@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.parametrize("command", ["images", "statistics", "batches"])
def test_a_bomb_is_one_line(
    kind: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name, start, more, message = BOMBS[kind]
    wanted = {"images": "arr_0", "statistics": "mu", "batches": "data"}[command]
    file = archive(tmp_path / "train_data_batch_1.npz", name.replace("arr_0", wanted), start, more)
    if command == "batches":
        assert prepare([str(file)]) == 2
    elif command == "statistics":
        assert evaluate(["digits:held-out", "--reference", str(file)]) == 2
    else:
        assert evaluate([str(file), "--reference", "digits:held-out"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"{file.name} cannot be used: " in line
    assert message.replace("arr_0", wanted) in line


WHOLE: dict[str, Callable[[], object]] = {
    "uint8": lambda: np.zeros((3, 8, 8, 3), np.uint8),
    "Fortran order": lambda: np.asfortranarray(np.zeros((3, 4))),
    "one number": lambda: np.int64(7),
    "text": lambda: '{"format": 2}',
    "no element": lambda: np.zeros((0, 5), np.float32),
    "big-endian": lambda: np.zeros(9, ">f8"),
    "long header": lambda: np.zeros(2, [(f"field {k}", "f4") for k in range(90)]),
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_passes(kind: str, save: Callable[..., None], tmp_path: Path) -> None:
    value = np.asarray(WHOLE[kind]())
    save(tmp_path / "a.npz", a=value, b=np.arange(3))
    with open_regular(tmp_path / "a.npz") as file:
        refuse_inflated_arrays(file, ["a", "b", "not there"])
        assert file.read(2) == b"PK"  # from its beginning
    with np.load(tmp_path / "a.npz") as loaded:
        assert loaded["a"].dtype == value.dtype
        assert loaded["a"].shape == value.shape


def test_what_does_not_fit_in_memory_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "a.npz", arr_0=np.zeros((1000, 8, 8, 3), np.uint8))
    monkeypatch.setattr("ict_ref.utils.inflation.available_bytes", lambda: 150_000)
    assert evaluate([str(tmp_path / "a.npz"), "--reference", "digits:held-out"]) == 2
    line = rejection(capsys, "ict_ref.evaluate")
    assert "a.npz cannot be used: expected content that fits in the free 0 MB of memory, got 0 MB" in line
    torch.save({"a": torch.zeros(50_000)}, tmp_path / "net.pt")
    assert import_network([str(tmp_path / "net.pt"), "--out", str(tmp_path / "out")]) == 2
    line = rejection(capsys, "ict_ref.import_checkpoint")
    assert "net.pt: expected content that fits in the free 0 MB of memory, got 0 MB" in line
