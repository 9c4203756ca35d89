"""Archives of torch that are small and declare large tensors or members are rejected before memory is taken."""

import io
import json
import pickle
import resource
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
import torch
from torch import Tensor, nn

from ict_ref.checkpoint.foreign_file import content
from ict_ref.evaluate.extractors import load_extractor
from ict_ref.utils import torchscript
from ict_ref.utils.torchscript import load_torchscript

Change: TypeAlias = Callable[[bytes], bytes]
BOMB = 1 << 28
"""Bytes of zeros, of which an archive needs one in a thousand."""


@pytest.fixture(autouse=True)
def little_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail at an allocation of 700 MB more than is in use, and trust no file."""
    monkeypatch.setattr(torchscript, "_trusted", set())
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 700 * 2**20, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


class Weighted(nn.Module):
    """Has a weight of 4 x 4 values, a constant, a list, and a second name of a part of the weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(4, 4))
        self.row = nn.Buffer(self.weight.detach()[1])
        self.sizes = [3, 4]

    def forward(self, x: Tensor) -> Tensor:
        """Return the weights' sum beside that of the images."""
        return x.flatten(1).sum(1, keepdim=True) + self.weight.sum() + self.row.sum() * self.sizes[0]


def changed(path: Path, changes: dict[str, Change | None]) -> Path:
    """Write an archive anew: members with these endings are changed, or are bombs if the change is None."""
    new = path.with_stem(f"{path.stem}-changed")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(new, "w") as target:
        for member in source.infolist():
            change: Change | None = next(
                (change for name, change in changes.items() if member.filename.endswith(name)), bytes
            )
            if change is not None:
                target.writestr(member.filename, change(source.read(member)))
                continue
            info = zipfile.ZipInfo(member.filename)
            info.compress_type = zipfile.ZIP_DEFLATED
            with target.open(info, "w", force_zip64=True) as stream:
                for _ in range(BOMB >> 24):
                    stream.write(bytes(1 << 24))
    return new


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "m.pt"
    torch.jit.script(Weighted()).save(str(path))  # type: ignore[no-untyped-call]
    return path


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "m.pt2"
    exported = torch.export.export(nn.Linear(4, 4), (torch.zeros(2, 4),))
    torch.export.save(exported, path)
    return path


def number(value: int) -> bytes:
    """Return the opcode that pushes a number of eight bytes."""
    return b"\x8a\x08" + struct.pack("<q", value)


def replaced(old: bytes, new: bytes) -> Change:
    """Return a change of the first place of some bytes, which must be there."""

    def change(whole: bytes) -> bytes:
        assert old in whole
        return whole.replace(old, new, 1)

    return change


SIZES, STRIDES, LENGTH = b"(K\x04K\x04t", b"(K\x04K\x01t", b"K\x10tQ"
"""Pickled sizes and strides of the weight, and the length of its storage."""
DECLARED: dict[str, tuple[Change, str]] = {
    "a longer storage": (
        replaced(LENGTH, number(2**32) + b"tQ"),
        "expected 17179869184 bytes in its member data/0, got 64",
    ),
    "a negative storage": (replaced(LENGTH, number(-1) + b"tQ"), "expected -4 bytes"),
    "larger sizes": (replaced(SIZES, b"(" + number(2**30) + b"K\x04t"), "expected a tensor of 16 stored values"),
    "larger strides": (replaced(STRIDES, b"(" + number(2**30) + b"K\x01t"), "expected a tensor of 16 stored values"),
    "negative strides": (replaced(STRIDES, b"(" + number(-1) + b"K\x01t"), "that are not negative"),
    "an offset": (replaced(b"K\x00" + SIZES, b"K\x01" + SIZES), "expected a tensor of 16 stored values"),
    "another type of values": (replaced(b"ctorch\nFloat", b"ctorch\nDouble"), "expected 128 bytes"),
    "a sparse tensor": (replaced(b"_rebuild_tensor_v2", b"_rebuild_sparse_tensor"), "expected dense tensors"),
    "a large table": (
        replaced(b"ctorch\n", b"r" + struct.pack("<I", 2**32 - 1) + b"ctorch\n"),
        "the number 4294967295",
    ),
    "no pickle": (lambda _: b"\x80\x02", "expected stored tensors in data.pkl"),
}


@pytest.mark.parametrize("kind", DECLARED)
def test_tensors_that_the_bytes_do_not_hold_are_rejected(kind: str, script: Path) -> None:
    change, message = DECLARED[kind]
    with pytest.raises(ValueError, match=message) as caught:
        load_torchscript(changed(script, {"/data.pkl": change}))
    assert "m-changed.pt: " in str(caught.value)


def test_whole_programs_are_loaded(script: Path) -> None:
    images = torch.ones(2, 1, 2, 2)
    for path in (script, changed(script, {})):
        module = load_torchscript(path)
        torch.testing.assert_close(module(images), 4 + module.weight.sum() + 3 * module.row.sum() * torch.ones(2, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = torch.quantize_per_tensor(torch.arange(4.0), 0.5, 2, torch.qint8)
    module = nn.Module()
    module.register_buffer("q", quantized)
    module.register_buffer("empty", torch.zeros(0, 3))
    module.register_buffer("scalar", torch.tensor(2.0).bfloat16())
    made = torch.jit.script(module)
    made.define("def forward(self, x):\n    return x * self.q.dequantize().sum() + self.scalar.float()\n")
    made.save(str(script.with_name("q.pt")))  # type: ignore[no-untyped-call]
    assert load_torchscript(script.with_name("q.pt"))(torch.tensor(1.0)) == 6 + 2


@pytest.mark.parametrize("member", ["data/0", ".py", "data.pkl"])
def test_a_member_that_is_a_bomb_is_rejected_at_once(member: str, script: Path) -> None:
    with pytest.raises(ValueError, match=r"m-changed\.pt: expected tensors that are stored uncompressed, got 268"):
        load_torchscript(changed(script, {member: None}))


@pytest.mark.parametrize("member", ["weight_0", "model.json"])
def test_a_bomb_in_a_program_of_torch_export_is_rejected_at_once(member: str, program: Path) -> None:
    with pytest.raises(ValueError, match=r"another or damaged file .*m-changed.pt2"):
        load_extractor(str(changed(program, {member: None})), "cpu")


def test_a_bomb_in_an_archive_within_a_program_is_rejected(program: Path, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(9)}, tmp_path / "inner.pt")
    inner = changed(tmp_path / "inner.pt", {"data/0": None}).read_bytes()
    with pytest.raises(ValueError, match="another or damaged file"):
        load_extractor(str(changed(program, {"sample_inputs/model.pt": lambda _: inner})), "cpu")


def test_larger_sizes_in_a_program_of_torch_export_are_rejected(program: Path) -> None:
    def larger(whole: bytes) -> bytes:
        book = json.loads(whole)
        book["config"]["weight"]["tensor_meta"]["sizes"][0]["as_int"] = 2**32
        return json.dumps(book).encode()

    with pytest.raises(ValueError, match="another or damaged file"):
        load_extractor(str(changed(program, {"model_weights_config.json": larger})), "cpu")


def test_a_state_dict_of_repeated_values_is_rejected(tmp_path: Path) -> None:
    few = torch.arange(4.0)
    torch.save({"model": {"w": few.expand(2**40, 4), "b": few}}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"expected stored values in w, got the sizes \[1099511627776, 4\]"):
        content(tmp_path / "a.pt")
    torch.save({"model": {"w": few.expand(1, 4), "b": few[1:], "one": [few[2]], "none": few[:0]}}, tmp_path / "b.pt")
    assert isinstance(content(tmp_path / "b.pt"), dict)
    torch.save({"w": torch.zeros(9)}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="expected tensors that are stored uncompressed"):
        content(changed(tmp_path / "c.pt", {"data/0": None}))


def test_pickles_of_programs_import_nothing(script: Path, tmp_path: Path) -> None:
    victim = tmp_path / "made"
    calls = b"cos\nmkdir\n(X" + struct.pack("<I", len(str(victim))) + str(victim).encode() + b"tR."
    assert load_torchscript(changed(script, {"/data.pkl": lambda _: b"\x80\x02" + calls})) is None
    assert not victim.exists()
    pickle.load(io.BytesIO(calls))  # noqa: S301 (to see that it would have)
    assert victim.exists()
