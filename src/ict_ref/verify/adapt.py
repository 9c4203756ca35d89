"""Tools for adapters of code that has no function to call: stand-ins for packages, lines of scripts, hidden draws.

The targets are programs that run. To import a script, or to call lines of one, executes its code with the rights of
the user, so read it first.
"""

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ict_ref import formulas
from ict_ref.utils.regular_file import read_regular
from ict_ref.verify.target.load import load

__all__ = ["Draws", "Stub", "cut", "exposed_draws", "script", "stub_imports", "with_constant"]

Distance = Callable[[Tensor, Tensor], Tensor]


class Stub:
    """A stand-in for an object of a package that is not installed.

    It can be called, indexed, inherited from and used as a decorator, which returns the decorated function. It is not a
    value: to calculate with it, or to iterate over it, raises a TypeError.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> "Stub":
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub(f"{self._name}.{name}")

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Return the stand-in itself; as a decorator, return the decorated function."""
        decorates = len(arguments) == 1 and not options and callable(arguments[0])
        return arguments[0] if decorates else self

    def __getitem__(self, _key: object) -> "Stub":
        return self

    # Without it, Python would iterate by the index.
    __iter__ = None

    def __or__(self, _other: object) -> "Stub":
        return self

    __ror__ = __or__

    def __mro_entries__(self, _bases: tuple[object, ...]) -> tuple[type, ...]:
        return ()

    def __repr__(self) -> str:
        return f"<stand-in for {self._name}, which is not installed>"


class _StubModule(ModuleType):
    """A module whose attributes are stand-ins."""

    def __getattr__(self, name: str) -> Stub:
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub(f"{self.__name__}.{name}")


class _StubFinder(MetaPathFinder, Loader):
    """A finder of the packages of some names, and of all modules in them, with given attributes."""

    def __init__(self, names: tuple[str, ...], values: Mapping[str, object]) -> None:
        self.names, self.values = names, values
        self.made: list[ModuleType] = []

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        covered = any(fullname == name or fullname.startswith(f"{name}.") for name in self.names)
        return ModuleSpec(fullname, self, is_package=True) if covered else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StubModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        for path, value in self.values.items():
            owner, _, attribute = path.rpartition(".")
            if owner == module.__name__:
                setattr(module, attribute, value)
        self.made.append(module)


@contextmanager
def stub_imports(*names: str, values: Mapping[str, object] | None = None) -> Iterator[None]:
    """Let missing packages be imported in the block, so that a script can be imported without them.

    Only packages of these names are supplied, with their submodules, and only if they are not installed. Their
    attributes are `Stub`s, except `values`, such as {"pytorch_lightning.LightningModule": torch.nn.Module}. After the
    block the packages cannot be imported any more.

    Example:
        >>> with stub_imports("a_package_that_is_missing"):
        ...     from a_package_that_is_missing.inner import decorator
        >>> @decorator
        ... def twice(x):
        ...     return 2 * x
        >>> twice(3)
        6
    """
    finder = _StubFinder(names, values or {})
    # At the end: what is installed is found before.
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for module in finder.made:
            sys.modules.pop(module.__name__, None)
            owner, _, name = module.__name__.rpartition(".")
            if vars(sys.modules.get(owner, module)).get(name) is module:
                delattr(sys.modules[owner], name)


def script(file: str | Path) -> Any:
    """Return the module that a Python file defines; the file is executed, and may import from its folder.

    Raises:
        TargetError: The file does not exist or cannot be imported.
    """
    return load(str(file)).namespace


def cut(
    file: str | Path,
    first: int,
    last: int,
    *,
    result: str | Sequence[str],
    given: Mapping[str, object] | None = None,
    sha256: str = "",
) -> Callable[..., Any]:
    """Return a function that executes lines of a script, and returns one of their variables or a tuple of them.

    Arguments of the function, which are passed by name, and `given` are the variables that the lines use. Line numbers
    begin with 1, and line `last` is included. The lines must be whole statements; they may be indented. With `sha256`,
    the first digits of the checksum of the lines, other lines are refused. Calling the function executes the code.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file does not have these lines, they are others than expected, or not whole statements.

    Example: a script whose third and fourth line are the loss inside a loop:

        >>> import pathlib, tempfile
        >>> text = "import data" + chr(10) + "for x in data:" + chr(10) + "  d = x - y" + chr(10) + "  loss = d * d"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (pathlib.Path(folder) / "train.py").write_text(text)
        ...     loss = cut(pathlib.Path(folder) / "train.py", 3, 4, result="loss")
        >>> loss(x=5.0, y=2.0)
        9.0
    """
    path = Path(file)
    where = f"lines {first} to {last} of {path}"
    every = read_regular(path).decode().splitlines(keepends=True)
    if not 1 <= first <= last <= len(every):
        raise ValueError(f"{where}: expected lines between 1 and {len(every)}")
    lines = "".join(every[first - 1 : last])
    digest = hashlib.sha256(lines.encode()).hexdigest()
    if not digest.startswith(sha256):
        raise ValueError(f"{where}: expected the checksum {sha256}, got {digest[: len(sha256)]}. The file has changed.")
    # Indented lines are the body of an if, and empty lines give tracebacks the numbers of the file.
    before = "\n" * (first - 2) + "if True:\n" if lines[:1].isspace() and first > 1 else "\n" * (first - 1)
    try:
        code = compile(before + lines, str(path), "exec")
    except SyntaxError as error:
        raise ValueError(f"{where}: expected whole statements, got {error.msg} in line {error.lineno}") from error

    def run(**arguments: object) -> Any:
        scope = {**(given or {}), **arguments}
        exec(code, scope)  # noqa: S102 - documented
        return scope[result] if isinstance(result, str) else tuple(scope[name] for name in result)

    return run


@dataclass(frozen=True)
class Draws:
    """The random draws of a block."""

    pmfs: list[Tensor] = field(default_factory=list)
    """Probabilities that indices were drawn with, by torch.multinomial and numpy.random.choice."""
    noises: list[Tensor] = field(default_factory=list)
    """Normal noise of torch.randn and torch.randn_like."""


@contextmanager
def exposed_draws(noises: Iterable[Tensor] = ()) -> Iterator[Draws]:
    """Record what the block draws, so that a hidden distribution or hidden noise can be compared.

    With `noises`, torch.randn and torch.randn_like return these tensors in turn instead of drawing. Draws by other
    names, such as Tensor.normal_ or a function imported by `from torch import randn_like`, are not seen. Afterwards the
    random states of torch and NumPy are as before.

    Raises:
        ValueError: The block draws noise of another shape, or more of it, than is given.

    Example: the distribution inside a function that returns indices:

        >>> def timesteps(weights):
        ...     return torch.multinomial(weights, 8, replacement=True)
        >>> with exposed_draws() as draws:
        ...     _ = timesteps(torch.tensor([1.0, 3.0]))
        >>> draws.pmfs[0].tolist()
        [0.25, 0.75]
    """
    recorder = _Recorder(list(noises))
    functions: list[tuple[Any, str]] = [(torch, "randn"), (torch, "randn_like"), (torch, "multinomial")]
    functions.append((np.random, "choice"))
    numpy_state = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        for owner, name in functions:
            setattr(owner, name, getattr(recorder, name))
        try:
            yield recorder.draws
        finally:
            for owner, name in functions:
                setattr(owner, name, recorder.real[name])
            np.random.set_state(numpy_state)


class _Recorder:
    """The functions that exposed_draws puts in the place of torch's and NumPy's."""

    def __init__(self, noises: list[Tensor]) -> None:
        self.draws = Draws()
        self.real: dict[str, Callable[..., Any]] = {
            "randn": torch.randn,
            "randn_like": torch.randn_like,
            "multinomial": torch.multinomial,
            "choice": np.random.choice,
        }
        self._left = noises if noises else None

    def randn(self, *size: Any, **options: Any) -> Tensor:
        shape = size[0] if len(size) == 1 and not isinstance(size[0], int) else size
        return self._normal(options.get("size", shape), lambda: self.real["randn"](*size, **options))

    def randn_like(self, input: Tensor, **options: Any) -> Tensor:  # noqa: A002 - torch's name of the argument
        return self._normal(input.shape, lambda: self.real["randn_like"](input, **options))

    def multinomial(self, input: Tensor, *arguments: Any, **options: Any) -> Any:  # noqa: A002 - also
        self.draws.pmfs.append(input / input.sum(-1, keepdim=True))
        return self.real["multinomial"](input, *arguments, **options)

    def choice(self, a: Any, size: Any = None, replace: bool = True, p: Any = None) -> Any:
        if p is not None:
            self.draws.pmfs.append(torch.as_tensor(np.asarray(p)))
        return self.real["choice"](a, size, replace, p)

    def _normal(self, shape: Sequence[int], drawn: Callable[[], Tensor]) -> Tensor:
        """Return the next given noise, or what is drawn if noise is not given."""
        noise = drawn() if self._left is None else self._given(self._left, list(shape))
        self.draws.noises.append(noise)
        return noise

    def _given(self, left: list[Tensor], shape: list[int]) -> Tensor:
        if not left:
            raise ValueError(f"noises: expected {len(self.draws.noises)} draws, got one more. Give more noise.")
        if list(left[0].shape) != shape:
            raise ValueError(f"noises: expected noise of shape {shape}, got {list(left[0].shape)}")
        return left.pop(0)


def with_constant(distance: Distance) -> Callable[..., Tensor]:
    """Return pseudo_huber(x, y, *, c) of a distance that has the constant c_0 = 0.00054 sqrt(d) inside.

    The distance with another constant follows by its scaling: d_c(x, y) = s d_{c_0}(x / s, y / s) with s = c / c_0.
    This holds for the norm of an example, and also if it is taken per value.
    """

    def pseudo_huber(x: Tensor, y: Tensor, *, c: float) -> Tensor:
        scale = c / formulas.pseudo_huber_constant(x[0].numel())
        return scale * distance(x / scale, y / scale)

    return pseudo_huber
