"""Every command rejects a pipe, a device and a loop of links at once, and says so in one line."""

import importlib
import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ict_ref.utils.json_file import read_json
from ict_ref.utils.regular_file import open_regular, read_regular
from ict_ref.utils.toml_file import read_toml


def pipe(path: Path) -> str:
    os.mkfifo(path)
    return "expected a regular file, got a pipe"


def device(path: Path) -> str:
    path.symlink_to("/dev/zero")
    return "expected a regular file, got a device"


def loop(path: Path) -> str:
    path.symlink_to(path.with_name("other"))
    path.with_name("other").symlink_to(path)
    return "Too many levels of symbolic links"


SPECIAL = (pipe, device, loop)


@pytest.mark.parametrize("make", SPECIAL)
@pytest.mark.parametrize("read", [open_regular, read_regular, read_json, read_toml])
def test_special_files_are_rejected_without_waiting(
    make: Callable[[Path], str], read: Callable[[Path], object], tmp_path: Path
) -> None:
    message = make(tmp_path / "a")
    with pytest.raises((ValueError, OSError), match=message):
        read(tmp_path / "a")


def test_a_folder_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        open_regular(tmp_path)


def test_a_file_of_the_largest_size_is_read_and_a_larger_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")
    assert read_regular(tmp_path / "a", 3) == b"123"
    with pytest.raises(ValueError, match="expected at most 2 bytes, got 3"):
        read_regular(tmp_path / "a", 2)
    os.truncate(tmp_path / "a", 2**40)
    with pytest.raises(ValueError, match="expected at most 67108864 bytes"):
        read_json(tmp_path / "a")


@pytest.mark.parametrize(
    "content",
    [
        b"\xff",
        b"a = ",
        b"a = " + b"[" * 5000,
        b"a = " + b"9" * 5000,
        b'a = """\n\n',
        b"a = 1\nb = \x00",
    ],
)
def test_a_toml_file_with_an_error_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.toml: expected a TOML file") as error:
        read_toml(tmp_path / "a.toml")
    assert "\n" not in str(error.value)


READERS: dict[str, tuple[str, ...]] = {
    "waivers": ("verify", "math", "--waivers", "{file}"),
    "trace": ("verify", "trace", "{file}"),
    "profile": ("launch", "--config", "minimal", "--profile", "{file}", "--dry-run"),
    "statistics": ("evaluate", "--reference", "{file}", "--save-stats", "new.npz"),
    "model": ("sample", "{file}", "--count", "1", "--out", "new.npz"),
    "class map": ("prepare", "{npz}", "--class-map", "{file}"),
    "init": ("launch", "--config", "minimal", "--train.init", "{file}"),
    "denoiser": ("launch", "--config", "minimal", "--method.objective", "distillation", "--method.denoiser", "{file}"),
    "measured": ("plan", "--config", "cifar10", "--measured", "{file}"),
    "features": ("evaluate", "{npz}", "--reference", "digits:held-out", "--features", "{file}"),
    "journal": ("prepare", "{npz}", "--out", "{folder}"),
    "data.json": ("prepare", "--check", "{folder}"),
    "images of a stopped command": ("prepare", "{npz}", "--out", "{folder}"),
    "files of a stopped command": ("prepare", "{npz}", "--out", "{folder}"),
    "batch": ("prepare", "{folder}"),
    "Parquet": ("prepare", "{folder}"),
    "images of an audit": ("verify", "audit", "data", "math:sin", "--images", "{file}"),
    "foreign network": ("import_checkpoint", "{file}", "--out", "new"),
    "LPIPS": ("training.import_lpips", "{file}", "--out", "new.safetensors"),
}
NAMES = {
    "journal": "journal.partial",
    "data.json": "data.json",
    "images of a stopped command": "images.npy.partial",
    "files of a stopped command": "files.partial",
    "batch": "train_data_batch_1.npz",
    "Parquet": "train-00000-of-00001.parquet",
}
BESIDE = {"images of a stopped command", "files of a stopped command"}
"""Readers of a file that has a journal beside it."""


@pytest.fixture
def alarm() -> Iterator[None]:
    """End a test that waits for a pipe."""

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (16 * 2**30, limits[1]))  # a device has no end
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("make", SPECIAL)
@pytest.mark.parametrize("reader", READERS)
def test_commands_reject_special_files(
    reader: str,
    make: Callable[[Path], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    file = tmp_path / "folder" / NAMES.get(reader, "file.npz")
    make(file)
    np.savez(tmp_path / "train_data_batch_1.npz", data=np.zeros((2, 12288), np.uint8), labels=np.array([1, 2]))
    places = {"file": file, "folder": file.parent, "npz": tmp_path / "train_data_batch_1.npz"}
    command, *words = (word.format(**places) for word in READERS[reader])
    if reader in BESIDE:
        from ict_ref.prepare.sources import find

        journal = {"recipe": find(places["npz"]).recipe, "done": 0, "sha256": "", "files": 0, "files_sha256": ""}
        (file.parent / "journal.partial").write_text(json.dumps(journal))
    module = importlib.import_module(f"ict_ref.{command}")
    main = module.main if hasattr(module, "main") else importlib.import_module(f"ict_ref.{command}.__main__").main
    if reader == "Parquet":
        pytest.importorskip("pyarrow")
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(file.parent) in line
