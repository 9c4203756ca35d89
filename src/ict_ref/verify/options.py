"""Options of the commands of `python -m ict_ref.verify`: check, exec, trace, trace-inputs, audit."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ict_ref.utils.command_line import expect
from ict_ref.utils.nearest import hint
from ict_ref.utils.option_parser import Flag, Several, metavar, options_of
from ict_ref.verify.audit.options import AUDITS, AuditOptions
from ict_ref.verify.report.options import ReportOptions, Text, expect_seed, refuse_device
from ict_ref.verify.vectors.load import VERSION, functions
from ict_ref.verify.vectors.versions import chosen

EPILOG = """
commands (--help after a command lists its options):
  check TARGET           check each function by vectors and laws, and the functions together by a training step;
                         the word check may be left out
  exec COMMAND           check a program in any language, which exchanges JSON
  trace FILE             compare the values of a training step, and name the first that differs
  trace-inputs           print the inputs of that step
  audit step TARGET      check a training step from outside, by the calls that it makes
  audit model TARGET     check a model f(x, sigma) as it is: its coefficients, its boundary condition, its labels
  audit training TARGET  check a training loop: EMA, curriculum, optimizer, learning rate, resume
  audit sampler TARGET   check a sampler that draws its own noise
  audit data TARGET      check training data: range, layout, flips, order, shards, labels
  audit score TARGET     check the code of FID, KID, or precision and recall

TARGET and COMMAND are programs: they are imported or started, and run with your rights.

exit status:
  0  nothing is wrong
  1  something is wrong, a waiver is stale, or with --require-all something is missing
  2  usage error, or TARGET cannot be imported
  3  nothing could be checked

examples:
  python -m ict_ref.verify my_package.my_module
  python -m ict_ref.verify losses.py:Loss.huber --only pseudo_huber
  python -m ict_ref.verify my_package.my_module --json report.json --waivers waivers.toml
  python -m ict_ref.verify my_package.my_module --vectors-version 1
  python -m ict_ref.verify trace-inputs > inputs.json; my_program inputs.json > mine.json
  python -m ict_ref.verify trace mine.json
  python -m ict_ref.verify exec "node peer.js"
  python -m ict_ref.verify audit step my_package.train:step
  python -m ict_ref.verify audit model my_package.networks:build --shape 3,32,32
  python -m ict_ref.verify audit sampler my_package.sampling:sample --shape 3,32,32
  python -m ict_ref.verify audit training my_package.train:make --ema-decay 0.9999
  python -m ict_ref.verify audit data my_package.data:loader --images digits --labels 10
  python -m ict_ref.verify audit score my_package.fid:fid --shape 3,32,32 --pixels=-1,1
"""


@dataclass(frozen=True, kw_only=True)
class VersionOptions:
    """The version of the vectors."""

    vectors_version: Annotated[str, metavar("N")] = str(VERSION)
    """Version of the vectors; 1 is for code with the argument names of version 1; by default the newest."""

    def __post_init__(self) -> None:
        try:
            chosen(self.vectors_version)
        except ValueError as error:
            raise ValueError(f"--vectors-version: {error}") from None

    @property
    def version(self) -> int:
        """Return the version of the vectors."""
        return chosen(self.vectors_version)


@dataclass(frozen=True, kw_only=True)
class FunctionOptions(ReportOptions, VersionOptions):
    """Options of the commands that check functions."""

    only: Annotated[Several[str], metavar("NAME ...")] = ()
    """Functions to check; by default all."""
    values_only: Flag = False
    """Leave out arguments outside the domain: with --strict, check all values and no refusals."""
    require_all: Flag = False
    """Count a missing function as a failure."""

    def __post_init__(self) -> None:
        ReportOptions.__post_init__(self)
        VersionOptions.__post_init__(self)
        known = functions(self.version)
        newest = functions(VERSION)
        later = f", which version {self.version} of the vectors does not have"
        unknown = ", ".join(
            f"{name}{later if name in newest else hint(name, known)}" for name in self.only if name not in known
        )
        expect(not unknown, "--only", "names of ict_ref.formulas", unknown, "`python -m ict_ref eq` lists them.")


def _expect_seconds(seconds: float) -> None:
    expect(0 < seconds < math.inf, "--seconds", "a number > 0", seconds)


@dataclass(frozen=True, kw_only=True)
class CheckOptions(FunctionOptions):
    """Check an implementation of consistency training against the reference.

    TARGET is package.module, package.module:attribute or path/to/file.py[:attribute]: any module or object with some of
    the names of ict_ref.formulas (python -m ict_ref eq lists them). Each function is called by parameter name with
    float64 arrays on the CPU, Python ints and floats; it may return anything that torch.as_tensor or numpy.asarray
    accepts. Missing functions are listed and do not count as failures.

    Wrong values fail. Types, side effects, values that are right to float32 only, and arguments outside the domain that
    are accepted are notes; with --strict they fail too.

    A function is checked by vectors, whose values come from 50-digit arithmetic, and by laws. Laws run on examples from
    Hypothesis (pip install hypothesis), always the same ones unless --seed is given. The trace of one training step
    checks all functions together and names the first value that differs.
    """

    target: Annotated[Text, tyro.conf.arg(metavar="TARGET")]
    """Implementation to check."""
    arrays: Literal["auto", "numpy", "torch"] = "auto"
    """Array type of the arguments; auto recognises that of each function."""
    dtype: Literal["float64", "float32", "bfloat16"] = "float64"
    """Type of the floating-point arguments, whose tolerances apply."""
    device: str = "cpu"
    """Device of the tensors, such as cuda."""
    seconds: Annotated[float, metavar("S")] = 10.0
    """Time limit of a call in seconds; a call into compiled code is interrupted when it returns."""
    seed: Annotated[int, metavar("N")] = 0
    """Try other examples for the laws."""
    thorough: Flag = False
    """Try each law on 1 000 examples instead of 50."""

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_seed(self.seed)
        _expect_seconds(self.seconds)
        refuse_device(self.device)
        on_numpy = self.arrays == "numpy" and (self.dtype == "bfloat16" or self.device != "cpu")
        expect(not on_numpy, "--arrays", "torch for bfloat16 or a device", self.arrays, "NumPy has neither.")

    @property
    def examples(self) -> int:
        """Return the number of examples for each law."""
        from ict_ref.verify.checks import run_laws

        return run_laws.THOROUGH_EXAMPLES if self.thorough else run_laws.EXAMPLES


@dataclass(frozen=True, kw_only=True)
class ExecOptions(FunctionOptions):
    """Check a program in any language, which exchanges one JSON object per line.

    COMMAND is started without a shell. For each line {"id": 7, "function": "c_in", "args": {...}} it writes a line
    {"id": 7, "value": ...}, "error" or "missing". ict_ref/verify/data/VECTORS.md describes the format;
    tests/verify/implementations has an example in JavaScript. Laws are not tried.
    """

    command: Annotated[Text, tyro.conf.arg(metavar="COMMAND")]
    """Command to start."""
    seconds: Annotated[float, metavar("S")] = 10.0
    """Time limit of a call in seconds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect_seconds(self.seconds)


@dataclass(frozen=True, kw_only=True)
class TraceOptions(ReportOptions, VersionOptions):
    """Compare the values of a training step, and name the first that differs.

    FILE is a JSON object of names and nested lists. python -m ict_ref.verify trace-inputs prints the inputs of the step
    and the meaning of each value.
    """

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """Values in JSON."""
    rtol: Annotated[float | None, metavar("R")] = None
    """Relative tolerance, for float32 about 1e-4; by default that of each value."""

    def __post_init__(self) -> None:
        ReportOptions.__post_init__(self)
        VersionOptions.__post_init__(self)
        expect(self.rtol is None or 0 < self.rtol < 1, "--rtol", "a number between 0 and 1", self.rtol)


@dataclass(frozen=True, kw_only=True)
class TraceInputsOptions(VersionOptions):
    """Print the inputs of the traced training step, and the names and meanings of its values, as JSON."""


Options = CheckOptions | ExecOptions | TraceOptions | TraceInputsOptions | AuditOptions
COMMANDS: Mapping[str, type[Options]] = {
    "check": CheckOptions,
    "exec": ExecOptions,
    "trace": TraceOptions,
    "trace-inputs": TraceInputsOptions,
    **{f"audit {kind}": options for kind, options in AUDITS.items()},
}


OLD_COMMANDS = ("--exec", "--trace", "--trace-inputs", "--audit")
"""Commands of version 0.1 that were options."""
# Options of check that the other commands of version 0.1 took without effect, and their numbers of values.
WITHOUT_EFFECT = {"--arrays": 1, "--seed": 1, "--seconds": 1, "--values-only": 0, "--thorough": 0, "--require-all": 0}


def with_command(words: Sequence[str]) -> list[str]:
    """Return the words of a command line with the command first, as one word.

    An option of version 0.1 that stood for a command (--audit step, --exec COMMAND, --trace FILE, --trace-inputs) is
    replaced by that command, and options that had no effect on it are left out. The command is check if the words do
    not name one.
    """
    for count in (2, 1):
        if (command := " ".join(words[:count])) in COMMANDS:
            return [command, *words[count:]]
    if words[:1] == ["audit"]:
        kind = words[1] if len(words) > 1 else "nothing"
        expect(kind in ("-h", "--help"), "audit", f"one of {', '.join(AUDITS)}", f"{kind}{hint(kind, AUDITS)}")
        return ["check", "--help"]
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option in OLD_COMMANDS:
            count = 0 if equals or option == "--trace-inputs" else 1
            values = [value] if equals else list(words[place + 1 : place + 1 + count])
            command, *values = with_command([option.removeprefix("--"), *values])
            others = [*words[:place], *words[place + 1 + count :]]
            return [command, *values, *_with_effect(others, COMMANDS[command])]
    return ["check", *words]


def _with_effect(words: Sequence[str], kind: type[Options]) -> Iterator[str]:
    """Yield the words without those options in WITHOUT_EFFECT that a command does not have."""
    known = {option.name for option in options_of(kind)}
    values = 0
    for word in words:
        name, equals, _ = word.partition("=")
        if values:
            values -= 1
        elif name in WITHOUT_EFFECT and name not in known:
            values = 0 if equals else WITHOUT_EFFECT[name]
        else:
            yield word
