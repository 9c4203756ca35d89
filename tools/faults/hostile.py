"""Files that somebody made on purpose: pickles, archives, programs, bombs, and weights with a right checksum.

Each must be refused by one line and status 2 or do no harm: no signal, no file beside the results, bounded memory.
"""

import gzip
import json
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tools.faults.calls import of_ended
from tools.faults.results import Point
from tools.faults.scenarios import NET, Inputs, Scenario
from tools.faults.server import HANG_S, Server
from tools.faults.session import Found
from tools.faults.trees import overwritten, tree, write_tree

PART = "hostile"
"""Name of this part of the session."""
GENERATED, MADE = "generated", "made by hand"
PICKLES = 200
"""Number of generated pickles."""
VICTIM = b"precious data of the user, more than 32 bytes long\n" * 4
BATCHES = "cifar-10-batches-py"
UNKNOWN = "--unknown-files"
"""Option without which only the published files are read to their end."""
BOMB = 2 << 30
"""Size of a decompressed bomb in bytes."""
NAMES = (
    ("numpy", "dtype"), ("numpy", "ndarray"), ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"), ("_codecs", "encode"), ("numpy.core.multiarray", "scalar"),
    ("builtins", "getattr"), ("os", "system"), ("collections", "OrderedDict"),
)  # fmt: skip
"""Names that a pickle may import; the first four are those of an array."""


@dataclass(frozen=True)
class Attack:
    """A file, how it is made, and the command that reads it."""

    name: str
    file: str
    make: Callable[[Path], object]
    scenario: Scenario


def _prepare(file: str, *arguments: str) -> Scenario:
    return Scenario("prepare", "ict_ref.prepare", (file, *arguments, "--out", "made"))


def _evaluate(file: str) -> Scenario:
    arguments = ("few", "--reference", "images", "--features", file, "--k", "1")
    return Scenario("evaluate", "ict_ref.evaluate", arguments, inputs=("few", "images"))


SAMPLES = Scenario("evaluate", "ict_ref.evaluate", ("h.npz", "--reference", "images", "--k", "1"), inputs=("images",))
SAMPLE = Scenario("sample", "ict_ref.sample", (NET, "--count", "2", "--device", "cpu", "--out", "o.npz"), inputs=(NET,))
IMPORT = Scenario("import", "ict_ref.import_checkpoint", ("h.pt", "--out", "imported"))


@dataclass
class Hostile:
    """The part of the session that reads hostile files."""

    server: Server
    inputs: Inputs
    folder: Path
    seed: str = ""

    def cases(self) -> list[str]:
        """Return the names of the kinds of files."""
        return sorted({attack.name.split(":")[0] for attack in attacks()})

    def points(self, case: str) -> Iterator[Point]:
        """Yield the files of a kind; generated pickles depend on the seed."""
        if case == "pickles":
            for number in range(PICKLES):
                yield Point(PART, case, GENERATED, f"number {self.seed or 0}-{number}")
        for attack in attacks():
            kind, _, name = attack.name.partition(": ")
            if kind == case:
                yield Point(PART, case, MADE, name)

    def check(self, point: Point) -> Found:
        """Return the findings of a point."""
        if point.kind == GENERATED:
            made = _prepare(BATCHES, UNKNOWN)
            attack = Attack(point.name, BATCHES, lambda path: write_pickles(path, point.place), made)
        else:
            attack = next(one for one in attacks() if one.name == f"{point.case}: {point.place}")
        before = self.inputs.of(attack.scenario) | {"victim.txt": VICTIM, "home/": b""}
        write_tree(self.folder, before)
        self.server.call(lambda: attack.make(self.folder / attack.file))
        before = tree(self.folder)
        home = {"HOME": str(self.folder / "home")}
        ended = self.server.run(
            attack.scenario.command, attack.scenario.arguments, self.folder, variables=home, seconds=3 * HANG_S
        )
        after = tree(self.folder)
        found: Found = [("overwritten", name) for name in overwritten(before, after)]
        if ended.hung or ended.status != 0:
            found += of_ended(ended)
        if point.case == "weights" and ended.status == 0:
            found.append(("lost", "wrong weights are taken"))
        if ended.traceback:
            found.append(("traceback", ended.last_line))
        if not all(line.isprintable() for line in ended.out.split("\n")):
            found.append(("not one line", f"control characters in standard output: {ended.out[:100]!r}"))
        new = [name for name in after if name not in before and not name.startswith(("made", "o.npz", "imported"))]
        return found + ([("left over", f"new files: {', '.join(new[:4])}")] if new else [])


def write_pickles(folder: Path, place: str) -> None:
    """Write CIFAR-10's Python batches, the first a generated pickle."""
    choose = random.Random(place)  # noqa: S311 (content)
    _write_batches(folder, lambda whole: generated(choose, whole))


def _write_batches(folder: Path, change: Callable[[bytes], bytes]) -> None:
    from tests.support.datasets import cifar, random_images, write_folder

    files = cifar("python", random_images(17, 3, 32, 32), [(7 * k) % 10 for k in range(17)])
    files["data_batch_1"] = change(files["data_batch_1"])
    write_folder(folder, files)


def _pointer(folder: Path) -> None:
    """Write a batch whose labels are an array of objects with addresses of the file's choice."""
    dtype = b"cnumpy\ndtype\nU\x02%sK\x00K\x01\x87R"
    fields = b"}U\x02f0" + dtype % b"O8" + b"K\x00\x86s"
    changed = dtype % b"V8" + b"(K\x03U\x01|NU\x02f0\x85" + fields + b"K\x08K\x01K\x00tb"
    labels = b"cnumpy\nndarray\n(K\x04\x85" + changed + b"T" + struct.pack("<i", 32) + b"A" * 32 + b"tR"
    _write_batches(folder, lambda whole: b"\x80\x02}(C\x06labels" + labels + b"C\x04dataNu.")


def generated(choose: random.Random, whole: bytes) -> bytes:
    """Return a pickle: one of random objects of `NAMES`, or a whole one with a few changed bytes."""
    if choose.random() < 0.3:
        changed = bytearray(whole)
        for _ in range(choose.randrange(1, 6)):
            changed[choose.randrange(min(len(changed), 400))] = choose.randrange(256)
        return bytes(changed)
    labels, data = _object(choose, 4), _object(choose, 4)
    pairs = b"C\x06labels" + labels + b"C\x04data" + data
    return b"\x80\x02" + b"}(" + pairs + b"u" + b"."


def _object(choose: random.Random, depth: int) -> bytes:
    """Return opcodes that push one object."""
    if depth == 0 or choose.random() < 0.25:
        return _leaf(choose)
    kind = choose.randrange(6)
    if kind == 0:
        return b"(" + b"".join(_object(choose, depth - 1) for _ in range(choose.randrange(5))) + b"t"
    if kind == 1:
        return b"](" + b"".join(_object(choose, depth - 1) for _ in range(choose.randrange(4))) + b"e"
    if kind == 2:
        return b"}(" + _leaf(choose) + _object(choose, depth - 1) + b"u"
    return _built(choose, depth)


TEXTS = ("V8", "O", "u1", "i8", "|u1", "S4", "U", "f8", "b", "object", "O8,O8", "|", "<", "x", "M8[s]")


def _leaf(choose: random.Random) -> bytes:
    """Return opcodes that push a number, a text or bytes."""
    text = choose.choice(
        ("V8", "O", "u1", "i8", "|u1", "S4", "U", "f8", "b", "object", "O8,O8", "|", "<", "x", "M8[s]")
    )
    return choose.choice((
        b"N", b"\x88", b"\x89", b"K" + bytes([choose.randrange(256)]),
        b"J" + struct.pack("<i", choose.randrange(-9, 99)),
        b"J" + struct.pack("<i", choose.choice((2**31 - 1, -(2**31)))), b"\x8a\x09" + b"\xff" * 8 + b"\x00",
        b"U" + bytes([len(text)]) + text.encode(), b"X" + struct.pack("<I", len(text)) + text.encode(),
        b"T" + struct.pack("<i", 64) + b"A" * 64, b"C\x08" + b"A" * 8, b"G" + struct.pack(">d", 1e300),
    ))  # fmt: skip


def _built(choose: random.Random, depth: int) -> bytes:
    """Return opcodes that call a name with arguments, and mostly set a state."""
    module, name = choose.choice(NAMES[:4] if choose.random() < 0.9 else NAMES)
    pushed = f"c{module}\n{name}\n".encode()
    if choose.random() < 0.6 and name == "dtype":
        pushed += _leaf(choose) + b"K\x00K\x01\x87R"
    elif choose.random() < 0.5 and name == "_reconstruct":
        pushed += b"cnumpy\nndarray\n" + b"K\x00\x85" + b"U\x01b" + b"\x87R"
    else:
        pushed += b"(" + b"".join(_object(choose, depth - 1) for _ in range(choose.randrange(4))) + b"tR"
    if choose.random() < 0.7:
        size = choose.choice((3, 5, 5, 8, 8, 9))
        pushed += b"(" + b"".join(_object(choose, depth - 1) for _ in range(size)) + b"tb"
    return pushed


TARS: Mapping[str, dict[str, Any]] = {
    "member of 1 TB": {"size": 1 << 40},
    "member ../victim.txt": {"name": "../victim.txt"},
    "absolute member": {"name": "/tmp/victim.txt"},  # noqa: S108 (never written)
    "members that are links": {"link": "/etc/passwd"},
    "members that are devices": {"device": True},
    "many empty members": {"copies": 20_000},
}
"""Archives that are not CIFAR-10."""
HEADERS = {
    "objects": ("'|O'", "(3,)", b"\x80\x02]."),
    "negative shape": ("'|u1'", "(-1, 8, 8, 3)", bytes(192)),
    "shape of 1 EB": ("'|u1'", f"({2**60}, 8, 8, 3)", bytes(1)),
    "shape of 40 digits": ("'|u1'", f"({10**40}, 8, 8, 3)", bytes(1)),
    "deep header": ("'|u1'", "(" * 300 + ")" * 300, b""),
    "header is a program": ("__import__('os').system('echo > owned')", "(1,)", bytes(1)),
}
"""dtype, shape and data of arrays."""


def attacks() -> list[Attack]:
    """Return all files that are not generated."""
    archive, few = "cifar-10-python.tar.gz", ("--size", "8")
    files: dict[str, tuple[str, Callable[[Path], object], Scenario]] = {
        "archives: gzip bomb": (archive, _gzip_bomb, _prepare(archive, UNKNOWN)),
        "images: 100 000 pixels a side": ("pictures", lambda path: _png(path, 100_000), _prepare("pictures", *few)),
        "images: 30 000 pixels a side": ("pictures", lambda path: _png(path, 30_000), _prepare("pictures", *few)),
        "images: names with control characters": ("pictures", _odd_names, _prepare("pictures")),
        "pickles of torch: os.system": ("h.pt", _torch_pickle, IMPORT),
        "pickles: a pointer in an array": (BATCHES, _pointer, _prepare(BATCHES, UNKNOWN)),
        "arrays: zip bomb": ("h.npz", _zip_bomb, SAMPLES),
    }
    for name, tar in TARS.items():
        files[f"archives: {name}"] = (archive, partial(_tar, **tar), _prepare(archive, UNKNOWN))
    for name, (descr, shape, data) in HEADERS.items():
        files[f"arrays: {name}"] = ("h.npz", partial(_npz, descr=descr, shape=shape, data=data), SAMPLES)
    found = [Attack(name, *rest) for name, rest in files.items()]
    for name, source in PROGRAMS.items():
        found.append(Attack(f"programs: {name}", "h.pt", _script(source), _evaluate("h.pt")))
    for name, (pickled, sizes) in TENSORS.items():
        made = partial(_declared, pickled=pickled, sizes=sizes)
        found.append(Attack(f"archives of torch: {name}", "h.pt", made, _evaluate("h.pt")))
    for member in MEMBERS:
        made = partial(_bomb_of_torch, member=member)
        found.append(Attack(f"archives of torch: bomb in {member}", "h.pt", made, _evaluate("h.pt")))
    found.append(Attack("archives of torch: 2^40 repeated rows", "h.pt", _repeated, IMPORT))
    for name, change in WEIGHTS.items():
        found.append(Attack(f"weights: {name}", NET, _weights(change), SAMPLE))
    for name, values in DESCRIPTIONS.items():
        found.append(Attack(f"descriptions: {name}", NET, _described(values), SAMPLE))
    return found


def _gzip_bomb(path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(BOMB >> 24):
            file.write(bytes(1 << 24))


def _tar(path: Path, *, name: str = "", size: int = 0, link: str = "", device: bool = False, copies: int = 1) -> None:
    """Write an archive of one member, which is not CIFAR-10."""
    with tarfile.open(path, "w:gz") as archive:
        for number in range(copies):
            member = tarfile.TarInfo(name or f"cifar-10-batches-py/data_batch_{number + 1}")
            if link:
                member.type, member.linkname = tarfile.SYMTYPE, link
            if device:
                member.type = tarfile.CHRTYPE
            archive.addfile(member)
    if size:
        content = bytearray(gzip.decompress(path.read_bytes()))
        content[124:136] = b"\x80" + size.to_bytes(11, "big")
        content[148:156] = b" " * 8
        content[148:156] = b"%06o\0 " % sum(content[:512])
        path.write_bytes(gzip.compress(bytes(content)))


def _npz(path: Path, descr: str, shape: str, data: bytes) -> None:
    """Write an .npz whose array has a header of this text."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("arr_0.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data)


def _zip_bomb(path: Path) -> None:
    """Write an array of three images, after which the archive's member has a bomb."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (3, 8, 8, 3), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("arr_0.npy", "w", force_zip64=True) as member,
    ):
        member.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
        for _ in range(BOMB >> 24):
            member.write(bytes(1 << 24))


def _png(folder: Path, side: int) -> None:
    """Write a PNG of one colour."""
    folder.mkdir()

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    squeeze = zlib.compressobj(1)
    rows = b"".join(squeeze.compress(bytes(side + 1)) for _ in range(min(side, 30_000))) + squeeze.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    (folder / "a.png").write_bytes(content)


def _odd_names(folder: Path) -> None:
    """Write images in classes whose names move the cursor, or look like another line."""
    import numpy as np
    from PIL import Image

    for name in ("\x1b[2J\x1b[31mred", "b\rOVERWRITTEN", "c\nprepared in etc", "d\x07"):
        (folder / name).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / name / "\x1b[31m.png")


def _torch_pickle(path: Path) -> None:
    """Write a pickle that runs a program, as torch.save's first format has it."""
    path.write_bytes(b"\x80\x02cposix\nsystem\nX\x0c\x00\x00\x00echo > owned\x85R.")


PROGRAMS = {
    "aten::save": "torch.save(x, 'written_by_torchscript')",
    "aten::from_file": (
        "y = torch.from_file('victim.txt', True, 32, dtype=torch.uint8)\n    y.fill_(65)\n"
        "    x = x + 0 * y.float().sum()"
    ),
    "prim::Print": "print('\\033[31mhello')",
    "none of them": "pass",
}
"""Statements of TorchScript feature extractors."""


def _script(statement: str) -> Callable[[Path], None]:
    """Return a function that writes a TorchScript file with a statement in its forward."""

    def write(path: Path) -> None:
        import torch

        module = torch.nn.Module()
        scripted = torch.jit.script(module)
        scripted.define(f"def forward(self, x):\n    {statement}\n    return x.mean(3).reshape(x.shape[0], -1)\n")
        scripted.save(str(path))  # type: ignore[no-untyped-call]

    return write


TENSORS: Mapping[str, tuple[bytes, bytes]] = {
    "a storage of 16 GB": (b"K\x09tQ", b"\x8a\x08" + struct.pack("<q", 2**32) + b"tQ"),
    "2^40 rows": (b"(K\x03K\x03t", b"(\x8a\x08" + struct.pack("<q", 2**40) + b"K\x03t"),
    "an offset of 2^40": (b"q\x07K\x00", b"q\x07\x8a\x08" + struct.pack("<q", 2**40)),
    "a table of 2^32 objects": (b"ctorch\n", b"r" + struct.pack("<I", 2**32 - 1) + b"ctorch\n"),
}
"""Bytes of the pickle of a TorchScript file, and what replaces them."""
MEMBERS = ("data/0", "code/__torch__/torch/nn/modules/module.py", "data.pkl")
"""Members of a TorchScript file of which each is a bomb."""


def _program(path: Path) -> dict[str, bytes]:
    """Write a TorchScript program with a weight of 3 x 3 values, and return its members."""
    import torch

    module = torch.nn.Module()
    module.weight = torch.nn.Parameter(torch.rand(3, 3))
    scripted = torch.jit.script(module)
    scripted.define("def forward(self, x):\n    return x.mean(3).reshape(x.shape[0], -1) + self.weight.sum()\n")
    scripted.save(str(path))  # type: ignore[no-untyped-call]
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _declared(path: Path, pickled: bytes, sizes: bytes) -> None:
    """Write a program whose pickle has other bytes at a place."""
    members = _program(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            changed = content.replace(pickled, sizes, 1)
            archive.writestr(name, changed if name.endswith("/data.pkl") else content)


def _bomb_of_torch(path: Path, member: str) -> None:
    """Write a program of which a member decompresses to zeros."""
    members = _program(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if not name.endswith(f"/{member}"):
                archive.writestr(name, content)
                continue
            about = zipfile.ZipInfo(name)
            about.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(about, "w", force_zip64=True) as stream:
                for _ in range(BOMB >> 24):
                    stream.write(bytes(1 << 24))


def _repeated(path: Path) -> None:
    """Write a state dict whose tensor repeats its only row."""
    import torch

    torch.save({"input_blocks.0.0.weight": torch.zeros(9).expand(2**40, 9)}, path)


def _nan(tensor: Any) -> Any:
    tensor = tensor.clone()
    tensor.view(-1)[0] = float("nan")
    return tensor


WEIGHTS: Mapping[str, Callable[[Any], Any]] = {
    "a NaN": _nan,
    "infinity": lambda tensor: tensor * float("inf"),
    "int8": lambda tensor: tensor.char(),
    "bool": lambda tensor: tensor > 0,
    "complex": lambda tensor: tensor.cfloat(),
    "another shape": lambda tensor: tensor.reshape(-1),
    "a scalar": lambda tensor: tensor.sum(),
    "nothing in it": lambda tensor: tensor[:0],
}
"""Changes of the largest tensors of a network file."""
ODD: tuple[Any, ...] = (None, "x", -1, 0, 2**40, 1e300, [], [[1]], {})
DESCRIBED = (
    "sigma_min", "sigma_max", "sigma_data", "classes", "channels", "size", "network.width", "network.blocks",
    "network.groups", "network.multipliers",
)  # fmt: skip
DESCRIPTIONS: Mapping[str, dict[str, Any]] = {
    f"{name} = {json.dumps(value)[:20]}": {name: value} for name in DESCRIBED for value in ODD
}
"""Changed values of the description of a network file."""


def _weights(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        _rewritten(path, lambda about, tensors: (about, {
            name: change(tensor) if tensor.numel() == max(one.numel() for one in tensors.values()) else tensor
            for name, tensor in tensors.items()
        }))  # fmt: skip

    return write


def _described(values: dict[str, Any]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        _rewritten(path, lambda about, tensors: (_set(about, values), tensors))

    return write


def _set(about: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return a description with other values; a dot leads into an object."""
    about = json.loads(json.dumps(about))
    for name, value in values.items():
        inner, _, last = name.rpartition(".")
        (about[inner] if inner else about)[last] = value
    return about


def _rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], tuple[dict[str, Any], Any]]) -> None:
    """Write a network file anew with changed content and a right checksum."""
    import safetensors
    import safetensors.torch

    from ict_ref.checkpoint.safetensors_io import KEY, checksum, without_checksum

    with safetensors.safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()[KEY])
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    described, changed = change(without_checksum(about), tensors)
    changed = {name: tensor.contiguous() for name, tensor in changed.items()}
    stored = described | {"sha256": checksum(json.dumps(described), changed)}
    safetensors.torch.save_file(changed, path, {KEY: json.dumps(stored)})
