"""A command's options as the fields of a dataclass: what tyro makes of them, its complaints in one line."""

import contextlib
import dataclasses
import difflib
import io
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import tyro

T = TypeVar("T")


def parsed(default: T, arguments: Sequence[str], program: str, epilog: str = "") -> T:
    """Return what the arguments make of the default. Raises ValueError with one line, or exits 0 after --help.

    `epilog` stands at the end of the help.
    """
    kind = type(default)
    if "--help" in arguments or "-h" in arguments:
        try:
            return tyro.cli(kind, prog=program, default=default, args=arguments)
        finally:
            print(epilog, end="")
    _refuse_unknown(arguments, list(_names(default)), program)
    # What is left for tyro to refuse are values, and it draws the message in a box.
    box = io.StringIO()
    with contextlib.redirect_stderr(box):
        try:
            return tyro.cli(kind, prog=program, default=default, args=arguments)
        except SystemExit:
            raise ValueError(_one_line(box.getvalue(), program)) from None


def _names(default: Any, group: str = "") -> Iterator[str]:
    """Yield every option that the dataclass may have."""
    for field in dataclasses.fields(default):
        name, value = field.name.replace("_", "-"), getattr(default, field.name)
        if dataclasses.is_dataclass(value):
            # A group may be spread out among the others, without a name of its own.
            yield from _names(value, f"{group}{name}.")
            yield from _names(value, group)
        else:
            yield f"--{group}{name}"
            if isinstance(value, bool):
                yield f"--{group}no-{name}"


def _refuse_unknown(arguments: Sequence[str], known: Sequence[str], program: str) -> None:
    for argument in arguments:
        option = argument.split("=")[0].replace("_", "-")
        if option.startswith("--") and option not in known:
            near = difflib.get_close_matches(option, known, n=1, cutoff=0.5)
            hint = f"perhaps you meant {near[0]}" if near else f"see {program} --help"
            raise ValueError(f"unknown option {option}; {hint}")


def _one_line(box: str, program: str) -> str:
    """Return the message in one of tyro's boxes as one line."""
    rows = [row.strip("│ ") for row in box.splitlines() if row.startswith("│")]
    rule = next((number for number, row in enumerate(rows) if set(row) == {"─"}), len(rows))
    message = " ".join(rows[:rule]) or " ".join(box.split())
    if " needs " in message or ": expected " in message:  # our own, from a dataclass
        return message.split(": ", maxsplit=1)[-1]
    return f"{message}; see {program} --help"
