"""A generator of hostile pickles over the names that the reader of CIFAR-10 allows: `python -m tests.support.pickles`.

Arguments: the first seed, and how many. It prints how many were read and how many rejected. A crash is a signal.
"""

# ruff: noqa: S311 - random tests

import contextlib
import faulthandler
import random
import resource
import struct
import sys
from collections.abc import Callable

import numpy as np
from tests.support.datasets import python_batch, random_images

from ict_ref.prepare.sources import cifar
from ict_ref.prepare.sources.plain_pickle import NAMES
from ict_ref.utils.archive import refuse_damaged

GIBIBYTE = 2**30
TYPES = ("u1", "i8", "|u1", "<i8", "O", "V8", "V16", "M8", "S8", "U2", ">i8", "f8", "u1,O", "c16", "O8", "?", "i4")
NUMBERS = (0, 1, 2, 3, 4, 8, 16, 255, 3072, -1, 2**31 - 1, -(2**31))


def text(value: str) -> bytes:
    """Return the operation that pushes a short string: one of Python 3 or of Python 2."""
    content = value.encode()
    return (
        b"\x8c" + bytes([len(content)]) + content if random.random() < 0.5 else b"U" + bytes([len(content)]) + content
    )


def number(value: int) -> bytes:
    """Return the operation that pushes a number."""
    return b"J" + struct.pack("<i", value)


def name() -> bytes:
    """Return the operation that pushes an allowed name."""
    module, attribute = random.choice(list(NAMES))
    return f"c{module}\n{attribute}\n".encode()


def tuple_of(parts: list[bytes]) -> bytes:
    """Return the operations that push a tuple."""
    return b"(" + b"".join(parts) + b"t"


def content(depth: int) -> bytes:
    """Return the operations that push bytes, a string or another value, often of a size that fits."""
    size = random.choice((0, 1, 8, 32, 64))
    data = random.choice((b"A" * size, bytes(size), random.randbytes(size)))
    return random.choice((b"C" + bytes([size]) + data, b"U" + bytes([size]) + data, value(depth)))


def dtype(depth: int) -> bytes:
    """Return the operations that push a type, perhaps with a state: fields, objects, flags, sizes, subarrays."""
    made = b"cnumpy\ndtype\n" + tuple_of([text(random.choice(TYPES)), number(0), number(1)]) + b"R"
    if random.random() < 0.6:
        none = b"N"
        fields = b"}(" + text("f") + tuple_of([random.choice((made, value(depth))), number(0)]) + b"u"
        state = [
            number(random.choice((3, 3, 3, 4, 1, -1))),
            text(random.choice("|<>=")),
            random.choice((none, tuple_of([made, tuple_of([number(2)])]))),
            random.choice((none, tuple_of([text("f")]))),
            random.choice((none, fields)),
            number(random.choice((-1, -1, 8, 2**31 - 1))),
            number(random.choice((-1, -1, 8, 1))),
            number(random.choice((0, 0, 63, 27, 16))),
        ]
        made += tuple_of(state[: random.choice((8, 8, 8, 7, 3))]) + b"b"
    return made


def shape() -> bytes:
    """Return the operations that push a shape."""
    return tuple_of([number(random.choice(NUMBERS)) for _ in range(random.randrange(4))])


def array(depth: int) -> bytes:
    """Return the operations that push an array in one of the ways of NumPy's pickles, or a wrong one."""
    if random.random() < 0.3:
        parts = [content(depth), dtype(depth), shape(), text(random.choice(("C", "F", "A")))]
        return b"cnumpy._core.numeric\n_frombuffer\n" + tuple_of(parts) + b"R"
    if random.random() < 0.3:
        return b"cnumpy\nndarray\n" + tuple_of([shape(), dtype(depth), content(depth)]) + b"R"
    made = b"cnumpy.core.multiarray\n_reconstruct\n"
    made += tuple_of([random.choice((b"cnumpy\nndarray\n", name())), shape(), text("b")]) + b"R"
    objects = b"](" + b"".join(value(depth) for _ in range(2)) + b"e"
    state = [
        number(1),
        shape(),
        dtype(depth),
        random.choice((b"\x88", b"\x89")),
        random.choice((content(depth), objects)),
    ]
    return made + tuple_of(state) + b"b"


def called(depth: int) -> bytes:
    """Return the operations that call an allowed name with any values, and perhaps set the state of the result."""
    made = name() + tuple_of([value(depth) for _ in range(random.randrange(4))]) + b"R"
    return made + (value(depth) + b"b" if random.random() < 0.5 else b"")


def nested(depth: int) -> bytes:
    """Return the operations that push a tuple in a tuple, many times, as the key of a dict."""
    return b"}" + b")" + b"\x85" * random.choice((10, 900, 10**6)) + b"K\x01s"


def value(depth: int) -> bytes:
    """Return the operations that push a value of any kind."""
    if depth <= 0:
        return random.choice((b"N", b"\x88", number(random.choice(NUMBERS)), text("x"), b")", b"]", b"}", name()))
    kinds: tuple[Callable[[int], bytes], ...] = (content, dtype, array, array, called, called, nested)
    return random.choice(kinds)(depth - 1)


def with_memo() -> bytes:
    """Return the operations that store a value far away in the memo."""
    return b"N" + random.choice(
        (b"r" + struct.pack("<I", 2**32 - 1), b"p999999999999\n", b"r" + struct.pack("<I", 2**28))
    )


def pickled() -> bytes:
    """Return a pickle: a batch of such values, a damaged batch, or a single value."""
    kind = random.random()
    if kind < 0.25:
        changed = bytearray(python_batch(random_images(2, 3, 32, 32), [1, 2]))
        places = [k for k in range(len(changed)) if k < 120 or k > 6200]
        for _ in range(random.randrange(1, 4)):
            changed[random.choice(places)] = random.randrange(256)
        return bytes(changed)
    if kind < 0.75:
        entries = text("data") + array(3) + text("labels") + random.choice((array(3), b"](K\x01K\x02e"))
        return b"\x80\x04}(" + entries + b"u."
    return b"\x80\x04" + random.choice((value(4), with_memo())) + b"."


def read(pickle: bytes) -> bool:
    """Return whether the reader takes a pickle; errors other than its own leave this process."""
    with contextlib.suppress(ValueError), refuse_damaged("batch"):
        pixels, labels = cifar._python(pickle)
        assert pixels.dtype == np.uint8
        assert labels.dtype == np.int64
        assert int(pixels.sum()) >= 0
        return True
    return False


def main() -> None:
    """Read generated pickles and print the counts."""
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (4 * GIBIBYTE, 4 * GIBIBYTE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    first, count = map(int, sys.argv[1:])
    taken = 0
    for seed in range(first, first + count):
        random.seed(seed)
        taken += read(pickled())
    print(f"read {taken}, rejected {count - taken}")


if __name__ == "__main__":
    main()
