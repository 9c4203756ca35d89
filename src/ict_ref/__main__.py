"""`python -m ict_ref eq 9` prints the place of Eq. (9); `python -m ict_ref` lists the commands."""

import difflib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ict_ref import __version__
from ict_ref.equations import EQUATIONS, Formula, formulas
from ict_ref.utils.command_line import guarded
from ict_ref.utils.option_parser import Flag, metavar, parse_options

NAME = "ict_ref"
DESCRIPTION = """\
Reference implementation of improved consistency training (iCT), arXiv:2310.14189.

commands:
  python -m ict_ref eq               the function of each equation of the paper, and every other formula
  python -m ict_ref eq 9             Eq. (9) as printed, then its function: file, line, signature, docstring
  python -m ict_ref eq pseudo_huber  the same for a formula by its name
  python -m ict_ref.prepare SOURCE   turn a data set into an array to train on
  python -m ict_ref.plan             predict memory, time and scaling of a training run
  python -m ict_ref.launch           train, sample and score (--help lists its options)
  python -m ict_ref.sample RUN       make samples with a trained model, in one step or in several
  python -m ict_ref.evaluate SAMPLES --reference REFERENCE
                                     FID, KID, inception score, precision and recall, with their protocol
  python -m ict_ref.search RUN       find the noise level of the second step
  python -m ict_ref.edit RUN IMAGE   inpaint, colour, enlarge, denoise, interpolate
  python -m ict_ref.figures          make the paper's figures, and sheets of samples
  python -m ict_ref.experiments      train on data whose solution is known
  python -m ict_ref.import_checkpoint FILE --out FOLDER
                                     read a published network
  python -m ict_ref.export_checkpoint RUN --out FILE
                                     write a run's network to a single file
  python -m ict_ref.verify TARGET    check another implementation against this one
"""


@dataclass(frozen=True)
class EquationOptions:
    """Print an equation's literal form, from ict_ref/paper.py, and the formula that implements it."""

    which: Annotated[str | None, tyro.conf.Positional, metavar("NUMBER|NAME")] = None
    """Number of an equation, 1 to 13, or name of a formula; by default all."""
    json: Flag = False
    """Print JSON."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    return guarded(f"python -m {NAME}", lambda: run(list(sys.argv[1:] if arguments is None else arguments)))


def run(words: list[str]) -> int:
    """Print what the words request, and return the exit status.

    Raises:
        ValueError: The words do not name a command, an equation or a formula.
    """
    command = words[0] if words else "--help"
    if command in ("-h", "--help"):
        print(DESCRIPTION, end="")
    elif command == "--version":
        print(f"ict_ref {__version__}")
    elif command == "eq":
        print_equations(parse_options(EquationOptions, words[1:], f"{NAME} eq"))
    else:
        is_module = f"-m {NAME}.{command} " in DESCRIPTION
        advice = f"perhaps you meant python -m {NAME}.{command}" if is_module else f"see python -m {NAME} --help"
        raise ValueError(f"expected eq, --version or --help, got {command}; {advice}")
    return 0


def print_equations(options: EquationOptions) -> None:
    """Print the list of all formulas, or the pages of the chosen ones.

    Raises:
        ValueError: The choice is not the number of an equation or the name of a formula.
    """
    known = formulas()
    chosen = known if options.which is None else choose(known, options.which)
    if options.json:
        print(json.dumps([formula.as_dict() for formula in chosen], indent=2))
    elif options.which is None:
        print(overview(known))
    else:
        print("\n\n\n".join(map(page, chosen)))


def choose(known: list[Formula], which: str) -> list[Formula]:
    """Return the formulas of an equation's number or of a name.

    Raises:
        ValueError: The number or the name does not exist.
    """
    number = which.strip("()")
    if number.isascii() and number.isdecimal():
        if int(number) not in EQUATIONS:
            raise ValueError(f"NUMBER|NAME: expected an equation from 1 to {EQUATIONS[-1]}, got {number}")
        return [formula for formula in known if int(number) in formula.equations]
    chosen = [formula for formula in known if formula.name == which]
    if not chosen:
        every = [formula.name for formula in known]
        within = [name for name in every if len(which) > 2 and which in name]
        near = ", ".join(within or difflib.get_close_matches(which, every))
        hint = f"perhaps you meant {near}" if near else "`python -m ict_ref eq` lists all"
        raise ValueError(f"NUMBER|NAME: expected an equation or the name of a formula, got {which}; {hint}")
    return chosen


def overview(known: list[Formula]) -> str:
    """Return a line per equation and per formula without a number."""
    width = max(len(formula.name) for formula in known)

    def line(place: str, formula: Formula) -> str:
        return f"{place:8} {formula.name:{width}}  {shown(formula.file)}:{formula.line}"

    numbered = [
        line(f"Eq. ({number})", formula) for number in EQUATIONS for formula in known if number in formula.equations
    ]
    others = [line("", formula) + f"  {formula.source.split('; ')[0]}" for formula in known if not formula.equations]
    return "\n".join(["Numbered equations", "", *numbered, "", "Everything else", "", *others])


def page(formula: Formula) -> str:
    """Return the literal form with its place, if it exists; then the formula's file, line, signature, docstring."""
    docstring = "\n".join(f"    {line}".rstrip() for line in formula.docstring.split("\n"))
    implemented = f"{shown(formula.file)}:{formula.line}\n\n{formula.signature}\n\n{docstring}"
    if formula.paper is None:
        return implemented
    return f"{shown(formula.paper.file)}:{formula.paper.line}\n\n{formula.paper.code}\n\n{implemented}"


def shown(file: Path) -> str:
    """Return the path relative to the current folder, if the file is below it."""
    here = Path.cwd()
    return os.fspath(file.relative_to(here) if file.is_relative_to(here) else file)


if __name__ == "__main__":
    sys.exit(main())
