"""Command lines as dataclasses: fields are options, types define the accepted values, docstrings are the help.

Fields are declared for tyro, and tyro writes the help. This module parses the command line instead of tyro for two
reasons: tyro prints errors as a box and exits, and a default may depend on an option (a preset or a profile).
"""

import contextlib
import dataclasses
import inspect
import os
import shutil
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro

from ict_ref.utils.environment import refuse_bad_threads
from ict_ref.utils.nearest import hint

T = TypeVar("T")
Given = Mapping[tuple[str, ...], Any]
"""The values on a command line, by the path of their field."""
NOT_EMPTY = "not empty"
Several = Annotated[tuple[T, ...], NOT_EMPTY]
"""One or more values."""
Flag = tyro.conf.FlagCreatePairsOff[bool]
"""A flag without an opposite: --x where the default is False, --no-x where it is True."""
UNIONS = (Union, types.UnionType)
LONGEST_NUMBER = 64
"""Characters of the longest number: the largest seed has 39."""
BOOLEANS = {"True": True, "False": False, "true": True, "false": False}
WORDS_OF_MAIN = ("eq", "completion")
LEAST_COLUMNS = 40
WORDS = {int: "an integer", float: "a number", Path: "a path"}


@dataclass(frozen=True)
class Option:
    """An option or a positional argument."""

    path: tuple[str, ...]
    name: str
    kind: Any
    """Type of one value; for a flag, its value."""
    words: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Values of words that are not of this type, such as None or auto."""
    least: int = 0
    most: int = 0
    """Largest number of values; `least` is the smallest."""
    several: bool = False
    """Whether the value is a tuple."""
    positional: bool = False
    required: bool = False

    @property
    def is_flag(self) -> bool:
        """Return whether the option may stand without a value."""
        return isinstance(self.kind, bool)

    def value(self, words: Sequence[str]) -> Any:
        """Return the value of these words.

        Raises:
            ValueError: There are too few words, or one has another type.
        """
        if self.is_flag and not words:
            return self.kind
        if len(words) < self.least:
            raise ValueError(self.expected(" ".join(words) or "nothing") + self._apart(" ".join(words)))
        values = tuple(self.converted(word) for word in words)
        return values if self.several and values != (None,) else values[0]

    def converted(self, word: str) -> Any:
        """Return the value of a word.

        Raises:
            ValueError: The word has another type or is not one of the choices.
        """
        if word in self.words:
            return self.words[word]
        if self.kind in (int, float) and not is_plain_number(word):
            raise ValueError(self.expected(word))
        if self.is_flag:
            raise ValueError(self.expected(word) + hint(word, self.words))
        choices = get_args(self.kind)
        if self.kind is Path and not word:  # Path("") is the working directory
            raise ValueError(self.expected("an empty one"))
        if self.kind in (Path, str):
            word = _with_home(word, self.name)
        try:
            return choices[choices.index(word)] if choices else self.kind(word)
        except ValueError:
            end = self._apart(word) or hint(word, (*choices, *self.words))
            raise ValueError(self.expected(word) + end) from None

    def _apart(self, word: str) -> str:
        """Return the end of a message about values with commas between them, such as 80,0.821; "" for another word."""
        parts = word.replace(",", " ").split()
        if not self.several or len(parts) < 2 or not all(_takes(self, part) for part in parts):
            return ""
        return f". Separate values by spaces: {self.name} {' '.join(parts)}"

    def expected(self, got: str) -> str:
        """Return the message that states the expected value and what was given."""
        choices = get_args(self.kind) or (tuple(self.words) if self.is_flag else ())
        what = f"one of {', '.join(choices)}" if choices else WORDS.get(self.kind, "a value")
        if self.several and not choices:
            what = f"{self.most if self.least > 1 else ''} {what.split()[1]}s".strip()
        if "auto" in self.words and not choices:
            what += " or auto"
        return f"{self.name}: expected {what}, got {got}"


def is_plain_number(word: str) -> bool:
    """Return whether a word is written as numbers are in a file: ASCII without spaces and underscores, not too long.

    Python's int and float take more, such as digits of other scripts.

    >>> is_plain_number("-1.5e3"), is_plain_number("1_000"), is_plain_number(" 1"), is_plain_number("9" * 100)
    (True, False, False, False)
    """
    return word.isascii() and "_" not in word and word == word.strip() and len(word) <= LONGEST_NUMBER


def parse_options(
    kind: type[T],
    arguments: Sequence[str] | None,
    name: str,
    epilog: str = "",
    *,
    default: Callable[[Given], T] | None = None,
    groups: Callable[[Given], Mapping[str, Any]] | None = None,
) -> T:
    """Return the options in `arguments` (by default `sys.argv`), or print the help and exit 0 for --help.

    `name` is the command's module; `epilog` is the end of its help. `default` returns the options to which the given
    ones are applied. Without it, `groups` returns the values of the groups of `kind`.

    Raises:
        ValueError: A word is not an option or not an allowed value, or the dataclass rejects its fields.
    """
    given, wants_help = given_options(kind, sys.argv[1:] if arguments is None else arguments, name)
    if wants_help:
        print(inspect.getdoc(kind), end="\n\n")
        base = tyro.MISSING_NONPROP if default is None else default(given)
        with contextlib.suppress(SystemExit), _wide_enough():
            tyro.cli(kind, prog=program(name), description="", default=base, args=["--help"])
        print(epilog, end="")
        raise SystemExit(0)
    refuse_bad_threads()
    if default is None:
        plain = {path[0]: value for path, value in given.items() if len(path) == 1}
        return kind(**plain, **({} if groups is None else groups(given)))
    replaced: T = _replaced(default(given), given)
    return replaced


def given_options(kind: type[Any], arguments: Sequence[str], name: str) -> tuple[Given, bool]:
    """Return the values in `arguments` for the fields of a dataclass, and whether --help is among them.

    If an option is given twice, its last value counts.

    Raises:
        ValueError: A word is not an option or not an allowed value.
    """
    try:
        return _read(arguments, list(options_of(kind)))
    except ValueError as error:
        raise ValueError(f"{error}; see {program(name)} --help") from None


def program(name: str) -> str:
    """Return how the user types a command: "ict-ref launch" in the installed program, else "python -m ict_ref.launch".

    >>> program("ict_ref.launch").endswith("launch")
    True
    """
    package, _, command = name.partition(".")
    if Path(sys.argv[0]).name == "ict-ref":
        return f"ict-ref {command}".rstrip()
    # These commands have no module of their own, so they follow the name of the package.
    return f"python -m {name}" if command not in WORDS_OF_MAIN else f"python -m {package} {command}"


def _with_home(word: str, option: str) -> str:
    """Return a path with its ~ replaced, which a shell does not do after an equals sign.

    Raises:
        ValueError: The home folder is not known.
    """
    if word != "~" and not (word.startswith("~") and "/" in word):
        return word
    full = os.path.expanduser(word)  # noqa: PTH111 (a user may be unknown)
    if full == word and word[:2] in ("~", "~/"):
        raise ValueError(f"{option}: expected a path, got {word}, whose home folder is not known. Write the full path.")
    return full


@contextlib.contextmanager
def _wide_enough() -> Iterator[None]:
    """Let the help be at least LEAST_COLUMNS wide while the block runs: in a few columns its layout does not end."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(max(shutil.get_terminal_size().columns, LEAST_COLUMNS))
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def metavar(name: str) -> Any:
    """Return an annotation that names the value in the help, for options whose docstring states the default."""
    return tyro.conf.arg(metavar=name, help_behavior_hint="")


Model = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN|FILE")]
"""Positional argument for a trained model: a run folder, a checkpoint or a network file."""
Step = Annotated[int | None, metavar("N")]
"""Option for the step of a run's checkpoint."""
Decay = Annotated[float | None, metavar("DECAY")]
"""Option for the decay of EMA weights."""
Width = Annotated[float | None, metavar("WIDTH")]
"""Option for the relative width of EMA weights that are reconstructed."""
NetworkName = Annotated[str | None, metavar("MODULE:CALLABLE")]
"""Option for the function that builds a network of the user's own."""


def options_of(kind: Any, path: tuple[str, ...] = (), prefix: str = "") -> Iterator[Option]:
    """Yield the options of a dataclass and of its groups."""
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint, extras = _unwrapped(hints[field.name])
        here = (*path, field.name)
        named: Any = next((extra for extra in extras if hasattr(extra, "aliases")), tyro.conf.arg())
        name = field.name.replace("_", "-") if named.name is None else named.name
        if dataclasses.is_dataclass(hint):
            yield from options_of(hint, here, f"{prefix}{name}." if name else prefix)
        elif hint is bool or bool in get_args(hint):
            values = (True, False) if tyro.conf.FlagCreatePairsOff not in extras else (not field.default,)
            flags = list(_flags(hint, here, f"{prefix}{name}", values))
            yield from flags
            yield from (dataclasses.replace(flags[0], name=alias) for alias in named.aliases or ())
        else:
            option = _with_value(hint, here, NOT_EMPTY in extras)
            option = dataclasses.replace(option, required=_is_required(field))
            if tyro.conf.Positional in extras:
                yield dataclasses.replace(option, name=named.metavar or name.upper(), positional=True)
            else:
                names = (f"--{prefix}{name}", *(named.aliases or ()))
                yield from (dataclasses.replace(option, name=each) for each in names)


def _flags(hint: Any, path: tuple[str, ...], name: str, values: Iterable[bool]) -> Iterator[Option]:
    """Yield the flags of a field, --name for True and --no-name for False; --name may take a value beside bool."""
    group, dot, last = name.rpartition(".")
    for value in values:
        words = _words(hint) | BOOLEANS if value and hint is not bool else {}
        yield Option(path, f"--{group}{dot}{'' if value else 'no-'}{last}", value, words, most=int(bool(words)))


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _unwrapped(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the type in an `Annotated` type, and all its annotations."""
    extras: tuple[Any, ...] = ()
    while get_origin(hint) is Annotated:
        hint, extras = hint.__origin__, extras + hint.__metadata__
    return hint, extras


def _with_value(hint: Any, path: tuple[str, ...], not_empty: bool) -> Option:
    """Return an option without a name, which takes the values of a type."""
    words = _words(hint)
    if get_origin(hint) in UNIONS:
        kinds = [one for one in get_args(hint) if one is not types.NoneType]
        hint = next((one for one in kinds if get_origin(one) is not Literal), kinds[0])
    several = get_origin(hint) is tuple
    inner = get_args(hint) if several else (hint,)
    least, most = (int(not_empty), sys.maxsize) if inner[-1] is ... else (len(inner), len(inner))
    if inner[0] not in WORDS or inner[0] is Path:
        words.pop("None", None)  # a file may be called None
    return Option(path, "", inner[0], words, least, most, several=several)


def _words(hint: Any) -> dict[str, Any]:
    """Return the words in a union of types: those of a Literal beside another type, and None."""
    inner = get_args(hint) if get_origin(hint) in UNIONS else ()
    literal = {word: word for one in inner if get_origin(one) is Literal for word in get_args(one)}
    return literal | ({"None": None} if types.NoneType in inner else {})


def _read(words: Iterable[str], options: Sequence[Option]) -> tuple[Given, bool]:
    """Return the values by field path, and whether --help ends the words.

    Raises:
        ValueError: A word is not an option or not one of its values.
    """
    named = {option.name: option for option in options if not option.positional}
    given: dict[tuple[str, ...], Any] = {}
    left, bare = deque(words), list[str]()
    while left:
        word = left.popleft()
        if word in ("-h", "--help"):
            return given, True
        if word == "--":
            bare += left
            break
        if _is_option(word):
            option, values = _option_and_values(word, left, named)
            given[option.path] = option.value(values)
        else:
            bare.append(word)
    _add_positionals(given, bare, options)
    return given, False


def _option_and_values(word: str, left: deque[str], named: Mapping[str, Option]) -> tuple[Option, list[str]]:
    """Return an option and its values, which are taken from the words that are left.

    Raises:
        ValueError: The option does not exist, or a flag has a value.
    """
    name, equals, value = word.partition("=")
    name = name.replace("_", "-")
    if name not in named:
        raise ValueError(f"unknown option {name}{hint(name, named)}")
    option, values = named[name], [value] if equals else []
    if len(values) > option.most:
        raise ValueError(f"{name}: expected no value, got {value}")
    while left and len(values) < option.most and not _is_option(left[0]):
        if (equals or option.is_flag) and not _takes(option, left[0]):
            break  # --labels=3 RUN
        values.append(left.popleft())
    return option, values


def _add_positionals(given: dict[tuple[str, ...], Any], bare: list[str], options: Sequence[Option]) -> None:
    """Give the words without an option to the positional arguments, in their order.

    Raises:
        ValueError: A required value is missing, or a word is left over.
    """
    for option in options:
        if option.positional and bare:
            count = min(option.most, len(bare))
            given[option.path] = option.value(bare[:count])
            del bare[:count]
        if option.required and option.path not in given:
            raise ValueError(option.expected("nothing"))
    if bare:
        raise ValueError(f"unexpected argument {bare[0]}")


def _is_option(word: str) -> bool:
    """Return whether the word starts with a dash and is neither "-" nor a negative number."""
    return word.startswith("-") and word != "-" and not _takes(Option((), "", float), word)


def _takes(option: Option, word: str) -> bool:
    try:
        option.converted(word)
    except ValueError:
        return False
    return True


def _replaced(default: Any, given: Given) -> Any:
    """Return a copy of the dataclass with the given values in its fields and groups."""
    changes: dict[str, Any] = {}
    for name in {path[0] for path in given}:
        inner = {path[1:]: value for path, value in given.items() if path[0] == name}
        changes[name] = inner[()] if () in inner else _replaced(getattr(default, name), inner)
    return dataclasses.replace(default, **changes)
