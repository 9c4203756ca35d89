"""Options that the commands of scoring share: how samples of a model are made, and on what hardware."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from ict_ref.sample.placement import ModelPlacement, job_of_command
from ict_ref.utils.option_parser import Flag, NetworkName, Several, metavar, parse_options


@dataclass(frozen=True, kw_only=True)
class SharedOptions(ModelPlacement):
    """Options of samples and of the hardware."""

    network: NetworkName = None
    """Function or class that builds the network of the user's own that the run has. The module is imported."""
    label_order: Literal["turn", "random"] = "turn"
    """Whether samples take the classes in turn, or each draws its class at random, as in the authors' code."""
    truncate: Flag = False
    """Truncate pixels to 8 bits, as in the authors' code, instead of rounding them."""
    precision: Literal["float32", "run"] = "float32"
    """Precision of the model: float32 without TF32, or that of the run's training. Features are always in float32."""
    compile: Flag = False
    """Compile the model with torch.compile, which takes a minute and pays for many samples on a GPU."""
    trust: Annotated[Several[str], metavar("SHA256 ...")] = ()
    """SHA-256 of program files for --features whose operations are not checked."""


S = TypeVar("S", bound=SharedOptions)


def parse_scoring(kind: type[S], arguments: Sequence[str], name: str, epilog: str) -> S:
    """Return the options of a command of scoring, with the job of the cluster file, or exit 0 after --help.

    Raises:
        ValueError: An option is unknown or its value is not allowed; the message is one line.
        OSError: The cluster file cannot be read.
    """
    options = parse_options(kind, arguments, name, epilog, groups=lambda given: {"job": job_of_command(given)})
    options.refuse_placement()
    return options
