"""Members of ZIP archives are compared with their CRC-32, and the list of members with the members."""

import contextlib
import io
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.one_line import rejection
from tests.support.published import fixture, state_of

from ict_ref.evaluate.__main__ import main as evaluate
from ict_ref.import_checkpoint import main
from ict_ref.utils.archive import refuse_damaged
from ict_ref.utils.inflation import refuse_inflated_arrays
from ict_ref.utils.zip_checksums import refuse_flipped, refuse_incomplete


@pytest.fixture
def without_checksums() -> Iterator[None]:
    """Let torch write 0 for each checksum."""
    torch.serialization.set_crc32_options(False)
    yield
    torch.serialization.set_crc32_options(True)


def with_flip(path: Path, place: int) -> Path:
    """Return a copy of the file with one bit flipped."""
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    copy = path.with_name("flipped.pt")
    copy.write_bytes(content)
    return copy


def tensors(path: Path) -> range:
    """Return the bytes of the first large tensor of a file of torch.save."""
    with zipfile.ZipFile(path) as archive:
        member = max(archive.infolist(), key=lambda one: one.file_size)
        with archive.open(member) as file:
            start = path.read_bytes().index(file.read())
    return range(start, start + member.file_size)


def test_a_bit_flip_in_a_published_network_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "theirs.pt"
    torch.save(state_of("adm_small_adagn"), path)
    places = random.Random(0).sample(tensors(path), 3)  # noqa: S311 (places)
    size = str(fixture("adm_small_adagn")["x"].shape[-1])
    for place in places:
        flipped = with_flip(path, place)
        assert not torch.equal(torch.cat([one.flatten() for one in torch.load(flipped).values()]),
                               torch.cat([one.flatten() for one in torch.load(path).values()]))  # fmt: skip
        options = ["--out", str(tmp_path / "out"), "--head-channels", "16", "--size", size]
        assert main([str(flipped), *options]) == 2
        said = capsys.readouterr().err
        assert re.fullmatch(r"ict_ref\.import_checkpoint: .*flipped\.pt: .* damaged file .*Download it again\.\n", said)
        assert not (tmp_path / "out").exists()


def test_whole_files_and_those_without_checksums_pass(tmp_path: Path, without_checksums: None) -> None:
    torch.save({"a": torch.arange(99.0)}, tmp_path / "zeros.pt")
    with zipfile.ZipFile(tmp_path / "zeros.pt") as archive:
        assert {member.CRC for member in archive.infolist()} == {0}
    refuse_flipped(tmp_path / "zeros.pt")
    torch.serialization.set_crc32_options(True)
    torch.save({"a": torch.arange(99.0)}, tmp_path / "whole.pt")
    refuse_flipped(tmp_path / "whole.pt")
    torch.save({"a": torch.arange(99.0)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    refuse_flipped(tmp_path / "old.pt")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_each_damaged_member_is_found(method: int, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in ("first", "second"):
            archive.writestr(name, random.Random(name).randbytes(2000))  # noqa: S311 (content)
    refuse_flipped(path)
    for place in (900, 2900):
        with pytest.raises(ValueError, match="damaged file"):
            refuse_flipped(with_flip(path, place))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_every_damaged_byte_of_the_headers_is_one_kind_of_error(method: int, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in ("caf\u00e9", "second"):
            archive.writestr(name, random.Random(name).randbytes(20))  # noqa: S311 (content)
    whole, refused = path.read_bytes(), 0
    for place, bit in product(range(len(whole)), (0, 3, 7)):
        content = bytearray(whole)
        content[place] ^= 1 << bit
        for check in (refuse_flipped, read_members):
            try:
                check(io.BytesIO(content))
            except ValueError:
                refused += 1
    assert refused > len(whole)


ARRAYS = {"mu": np.zeros(2), "sigma": np.eye(2), "count": np.array(3), "features": np.ones((3, 2), np.float32)}


def listed(content: bytes) -> dict[str, bytes]:
    """Return the arrays of an .npz as statistics are read: each that is there."""
    file = io.BytesIO(content)
    with refuse_damaged("a.npz"):
        refuse_inflated_arrays(file, ARRAYS)
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name].tobytes() for name in ARRAYS if name in archive.files}


@pytest.mark.parametrize(("save", "after"), [(np.savez, b""), (np.savez_compressed, b"left by a download")])
def test_no_changed_bit_hides_an_array(save: Callable[..., None], after: bytes) -> None:
    file = io.BytesIO()
    save(file, **ARRAYS)
    whole = file.getvalue() + after
    expected, hidden = {name: value.tobytes() for name, value in ARRAYS.items()}, 0
    assert listed(whole) == expected
    for place, bit in product(range(whole.index(b"PK\1\2"), len(whole)), range(8)):
        content = bytearray(whole)
        content[place] ^= 1 << bit
        with contextlib.suppress(ValueError):
            assert listed(bytes(content)) == expected, (place, bit)
        with (
            contextlib.suppress(zipfile.BadZipFile, NotImplementedError),
            zipfile.ZipFile(io.BytesIO(content)) as archive,
        ):
            hidden += {*archive.namelist()} != {f"{name}.npy" for name in ARRAYS}
    assert hidden > 8 * len("".join(ARRAYS))  # without the check each bit of a name hides its array


def test_an_archive_with_many_members_passes() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for k in range(70_000):
            archive.writestr(str(k), "")
    with zipfile.ZipFile(file) as archive:
        refuse_incomplete(archive)


def test_statistics_whose_features_are_not_listed_are_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "a.npz").open("wb") as file:
        np.savez(file, allow_pickle=False, **ARRAYS)
    content = (tmp_path / "a.npz").read_bytes()
    place = content.rindex(b"features.npy")
    (tmp_path / "a.npz").write_bytes(content[:place] + b"F" + content[place + 1 :])
    assert evaluate(["digits:held-out", "--reference", str(tmp_path / "a.npz")]) == 2
    assert "a.npz is truncated or damaged: File name in directory 'Features.npy'" in rejection(
        capsys, "ict_ref.evaluate"
    )


def read_members(file: io.BytesIO) -> None:
    """Read all members of an archive."""
    with refuse_damaged("a.zip"), zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            archive.read(name)
