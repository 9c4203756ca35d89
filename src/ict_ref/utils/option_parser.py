"""Command lines as dataclasses: fields are options, their types say what is accepted, their docstrings are the help.

Fields are declared as tyro reads them, and tyro writes the help. The words are read here, because tyro reports an error
only as a drawn box and then exits, and because a default may depend on an option (a preset, a profile).
"""

import contextlib
import dataclasses
import difflib
import inspect
import os
import shutil
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro

T = TypeVar("T")
Given = Mapping[tuple[str, ...], Any]
"""The values on a command line, by the path of their field."""
NOT_EMPTY = "not empty"
Several = Annotated[tuple[T, ...], NOT_EMPTY]
"""One or more values."""
# tyro's layout does not end in a narrower terminal.
LEAST_COLUMNS = 40


@dataclass(frozen=True)
class Option:
    """An option or a positional argument."""

    field: tuple[str, ...]
    name: str
    kind: Any
    """Type of one value."""
    least: int
    most: int | None
    """Number of values; None: without limit."""
    several: bool = False
    """Whether the value is a tuple."""
    positional: bool = False
    required: bool = False
    may_be_none: bool = False

    @property
    def expected(self) -> str:
        """Return what is accepted, in words."""
        if choices := get_args(self.kind):
            return f"one of {', '.join(choices)}"
        word = {int: "integer", float: "number", Path: "path"}.get(self.kind, "value")
        if self.several:
            return f"{word}s" if self.most is None else f"{self.most} {word}s"
        return f"an {word}" if word == "integer" else f"a {word}"

    def converted(self, word: str) -> Any:
        """Return the value of a word. Raises ValueError for a word of another type."""
        if word == "None" and self.may_be_none:
            return None
        choices = get_args(self.kind)
        try:
            return choices[choices.index(word)] if choices else self.kind(word)
        except ValueError:
            raise ValueError(f"{self.name}: expected {self.expected}, got {word}{_hint(word, choices)}") from None

    def value(self, words: Sequence[str]) -> Any:
        """Return the value of these words. Raises ValueError for too few, or for one of another type."""
        if len(words) < self.least:
            raise ValueError(f"{self.name}: expected {self.expected}, got {' '.join(words) or 'nothing'}")
        values = tuple(self.converted(word) for word in words)
        return values if self.several and values != (None,) else values[0]


def parse_options(
    kind: type[T],
    arguments: Sequence[str] | None,
    name: str,
    epilog: str = "",
    *,
    default: Callable[[Given], T] | None = None,
) -> T:
    """Return the options on the command line, by default that of this process; print the help and exit 0 if asked to.

    `name` is the command's, as in `python -m NAME`; the epilog ends its help. `default` returns the options to which
    the given ones are applied; without it `kind` may not have groups. Raises ValueError with one line for words that
    are not options or their values, and whatever the dataclass raises.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    program, options = f"python -m {name}", list(_options(kind))
    try:
        given = _read(words, options)
    except _HelpRequestedError as request:
        _print_help(kind, program, epilog, None if default is None else default(request.given))
        raise SystemExit(0) from None
    except ValueError as error:
        raise ValueError(f"{error}; see {program} --help") from None
    if default is None:
        return kind(**{path[0]: value for path, value in given.items()})
    replaced: T = _replaced(default(given), given)
    return replaced


def expect(holds: bool, option: str, expected: str, got: object) -> None:
    """Raise ValueError for a value of an option that is not what is expected."""
    if not holds:
        raise ValueError(f"{option}: expected {expected}, got {got}")


class _HelpRequestedError(Exception):
    def __init__(self, given: Given) -> None:
        self.given = given


def _options(kind: Any, path: tuple[str, ...] = (), prefix: str = "") -> Iterator[Option]:
    """Yield the options of a dataclass, and those of its groups."""
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        extras: tuple[Any, ...] = ()
        hint, here = hints[field.name], (*path, field.name)
        while get_origin(hint) is Annotated:
            hint, extras = hint.__origin__, extras + hint.__metadata__
        named: Any = next((extra for extra in extras if hasattr(extra, "aliases")), tyro.conf.arg())
        name = field.name.replace("_", "-") if named.name is None else named.name
        if dataclasses.is_dataclass(hint):
            yield from _options(hint, here, f"{prefix}{name}." if name else prefix)
            continue
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        optional = get_origin(hint) in (Union, types.UnionType)
        if optional:
            hint = next(one for one in get_args(hint) if one is not types.NoneType)
        positional = tyro.conf.Positional in extras
        if hint is bool:
            pair = tyro.conf.FlagCreatePairsOff not in extras
            for value in (True, False) if pair else (field.default is False,):
                yield Option(here, f"--{prefix}{'' if value else 'no-'}{name}", value, 0, 0)
            continue
        several = get_origin(hint) is tuple
        inner = get_args(hint) if several else (hint,)
        endless = several and inner[-1] is Ellipsis
        most = None if endless else len(inner)
        least = most if most is not None else int(NOT_EMPTY in extras)
        number = inner[0] in (int, float)  # None is a word like any other for the rest
        shown = (named.metavar or name.upper()) if positional else f"--{prefix}{name}"
        option = Option(here, shown, inner[0], least, most, several, positional, required, optional and number)
        yield option
        for alias in named.aliases or ():
            yield dataclasses.replace(option, name=alias, required=False)


def _read(words: Sequence[str], options: Sequence[Option]) -> Given:
    """Return the values of the words. Raises ValueError for words that are not options or their values."""
    named = {option.name: option for option in options if not option.positional}
    given: dict[tuple[str, ...], Any] = {}
    left, bare = deque(words), list[str]()
    while left:
        word = left.popleft()
        if word == "--":
            bare += left
            break
        if not _is_option(word):
            bare.append(word)
            continue
        if word in ("-h", "--help"):
            raise _HelpRequestedError(given)
        name, equals, value = word.partition("=")
        name = name.replace("_", "-")
        if name not in named:
            raise ValueError(f"unknown option {name}{_hint(name, named)}")
        option = named[name]
        if option.most == 0:
            if equals:
                raise ValueError(f"{name}: expected no value, got {value}")
            given[option.field] = option.kind
            continue
        values = [value] if equals else []
        while left and (option.most is None or len(values) < option.most) and not _is_option(left[0]):
            if equals and not _takes(option, left[0]):
                break  # --labels=3 RUN
            values.append(left.popleft())
        given[option.field] = option.value(values)
    for option in options:
        if option.positional and bare:
            count = len(bare) if option.most is None else option.most
            given[option.field] = option.value(bare[:count])
            del bare[:count]
        if option.required and option.field not in given:
            raise ValueError(f"{option.name}: expected {option.expected}, got nothing")
    if bare:
        raise ValueError(f"unexpected argument {bare[0]}")
    return given


def _hint(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; perhaps you meant {near[0]}" if near else ""


def _is_option(word: str) -> bool:
    """Return whether the word looks like an option; a negative number does not."""
    if not word.startswith("-") or word == "-":
        return False
    try:
        float(word)
    except ValueError:
        return True
    return False


def _takes(option: Option, word: str) -> bool:
    try:
        option.converted(word)
    except ValueError:
        return False
    return True


def _replaced(default: Any, given: Given) -> Any:
    """Return the dataclass with the given values in its fields and in those of its groups."""
    changes: dict[str, Any] = {}
    for name in {path[0] for path in given}:
        inner = {path[1:]: value for path, value in given.items() if path[0] == name}
        changes[name] = inner[()] if () in inner else _replaced(getattr(default, name), inner)
    return dataclasses.replace(default, **changes)


def _print_help(kind: Any, program: str, epilog: str, default: Any) -> None:
    """Print the docstring of the dataclass, what tyro says of its fields, and the epilog."""
    print(inspect.getdoc(kind), end="\n\n")
    if shutil.get_terminal_size().columns < LEAST_COLUMNS:
        os.environ["COLUMNS"] = str(LEAST_COLUMNS)
    with contextlib.suppress(SystemExit):
        tyro.cli(
            kind,
            prog=program,
            description="",
            default=tyro.MISSING_NONPROP if default is None else default,
            args=["--help"],
        )
    print(epilog, end="")
