"""Tensors that a TorchScript archive declares, checked before torch reads it.

torch allocates memory by the numbers in the archive's pickles, and does not compare them with the stored bytes: a
small file may take all memory, or read memory beyond its own.
"""

import io
import pickle
import pickletools
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PICKLES = {"data.pkl": "data/", "constants.pkl": "constants/"}
"""Pickles of an archive, and the folders of their tensors' bytes."""
EMPTY = b"N."
"""Pickle of None."""
MEMO = ("PUT", "BINPUT", "LONG_BINPUT")
"""Opcodes whose number is an index of a table that torch makes as long as that."""
BYTES = {
    **dict.fromkeys(("Byte", "Char", "Bool", "QUInt8", "QInt8", "QUInt4x2", "QUInt2x4"), 1),
    **dict.fromkeys(("Short", "Half", "BFloat16"), 2),
    **dict.fromkeys(("Int", "Float", "QInt32"), 4),
    **dict.fromkeys(("Long", "Double", "ComplexFloat"), 8),
    "ComplexDouble": 16,
}
"""Bytes of an element of each storage, of which the packed ones need fewer."""
DENSE = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_qtensor")


@dataclass(frozen=True)
class _Storage:
    """Stored values of one or more tensors."""

    length: int


class _Anything:
    """An object of the pickle that has no part in the check: it takes whatever the pickle gives it."""

    def __init__(self, *_: Any) -> None:
        pass

    def __call__(self, *_: Any) -> "_Anything":
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Take an element, as a list does."""


class _Unpickler(pickle.Unpickler):
    """Reads a pickle with no class of its own, and checks each tensor of it."""

    def __init__(self, content: bytes, folder: str, sizes: Mapping[str, int]) -> None:
        super().__init__(io.BytesIO(content))
        self.folder, self.sizes = folder, sizes

    def persistent_load(self, pid: Any) -> _Storage:
        """Return a storage whose declared length its bytes have."""
        _, kind, key, _, length = pid
        needed, stored = length * kind, self.sizes.get(f"{self.folder}{key}", 0)
        if length < 0 or needed > stored:
            raise ValueError(f"expected {needed} bytes in its member {self.folder}{key}, got {stored}")
        return _Storage(length)

    def find_class(self, module: str, name: str) -> Any:
        """Return a stand-in for a name of the pickle; nothing is imported."""
        if module == "torch" and name.endswith("Storage"):
            return BYTES[name.removesuffix("Storage")]
        if module == "torch._utils" and name in DENSE:
            return _within
        if module in ("torch._utils", "torch._tensor"):
            raise ValueError(f"expected dense tensors, got one of {module}.{name}")
        return _Anything if module.startswith("__torch__") else _Anything()


def _within(storage: _Storage, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any) -> _Anything:
    """Return a stand-in for a tensor whose elements are all stored."""
    if min((offset, *size, *stride)) < 0 or len(size) != len(stride):
        raise ValueError(f"expected sizes and strides that are not negative, got {size} and {stride}")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if 0 not in size and last >= storage.length:
        raise ValueError(f"expected a tensor of {storage.length} stored values, got the sizes {list(size)}")
    return _Anything()


def refuse_declared_tensors(content: bytes, records: Mapping[str, bytes]) -> None:
    """Reject an archive with a tensor that its bytes do not hold. `records` has its pickles by their names.

    Raises:
        ValueError: a tensor is larger than its bytes, sparse, or its pickle is damaged.
    """
    sizes = _sizes(content)
    for name, folder in PICKLES.items():
        pickled = records.get(name, EMPTY)
        try:
            _refuse_large_memo(pickled)
            _Unpickler(pickled, folder, sizes).load()
        except Exception as error:  # a damaged pickle may raise any exception
            raise ValueError(f"expected stored tensors in {name}, got a damaged file ({error})") from None


def _sizes(content: bytes) -> dict[str, int]:
    """Return the bytes of each member below the first one's folder, which torch reads; of a name twice, the fewer."""
    found: dict[str, int] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
    for member in members:
        folder, _, name = member.filename.partition("/")
        if folder == members[0].filename.partition("/")[0]:
            found[name] = min(member.file_size, found.get(name, member.file_size))
    return found


def _refuse_large_memo(content: bytes) -> None:
    for opcode, number, _ in pickletools.genops(content):
        if opcode.name in MEMO and isinstance(number, int) and number > len(content):
            raise ValueError(f"expected at most {len(content)} objects, got the number {number}")
