"""An implementation in any language: a command that returns one JSON object per line.

It reads {"id": 7, "function": "c_in", "args": {"sigma": {"tensor": [0.1, 80.0], "dtype": "float64"}}} and writes {"id":
7, "value": [1.96, 0.0125]}. For arguments that it rejects it writes {"id": 7, "error": "why"}, and for a missing
function {"id": 7, "missing": true}.

Arguments are encoded as in the vectors (see values.py), and only those given are sent. A function among them is
{"callback": name, its numbers}, and a large array {"generated": {"seed": ...}} or {"levels": N}. The command computes
them itself; `data/VECTORS.md` defines them. For a function that returns an operator, "apply": {"forward": tensor} asks
for its value at a tensor; without it any value accepts the arguments.

A value is a number, nested lists, or encoded as in the vectors; several values are {"tuple": [...]}. The command ends
at the end of its input. It writes all other output to its standard error.
"""

import json
import math
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

import torch

from ict_ref.utils.printable import printable
from ict_ref.verify.target.line_process import GRACE, ExternalTargetError, LineProcess, excerpt
from ict_ref.verify.vectors.load import VERSION, Json, functions
from ict_ref.verify.vectors.values import decoded, encoded, number

# Functions that return an operator, of which a command sends the value at a tensor.
OPERATOR_FUNCTIONS = ("inpainting_operator", "colorization_operator", "super_resolution_operator")

# The number of failures after which a command is not started again: for one function, and in a row for all of them.
TRIES_OF_A_FUNCTION = 3
TRIES_IN_A_ROW = 6


class MissingError(Exception):
    """A command does not have a function."""


class RefusedError(ValueError):
    """A command rejected a call, as it should for arguments outside the function's domain."""


@dataclass(frozen=True)
class RemoteOperator:
    """An operator of a command."""

    forward: Callable[[object], object]


class ExternalTarget:
    """A command as an object with functions: `target.c_in(sigma=...)` calls it, within `seconds`.

    Use it as a context: at its end the command and all that it started are killed.
    """

    def __init__(self, command: str, *, seconds: float = 10.0, version: int = VERSION) -> None:
        try:
            self.words = shlex.split(command)
        except ValueError as error:
            raise ExternalTargetError(f"{command!r} is not a command: {error}") from error
        if not self.words:
            raise ExternalTargetError("COMMAND: expected a command, got an empty one. An example is 'node peer.js'.")
        if not 0 < seconds < math.inf:
            raise ExternalTargetError(f"--seconds: expected a number > 0, got {seconds}")
        self.version = version
        self._process = LineProcess(self.words, seconds)
        self._calls = 0
        self._has: set[str] = set()
        self._failures: Counter[str] = Counter()
        self._failures_in_a_row = 0

    @staticmethod
    def functions(version: int = VERSION) -> tuple[str, ...]:
        """Return the functions that a command can compute, which are all of a version."""
        return functions(version)

    def __enter__(self) -> "ExternalTarget":
        try:
            self._process.start()
        except BaseException:
            self._process.stop()
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        # An idle command may end by itself; after an interruption the command may be busy without end.
        self._process.stop(GRACE if _type is None else 0.0)

    def __getattr__(self, name: str) -> Callable[..., object]:
        if name.startswith("_") or name not in self.functions(self.version):
            raise AttributeError(f"expected one of ExternalTarget.functions(), got {name}")

        def call(**arguments: object) -> object:
            if name not in OPERATOR_FUNCTIONS:
                return self._call(name, arguments)
            self._call(name, arguments, is_read=False)
            return RemoteOperator(lambda x: self._call(name, arguments, {"forward": encoded(x)}))

        return call

    def _call(
        self, name: str, arguments: dict[str, object], apply: dict[str, Json] | None = None, *, is_read: bool = True
    ) -> object:
        if self._failures_in_a_row >= TRIES_IN_A_ROW:
            raise ExternalTargetError(f"not called: the command had failed {TRIES_IN_A_ROW} times in a row")
        if self._failures[name] >= TRIES_OF_A_FUNCTION:
            raise ExternalTargetError(f"not called: the command had failed for {name} {TRIES_OF_A_FUNCTION} times")
        try:
            answer = self._answer(name, arguments, apply)
            if answer.get("missing") is True and name in self._has:
                raise ExternalTargetError(f"the command reports {name} as missing, which it had computed before")
            if isinstance(answer.get("error"), str):
                self._succeeded(name)
                raise RefusedError(printable(str(answer["error"])[:1000]))
            if answer.get("missing") is True:
                self._failures_in_a_row = 0
                raise MissingError(f"no function {name}")
            if "value" not in answer:
                raise ExternalTargetError(
                    f"the command sent {excerpt(answer)}, without value, error (a text) or missing"
                )
            value = received(answer["value"]) if is_read else None
        except ExternalTargetError:
            self._failures[name] += 1
            self._failures_in_a_row += 1
            # Later output could belong to an earlier call: start a new process for the next one.
            self._process.stop()
            raise
        self._succeeded(name)
        return value

    def _succeeded(self, name: str) -> None:
        self._has.add(name)
        self._failures_in_a_row = 0

    def _answer(self, name: str, arguments: dict[str, object], apply: dict[str, Json] | None) -> dict[str, Json]:
        """Return the object that the command sends for a call. Raises ExternalTargetError if it does not send one."""
        self._calls += 1
        request = {"id": self._calls, "function": name, "args": {key: encoded(arguments[key]) for key in arguments}}
        request |= {"apply": apply} if apply else {}
        line = self._process.exchange(json.dumps(request, allow_nan=False).encode() + b"\n")
        try:
            answer = json.loads(line.decode())
        except (ValueError, RecursionError) as error:
            raise ExternalTargetError(f"the command sent {excerpt(line)}, which is not JSON") from error
        if not isinstance(answer, dict):
            raise ExternalTargetError(f"the command sent {excerpt(line)}, which is not a JSON object")
        if isinstance(answer.get("id"), bool) or answer.get("id") != self._calls:
            raise ExternalTargetError(
                f"the command sent {excerpt(line)}, whose id is not {self._calls}; write one line for each call"
            )
        return answer


def received(value: Json) -> object:
    """Return the value that a command's JSON encodes. Raises ExternalTargetError if it does not encode one."""
    try:
        return _received(value)
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        # RuntimeError: also raised for lists that are nested too deeply.
        raise ExternalTargetError(
            f"the command sent the value {excerpt(value)}, which is not a number, nested lists of numbers "
            "or an encoding of ict_ref/verify/vectors/values.py"
        ) from error


def _received(value: Json) -> object:
    if isinstance(value, list):
        return torch.tensor(_numbers(value), dtype=_dtype(value))
    if not isinstance(value, dict):
        # JSON has one kind of number: a language with floats alone may write 1e20 as a whole number beyond int64.
        return float(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value
    if value.keys() == {"tuple"} and isinstance(value["tuple"], list):
        return tuple(_received(part) for part in value["tuple"])
    if value.keys() in ({"tensor", "dtype"}, {"float"}):
        return decoded(value)
    raise ValueError("not an encoding of a value")


def _dtype(value: list[Json]) -> torch.dtype:
    """Return the dtype of nested lists: int64 for whole numbers, bool for truth values, else float64."""
    leaves = list(_leaves(value))
    if leaves and all(isinstance(leaf, bool) for leaf in leaves):
        return torch.bool
    if leaves and all(type(leaf) is int and -(2**63) <= leaf < 2**63 for leaf in leaves):
        return torch.int64
    return torch.float64


def _leaves(value: Json) -> Iterator[Json]:
    if isinstance(value, list):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _numbers(value: Json) -> object:
    """Return nested lists with the words for NaN and infinity as numbers."""
    return [_numbers(part) for part in value] if isinstance(value, list) else number(value)
