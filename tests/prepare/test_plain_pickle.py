"""Pickles of CIFAR-10: every form that Python writes is read, and no pickle reaches NumPy's constructors."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.datasets import cifar, write_folder
from tests.support.preparing import INNER, LABELS, PIXELS, about, prepare

from ict_ref.prepare.sources.plain_pickle import load_plain


def again(content: bytes, protocol: int, keys: type, *, labels: str = "list", order: str = "C") -> bytes:
    """Return a batch that Python 3 has read and pickled again."""
    batch = pickle.loads(content.replace(b"numpy.core.", b"numpy._core."), encoding="bytes")  # noqa: S301 - our own
    if labels == "array":
        batch[b"labels"] = np.array(batch[b"labels"])
    batch[b"data"] = np.array(batch[b"data"], order=order)  # type: ignore[call-overload]
    named = batch if keys is bytes else {key.decode(): value for key, value in batch.items()}
    return pickle.dumps(named, protocol)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "form",
    [{"keys": bytes}, {"keys": str}, {"keys": str, "labels": "array"}, {"keys": str, "order": "F"}],
    ids=["bytes", "str", "array of labels", "Fortran order"],
)
def test_batches_that_python_3_pickled_again_are_those_of_cifar_10(
    tmp_path: Path, protocol: int, form: dict[str, Any]
) -> None:
    files = {name: again(content, protocol, **form) for name, content in cifar("python", PIXELS, LABELS).items()}
    assert prepare(write_folder(tmp_path / INNER["python"], files), "--unknown-files", "--out", tmp_path / "out") == 0
    assert np.array_equal(np.load(tmp_path / "out" / "images.npy"), PIXELS[:14])
    assert np.load(tmp_path / "out" / "labels.npy").tolist() == LABELS[:14]
    assert about(tmp_path / "out")["count"] == 14


def test_a_type_whose_fields_are_pointers_is_rejected(tmp_path: Path) -> None:
    """With NumPy's own constructors this pickle makes an array of pointers to 0x4141414141414141."""
    plain = b"cnumpy\ndtype\nU\x02V8K\x00K\x01\x87R"
    objects = b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R"
    fields = b"}U\x01f" + objects + b"K\x00\x86s"
    state = b"(K\x03U\x01|N(U\x01ft" + fields + b"K\x08K\x01K\x00t"
    array = b"cnumpy\nndarray\n(K\x04\x85" + plain + state + b"b" + b"C\x20" + b"A" * 32 + b"tR"
    batch = b"\x80\x02}(U\x04data" + array + b"U\x06labels" + array + b"u."
    files = cifar("python", PIXELS, LABELS) | {"data_batch_1": batch}
    source = write_folder(tmp_path / INNER["python"], files)
    command = [sys.executable, "-m", "ict_ref.prepare", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "data_batch_1 cannot be used: expected an array of uint8 or int64, got one of 'V8'" in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        # The stubs are not changed by a state, although they are the same objects for every pickle.
        (b"\x80\x02cnumpy\ndtype\n}U\x04codeU\x01xsb.", "expected no state for DtypeName"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "not callable"),
        # A dict's key is hashed: this one is 100 000 tuples deep, on C's stack.
        (b"\x80\x02})" + b"\x85" * 100_000 + b"K\x01s.", "at most 1000 tuples"),
        # The unpickler would fill 2^33 entries of its memo.
        (b"\x80\x02Nr\xff\xff\xff\xff.", "entry 1 of the memo"),
        (b"\x80\x02cnumpy\ndtype\nU\x02u1\x85R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb.", "a plain type"),
        (b"\x80\x02cnumpy\ndtype\nU\x05u1,i8\x85R.", "uint8 or int64, got one of 'u1,i8'"),
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\x00\x85U\x01b\x87R.", "another type"),
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R.", "an empty one"),
        (b"\x80\x04c_codecs\nencode\nU\x01aU\x03hex\x86R.", "Latin-1 text"),
        (b"\x80\x02cnumpy\ndtype\n\x81.", "the operation NEWOBJ"),
        (b"\x80\x02\x8f.", "the operation EMPTY_SET"),
        (b"\x80\x02\x82\x01.", "the operation EXT1"),
        (b"P1\n.", "the operation PERSID"),
    ],
)
def test_what_is_not_plain_is_rejected(content: bytes, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        load_plain(content)


def test_an_array_of_objects_or_of_another_size_is_rejected() -> None:
    start = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R\x89"
    assert load_plain(start + b"K\x02\x85" + dtype + b"U\x02abtb.").tolist() == [97, 98]
    for shape, content, message in (
        (b"K\x02\x85", b"](NNe", "an array of objects"),
        (b"K\x03\x85", b"U\x02ab", "bytes of an array"),
        (b"J\xff\xff\xff\xff\x85", b"U\x02ab", "the shape of an array"),
        (b"](K\x02e", b"U\x02ab", "the shape of an array"),
    ):
        with pytest.raises(ValueError, match=message):
            load_plain(start + shape + dtype + content + b"tb.")


def test_a_batch_with_both_forms_of_a_key_is_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twice = pickle.dumps({"labels": [], b"labels": [], "data": 1}, 2)
    files = cifar("python", PIXELS, LABELS) | {"data_batch_1": twice}
    assert prepare(write_folder(tmp_path / "a", files)) == 2
    assert "expected one entry labels, got 2" in capsys.readouterr().err


def test_generated_pickles_over_the_allowed_names_end_without_a_signal() -> None:
    command = [sys.executable, "-m", "tests.support.pickles", "0", "1500"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-2000:]
    _, read, _, rejected = done.stdout.replace(",", "").split()
    assert int(read) > 100
    assert int(rejected) > 1000
