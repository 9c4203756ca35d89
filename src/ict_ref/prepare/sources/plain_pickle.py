"""Reader of pickles of plain values and uint8 or int64 arrays, without a function of NumPy or of the pickle's choice.

A pickle is a program for a stack machine. Three rules make it data: only the operations below are allowed; each name
stands for a stub of this module; and each array is built here, from a type, a shape and bytes that were checked.
NumPy's own constructors are not safe: a state for `numpy.dtype` can declare pointers in the bytes of the file.
"""

import io
import math
import pickle
import pickletools
from collections.abc import Mapping
from typing import Any

import numpy as np

OPERATIONS = frozenset(
    name
    for names in (
        "PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT",
        "STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8",
        "BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS",
        "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET",
        "GLOBAL STACK_GLOBAL REDUCE BUILD",
    )
    for name in names.split()
)
"""Operations that make plain values, name an object, call it, or set its state."""
MOST_TUPLES = 1000
"""Largest number of tuples: Python hashes nested tuples on C's stack, without a limit of the depth."""
MOST_OPERATIONS = 1_000_000
"""Largest number of operations; a batch of CIFAR-10 has some 40 000."""
DTYPES: Mapping[str, np.dtype[Any]] = {"u1": np.dtype(np.uint8), "i8": np.dtype(np.int64)}
BYTE_ORDERS = {"u1": "|", "i8": "<"}


def load_plain(content: bytes) -> Any:
    """Return the value in a pickle: numbers, strings, bytes, lists, tuples, dicts and arrays.

    Strings of Python 2 are bytes.

    Raises:
        ValueError: the pickle is damaged, or holds another operation, name, type or state. Errors of the standard
            library's unpickler, such as pickle.UnpicklingError and TypeError, are passed on.
    """
    _refuse_operations(content)
    return _as_value(_Unpickler(io.BytesIO(content), encoding="bytes").load())


def _refuse_operations(content: bytes) -> None:
    """Reject operations that are not in the list, a memo with gaps, whose memory is unlimited, and many tuples.

    Raises:
        ValueError: the pickle has such an operation or is damaged.
    """
    puts = tuples = 0
    for number, (operation, argument, _) in enumerate(pickletools.genops(content)):
        name = operation.name
        if name not in OPERATIONS:
            raise ValueError(f"expected a pickle of plain values and arrays, got the operation {name}")
        tuples += name.startswith("TUPLE")
        if name.endswith("PUT") or name == "MEMOIZE":
            puts += 1
            # pickle counts from 0, and Python 2's cPickle from 1.
            if isinstance(argument, int) and not 0 <= argument <= puts:
                raise ValueError(f"expected entry {puts} of the memo or one before, got {argument}")
        if tuples > MOST_TUPLES or number > MOST_OPERATIONS:
            raise ValueError(f"expected at most {MOST_TUPLES} tuples and {MOST_OPERATIONS} operations, got more")


def _as_value(value: Any) -> Any:
    """Return the value with arrays for their stubs, in the value itself and in a dict that it is."""
    if isinstance(value, dict):
        return {key: _as_value(one) if isinstance(one, _Array) else one for key, one in value.items()}
    return value.array() if isinstance(value, _Array) else value


class _Stub:
    """An object in a pickle; its state cannot be set, unless a subclass checks it."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise ValueError(f"expected no state for {type(self).__name__[1:]}, got {type(state).__name__}")


class _Dtype(_Stub):
    """The type of an array's elements: uint8, or int64 with the lowest byte first."""

    __slots__ = ("code",)

    def __init__(self, name: object, *_: object) -> None:
        text = _text(name)
        self.code = {"|u1": "u1", "<i8": "i8"}.get(text, text)
        if self.code not in DTYPES:
            raise ValueError(f"expected an array of uint8 or int64, got one of {text[:40]!r}")

    def __setstate__(self, state: object) -> None:
        """Accept the state of a plain type: version 3, the byte order, and nothing else."""
        expected = (3, BYTE_ORDERS[self.code], None, None, None, -1, -1, 0)
        if not isinstance(state, tuple) or len(state) != len(expected):
            raise ValueError("expected the state of a plain type, got another")
        for got, wanted in zip(state, expected, strict=True):
            if (_text(got) if isinstance(wanted, str) else got) != wanted or isinstance(got, _Stub):
                raise ValueError("expected the state of a plain type, got another")


class _Array(_Stub):
    """An array as the parts from which NumPy would build it, checked but not yet built."""

    __slots__ = ("content", "dtype", "order", "shape")

    def __setstate__(self, state: object) -> None:
        """Accept version 1, a shape, a type, whether the order is Fortran's, and the bytes."""
        if not isinstance(state, tuple) or len(state) != 5 or state[0] != 1:
            raise ValueError("expected the state of an array, got another")
        self.fill(state[4], state[2], state[1], "F" if state[3] else "C")

    def fill(self, content: object, dtype: object, shape: object, order: object) -> None:
        """Check and keep the parts.

        Raises:
            ValueError: a part is of another kind, or the bytes are not as many as the shape needs.
        """
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes | bytearray):
            raise ValueError("expected an array of bytes, got an array of objects")
        if not isinstance(shape, tuple) or len(shape) > 4 or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("expected the shape of an array, got another value")
        if len(content) != math.prod(shape) * DTYPES[dtype.code].itemsize:
            raise ValueError(f"expected the bytes of an array {list(shape)}, got {len(content)} bytes")
        self.content, self.dtype, self.shape, self.order = content, dtype, shape, _text(order)

    def array(self) -> np.ndarray[Any, np.dtype[Any]]:
        """Return the array.

        Raises:
            ValueError: the pickle has not set its content.
        """
        if not hasattr(self, "content"):
            raise ValueError("expected the content of an array, got an empty one")
        flat: np.ndarray[Any, np.dtype[Any]] = np.frombuffer(self.content, DTYPES[self.dtype.code])
        return flat.reshape(self.shape, order="F" if self.order == "F" else "C")


class _NdarrayName(_Stub):
    """The name numpy.ndarray, an argument of _Reconstruct; it is not called."""

    __slots__ = ()


class _DtypeName(_Stub):
    """The name numpy.dtype; calling it returns a type."""

    __slots__ = ()

    def __call__(self, *arguments: object) -> _Dtype:
        return _Dtype(*arguments)


class _Reconstruct(_Stub):
    """NumPy's _reconstruct; calling it returns an array whose content is its state."""

    __slots__ = ()

    def __call__(self, *arguments: object) -> _Array:
        if not (arguments and isinstance(arguments[0], _NdarrayName)):
            raise ValueError("expected numpy.ndarray to be made, got another type")
        return _Array()


class _FromBuffer(_Stub):
    """NumPy's _frombuffer, in pickles of protocol 5; calling it returns a whole array."""

    __slots__ = ()

    def __call__(self, content: object, dtype: object, shape: object, order: object) -> _Array:
        made = _Array()
        made.fill(content, dtype, shape, order)
        return made


class _Encode(_Stub):
    """Bytes as Python 3 writes them in protocol 2: Latin-1 text and the name of that encoding."""

    __slots__ = ()

    def __call__(self, text: object, encoding: object) -> bytes:
        if not isinstance(text, str) or _text(encoding) != "latin1":
            raise ValueError("expected bytes as Latin-1 text, got another value")
        return text.encode("latin-1")


NAMES: Mapping[tuple[str, str], _Stub] = {
    ("numpy", "ndarray"): _NdarrayName(),
    ("numpy", "dtype"): _DtypeName(),
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy.core.numeric", "_frombuffer"): _FromBuffer(),
    ("numpy._core.numeric", "_frombuffer"): _FromBuffer(),
    ("_codecs", "encode"): _Encode(),
}
"""Names that a pickle may hold, each with its stub."""


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows the stubs alone."""

    def find_class(self, module: str, name: str, /) -> _Stub:
        """Return the stub of a name.

        Raises:
            UnpicklingError: the name does not have a stub.
        """
        if (module, name) not in NAMES:
            raise pickle.UnpicklingError(f"expected a pickle of NumPy arrays, got the name {module}.{name}"[:200])
        return NAMES[module, name]


def _text(value: object) -> str:
    """Return a string, or bytes as ASCII.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, bytes):
        return value.decode("ascii", "backslashreplace")
    if not isinstance(value, str):
        raise ValueError(f"expected a string, got {type(value).__name__}")
    return value
