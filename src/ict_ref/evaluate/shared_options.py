"""Options that the commands of scoring share: how samples of a model are made, and on what hardware."""

from dataclasses import dataclass
from typing import Literal

from ict_ref.utils.command_line import expect
from ict_ref.utils.option_parser import Flag


@dataclass(frozen=True, kw_only=True)
class SharedOptions:
    """Options of samples and of the hardware."""

    label_order: Literal["turn", "random"] = "turn"
    """Whether samples take the classes in turn, or each draws its class at random, as in the authors' code."""
    truncate: Flag = False
    """Truncate pixels to 8 bits, as in the authors' code, instead of rounding them."""
    precision: Literal["float32", "run"] = "float32"
    """Precision of the model: float32 without TF32, or that of the run's training. Features are always in float32."""
    compile: Flag = False
    """Compile the model with torch.compile, which takes a minute and pays for many samples on a GPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of sampling, features and moments; auto: every visible GPU, else the CPU."""
    processes: int = 0
    """Number of processes on this machine; 0: one per visible GPU, or one without GPUs."""
    threads: int = 0
    """CPU threads per process; 0: torch's default."""

    def refuse_negative_numbers(self) -> None:
        """Reject a negative number of processes or threads.

        Raises:
            ValueError: A number is negative.
        """
        for name in ("processes", "threads"):
            value = getattr(self, name)
            expect(value >= 0, f"--{name}", "an integer >= 0", value)
