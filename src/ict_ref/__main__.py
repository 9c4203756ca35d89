"""`python -m ict_ref eq 9` prints the place of Eq. (9); `python -m ict_ref` lists the commands."""

import argparse
import difflib
import json
import os
import signal
import sys
from pathlib import Path

from ict_ref import __version__
from ict_ref.equations import EQUATIONS, Formula, formulas

DESCRIPTION = """\
Reference implementation of improved consistency training (iCT), arXiv:2310.14189.

commands:
  python -m ict_ref eq               the function of each equation of the paper, and every other formula
  python -m ict_ref eq 9             Eq. (9) as printed, then its function: file, line, signature, docstring
  python -m ict_ref eq pseudo_huber  the same for a formula by its name
  python -m ict_ref.prepare SOURCE   turn a data set into an array to train on
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


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m ict_ref", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"ict_ref {__version__}")
    commands = parser.add_subparsers(dest="command", title="command", metavar="eq", prog="python -m ict_ref")
    eq = commands.add_parser(
        "eq",
        help="print the function of an equation",
        description="Print an equation's literal form, from ict_ref/paper.py, and the formula that implements it.",
    )
    eq.add_argument(
        "which", nargs="?", help="the number of an equation, 1 to 13, or the name of a formula; default: all"
    )
    eq.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    known = formulas()
    try:
        chosen = known if options.which is None else choose(known, options.which)
    except LookupError as error:
        print(f"python -m ict_ref eq: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps([formula.as_dict() for formula in chosen], indent=2))
    elif options.which is None:
        print(overview(known))
    else:
        print("\n\n\n".join(map(page, chosen)))
    return 0


def choose(known: list[Formula], which: str) -> list[Formula]:
    """Return the formulas of an equation's number or of a name. Raises LookupError with the remedy."""
    number = which.strip("()")
    if number.isascii() and number.isdecimal():
        if int(number) not in EQUATIONS:
            raise LookupError(f"the paper numbers its equations from 1 to {EQUATIONS[-1]}; got {number}")
        return [formula for formula in known if int(number) in formula.equations]
    chosen = [formula for formula in known if formula.name == which]
    if not chosen:
        every = [formula.name for formula in known]
        within = [name for name in every if len(which) > 2 and which in name]
        near = ", ".join(within or difflib.get_close_matches(which, every))
        hint = f"did you mean {near}" if near else "`python -m ict_ref eq` lists all"
        raise LookupError(f"needs the number of an equation or the name of a formula; got {which!r}; {hint}")
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
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` closes the pipe early, which is not an error
    sys.exit(main())
