"""All commands under one name: `ict-ref launch ...` is `python -m ict_ref.launch ...`, and `ict-ref` lists them."""

import difflib
import importlib
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ict_ref.equations import BOOKS, EQUATIONS, Formula, formulas
from ict_ref.utils.command_line import guarded, leave
from ict_ref.utils.completion import script
from ict_ref.utils.option_parser import Flag, metavar, options_of, parse_options, program
from ict_ref.utils.version import __version__

NAME, WHICH = "ict_ref", "NUMBER|PAPER:NUMBER|NAME"


@dataclass(frozen=True)
class Command:
    """A command that has a module of its own."""

    name: str
    arguments: str
    """The arguments that most uses need."""
    purpose: str
    options: str
    """Module and name of the class of its options."""

    def run(self, arguments: Sequence[str]) -> int:
        """Run the command and return its exit status."""
        package = f"{NAME}.{self.name}"
        is_package = hasattr(importlib.import_module(package), "__path__")
        status: int = importlib.import_module(f"{package}.__main__" if is_package else package).main(arguments)
        return status

    def words(self) -> list[str]:
        """Return the options of the command, for completion."""
        module, _, kind = self.options.partition(":")
        options = options_of(getattr(importlib.import_module(f"{NAME}.{module}"), kind))
        return [option.name for option in options if not option.positional]


COMMANDS = (
    Command("prepare", "SOURCE", "turn a data set into an array to train on", "prepare.options:PrepareOptions"),
    Command("plan", "", "predict memory, time and scaling of a training run", "plan.options:PlanOptions"),
    Command("launch", "", "train, sample and score; --slurm submits it as a job", "launch.options:Launch"),
    Command("sample", "RUN", "make samples in one step or in several", "sample.options:Sampling"),
    Command(
        "evaluate",
        "SAMPLES --reference REFERENCE",
        "FID, KID, inception score, precision and recall, with their protocol",
        "evaluate.options:EvaluateOptions",
    ),
    Command("search", "RUN", "find the noise level of the second step", "search.options:SearchOptions"),
    Command("edit", "RUN IMAGE", "inpaint, colour, enlarge, denoise, interpolate", "edit.options:Options"),
    Command("figures", "", "make the paper's figures, and sheets of samples", "figures.options:FigureOptions"),
    Command("experiments", "", "train on data whose solution is known", "experiments.options:ExperimentOptions"),
    Command("import_checkpoint", "FILE --out FOLDER", "read a published network", "import_checkpoint:Options"),
    Command(
        "training.import_lpips",
        "FILE ... --out FILE",
        "make the file of the distance LPIPS from its published weights",
        "training.import_lpips:Options",
    ),
    Command(
        "export_checkpoint", "RUN --out FILE", "write a run's network to a single file", "export_checkpoint:Options"
    ),
    Command("verify", "TARGET", "check another implementation against this one", "verify.options:CheckOptions"),
)
OWN = {
    "eq": "the function of each equation of the paper, and every other formula",
    "eq 9": "Eq. (9) as printed, then its function: file, line, signature, docstring",
    "eq ect:18": "the same for an equation of a successor of iCT: ect, scm or tcm",
    "eq pseudo_huber": "the same for a formula by its name",
    "completion bash": "a script that completes commands and options in bash, zsh or fish",
}


@dataclass(frozen=True)
class EquationOptions:
    """Print an equation's literal form, from ict_ref/paper.py or papers/, and the formula that implements it."""

    which: Annotated[str | None, tyro.conf.Positional, metavar(WHICH)] = None
    """Number of an equation, 1 to 13, that of another paper (ect:18), or name of a formula; by default all."""
    json: Flag = False
    """Print JSON."""


@dataclass(frozen=True)
class CompletionOptions:
    """Print a script that completes the commands and options of ict-ref.

    In bash: eval "$(ict-ref completion bash)". In zsh the same with zsh, after compinit. In fish: ict-ref completion
    fish | source. The line in ~/.bashrc, ~/.zshrc or config.fish makes it permanent.
    """

    shell: Annotated[tyro.conf.Positional[Literal["bash", "zsh", "fish"]], tyro.conf.arg(metavar="SHELL")]
    """bash, zsh or fish."""


def console() -> None:
    """Run the command of the process's arguments under the name ict-ref, and exit with its status."""
    sys.argv[0] = "ict-ref"
    leave(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = next((one for one in COMMANDS if words and one.name == words[0].replace("-", "_")), None)
    if command is not None:
        return command.run(words[1:])
    return guarded(program(NAME), lambda: run(words), everywhere=True)


def run(words: list[str]) -> int:
    """Print what the words request, and return the exit status.

    Raises:
        ValueError: The words do not name a command, an equation or a formula.
    """
    command = words[0] if words else "--help"
    if command in ("-h", "--help"):
        print(description(), end="")
    elif command == "--version":
        print(f"ict_ref {__version__}")
    elif command == "eq":
        print_equations(parse_options(EquationOptions, words[1:], f"{NAME}.eq"))
    elif command == "completion":
        shell = parse_options(CompletionOptions, words[1:], f"{NAME}.completion").shell
        print(script(shell, "ict-ref", completed_words()), end="")
    else:
        near = difflib.get_close_matches(command, [*(one.name for one in COMMANDS), "eq", "completion"], n=1)
        advice = f"perhaps you meant {program(NAME)} {near[0]}" if near else f"see {program(NAME)} --help"
        raise ValueError(f"COMMAND: expected one of those that {program(NAME)} lists, got {command}; {advice}")
    return 0


def completed_words() -> dict[str, list[str]]:
    """Return the options of each command, for completion."""
    own = {"eq": EquationOptions, "completion": CompletionOptions}
    words = {name: [one.name for one in options_of(kind) if not one.positional] for name, kind in own.items()}
    return words | {one.name: one.words() for one in COMMANDS}


def description() -> str:
    """Return the list of the commands."""
    own = {f"{program(NAME)} {words}": purpose for words, purpose in OWN.items()}
    others = {f"{program(f'{NAME}.{one.name}')} {one.arguments}".strip(): one.purpose for one in COMMANDS}
    width = max(map(len, own))
    lines = [
        f"  {line:{width}}  {purpose}" if len(line) <= width else f"  {line}\n  {'':{width}}  {purpose}"
        for line, purpose in (own | others).items()
    ]
    title = "Reference implementation of improved consistency training (iCT), arXiv:2310.14189."
    return "\n".join([title, "", "commands (each has --help):", *lines, ""])


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
    if ":" in which:
        return choose_of_paper(known, which)
    number = re.sub(r"^Eqs?\.? *(?=[\d(])", "", which, flags=re.IGNORECASE).strip("()")
    if number.isascii() and number.isdecimal():
        if int(number) not in EQUATIONS:
            raise ValueError(f"{WHICH}: expected an equation from 1 to {EQUATIONS[-1]}, got {number}")
        return [formula for formula in known if int(number) in formula.equations]
    chosen = [formula for formula in known if formula.name == which]
    if not chosen:
        every = [formula.name for formula in known]
        within = [name for name in every if len(which) > 2 and which in name]
        near = ", ".join(within or difflib.get_close_matches(which, every))
        hint = f"perhaps you meant {near}" if near else f"`{program(NAME)} eq` lists all"
        raise ValueError(f"{WHICH}: expected an equation or the name of a formula, got {which}; {hint}")
    return chosen


def choose_of_paper(known: list[Formula], which: str) -> list[Formula]:
    """Return the formulas of PAPER:NUMBER, or all of a paper for PAPER: alone.

    Raises:
        ValueError: The paper is not known, or no formula has the number.
    """
    name, _, number = which.partition(":")
    keys = {book.key.lower(): book.key for book in BOOKS}
    if name.lower() not in keys:
        raise ValueError(f"{WHICH}: expected a paper among {', '.join(keys)}, got {name}")
    key = keys[name.lower()]
    if not number:
        return [formula for formula in known if formula.of == key]
    chosen = [formula for formula in known if number.strip("()") in map(str, formula.numbers(key))]
    if not chosen:
        numbers = sorted({each for formula in known for each in formula.numbers(key)})
        listed = ", ".join(map(str, numbers))
        raise ValueError(f"{WHICH}: expected an equation of {key} among {listed}, got {number}")
    return chosen


def overview(known: list[Formula]) -> str:
    """Return a line per equation and per formula without a number, iCT first, then the other papers."""
    width = max(len(formula.name) for formula in known)
    most = max(len(f"{shown(formula.file)}:{formula.line}") for formula in known)

    def line(place: str, formula: Formula) -> str:
        return f"{place:8} {formula.name:{width}}  {f'{shown(formula.file)}:{formula.line}':{most}}  {tested(formula)}"

    lines: list[str] = []
    for book in BOOKS:
        ours = [formula for formula in known if formula.of == book.key]
        numbers = sorted({number for formula in known for number in formula.numbers(book.key)})
        numbered = [
            line(f"Eq. ({number})", each) for number in numbers for each in known if number in each.numbers(book.key)
        ]
        others = [line("", each) + f"  {each.source.split('; ')[0]}" for each in ours if not each.numbers(book.key)]
        lines += ["", f"{book.key}: {book.title}"]
        for title, part in (("Numbered equations", numbered), ("Everything else", others)):
            lines += ["", title, "", *part] if part else []
    return "\n".join(lines[1:])


def tested(formula: Formula) -> str:
    """Return the number of laws and the oracle of a formula in words."""
    laws = "1 law" if formula.laws == 1 else f"{formula.laws} laws"
    return f"{laws}; oracle: {formula.oracle}" if formula.oracle else laws


def page(formula: Formula) -> str:
    """Return the literal form with its place, if it exists; then the formula's place, signature, docstring, tests."""
    docstring = "\n".join(f"    {line}".rstrip() for line in formula.docstring.split("\n"))
    place = f"{shown(formula.file)}:{formula.line}"
    implemented = f"{place}\n\n{formula.signature}\n\n{docstring}\n\n    Checked by {tested(formula)}."
    if formula.paper is None:
        return implemented
    return f"{shown(formula.paper.file)}:{formula.paper.line}\n\n{formula.paper.code}\n\n{implemented}"


def shown(file: Path) -> str:
    """Return the path relative to the current folder, if the file is below it."""
    here = Path.cwd()
    return os.fspath(file.relative_to(here) if file.is_relative_to(here) else file)


if __name__ == "__main__":
    sys.exit(main())
