"""Options of every command that prints a report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ict_ref.utils.command_line import expect
from ict_ref.utils.option_parser import Flag, metavar
from ict_ref.verify.report.output import refuse_file

Text = Annotated[str, tyro.conf.Positional]


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Options of every command that checks something."""

    json: Annotated[Path | None, metavar("FILE")] = None
    """Write the report for programs."""
    junit: Annotated[Path | None, metavar("FILE")] = None
    """Write the report as JUnit's XML."""
    badge: Annotated[Path | None, metavar("FILE")] = None
    """Write a badge as JSON for shields.io."""
    format: Literal["text", "markdown", "latex"] = "text"
    """Format of the report that is printed."""
    waivers: Annotated[Path | None, metavar("FILE")] = None
    """TOML file of known failures, each with a reason."""
    strict: Flag = False
    """Count every finding as a failure: types, precision, side effects and accepted arguments too."""
    verbose: Annotated[Flag, tyro.conf.arg(aliases=["-v"])] = False
    """List every check, and all places of a known deviation."""
    show_output: Annotated[Flag, tyro.conf.arg(aliases=["-s"])] = False
    """Show what the target prints."""

    def __post_init__(self) -> None:
        for option, file in files_of(self):
            refuse_file(file, option)


def files_of(options: "ReportOptions") -> list[tuple[str, Path]]:
    """Return the files that a command writes, with their options."""
    named = {"--json": options.json, "--junit": options.junit, "--badge": options.badge}
    return [(option, file) for option, file in named.items() if file]


def expect_seed(seed: int) -> None:
    """Raise ValueError unless a seed is one of Hypothesis' and torch's."""
    expect(0 <= seed < 2**32, "--seed", "an integer from 0 to 2^32 - 1", seed)


def refuse_device(name: str) -> None:
    """Reject a device that torch does not have here.

    Raises:
        ValueError: Torch cannot make a tensor on the device.
    """
    import torch

    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, ValueError) as error:
        text = str(error).splitlines()[0]
        raise ValueError(f"--device: expected a device of this machine, got {name}. {text}") from None
