"""Options of the audits; AUDITS has the options of each kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import tyro

from ict_ref.utils.option_parser import metavar
from ict_ref.verify.report.options import ReportOptions, Text, expect_seed


@dataclass(frozen=True, kw_only=True)
class AuditOptions(ReportOptions):
    """Options of every audit."""

    kind: ClassVar[str]
    """What is audited; the names of the results begin with it."""

    target: Annotated[Text, tyro.conf.arg(metavar="TARGET")]
    """What to audit, as package.module:name or path/to/file.py:name."""
    seed: Annotated[int, metavar("N")] = 0
    """Seed of the noise and of the images."""

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_seed(self.seed)


@dataclass(frozen=True, kw_only=True)
class StepOptions(AuditOptions):
    """Check a training step from outside, by the calls that it makes.

    TARGET is a callable step(network, x, *, step, total_steps) -> loss. The audit passes a network that records its
    calls, and checks the step from the record. The step needs none of the formulas.
    """

    kind = "step"


AUDITS: Mapping[str, type[AuditOptions]] = {options.kind: options for options in (StepOptions,)}
