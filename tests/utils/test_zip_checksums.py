"""Members of ZIP archives are compared with their CRC-32."""

import io
import random
import re
import zipfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
import torch
from tests.support.published import fixture, state_of

from ict_ref.import_checkpoint import main
from ict_ref.utils.archive import refuse_damaged
from ict_ref.utils.zip_checksums import refuse_flipped


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


def read_members(file: io.BytesIO) -> None:
    """Read all members of an archive."""
    with refuse_damaged("a.zip"), zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            archive.read(name)
