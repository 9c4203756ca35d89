"""Results of the audits of models, samplers, data and scores, and the deviations that only an audit shows."""

from collections.abc import Mapping
from functools import cache

from ict_ref.verify.checks.result import Kind, Result, Status
from ict_ref.verify.vectors.load import VERSION, Deviation, deviations

PREFIXES = ("model:", "sampler:", "data:", "score:")
"""Beginnings of the names of these results."""

_ONLY_AUDITED = (
    Deviation(
        "LogNoise",
        "model:c_noise",
        "the network gets log(sigma), not log(sigma) / 4",
        "the embedding is four times more sensitive than that of EDM",
        "codes that leave the quarter out",
    ),
    Deviation(
        "OtherSigmaMin",
        "model:c_skip",
        "c_skip and c_out have another sigma_min",
        "f(x, sigma) = x holds at another level than sigma_min",
        "two public codes",
    ),
    Deviation(
        "OtherSigmaData",
        "model:c_in",
        "the coefficients have another sigma_data",
        "the network's input does not have variance 1 for data with the given standard deviation",
        "two public codes",
    ),
    Deviation(
        "HalfCOut",
        "model:c_out",
        "sigma_data is squared in c_out",
        "c_out is half of the right value for sigma_data = 0.5",
        "one public code",
    ),
    Deviation(
        "SwitchedBoundary",
        "model:boundary",
        "f returns x at sigma_min by a case distinction, not by its coefficients",
        "f jumps behind sigma_min, and a gradient of the boundary condition does not reach the levels above it",
        "not seen yet, but likely",
    ),
    Deviation(
        "TrainEvalMismatch",
        "model:modes",
        "train() and eval() have other coefficients",
        "the function that is sampled is not the one that was trained",
        "two public codes",
    ),
    Deviation(
        "RoundedLevels",
        "model:c_noise",
        "the noise level or a coefficient is rounded to 16 bits",
        "neighbouring levels of a fine grid become one",
        "codes that convert everything to the dtype of the network",
    ),
    Deviation(
        "ResidualNoise",
        "sampler:final_noise",
        "noise is added after the last call of f",
        "the samples are noisy",
        "one of the authors' codes, for lists of levels that do not end at sigma_min",
    ),
    Deviation(
        "UnscaledFirstNoise",
        "sampler:first_input",
        "the first input is z, not sigma_max z",
        "f gets an input with a standard deviation of 1 for one of sigma_max",
        "not seen yet, but likely",
    ),
)


@cache
def deviation_book(version: int = VERSION) -> Mapping[str, Deviation]:
    """Return all known deviations by id: those of the vectors, and those that only an audit shows."""
    return {**deviations(version), **{one.name: one for one in _ONLY_AUDITED}}


def is_audited(name: str) -> bool:
    """Return whether a result or function of this name belongs to one of these audits."""
    return name.startswith(PREFIXES)


def causes(result: Result) -> list[str]:
    """Return the causes of an audit's result: its deviations, else its function."""
    return result.deviation.split(" and ") if result.deviation else [result.function]


def verdict(
    name: str, source: str, wrong: str | None, *, deviation: str | None = None, kind: Kind = "wrong", mode: str = ""
) -> Result:
    """Return a result with the message `wrong`, or a pass if it is None.

    `name` is that of the function, such as model:c_out. `mode` is train or eval, if there is a result of each.
    """
    status: Status = "fail" if wrong else "pass"
    number = f"{name}:{mode}" if mode else name
    message = f"{number}: {wrong} [{source}]" if wrong else ""
    return Result(number, name, source, status, message=message, deviation=deviation if wrong else None, kind=kind)


def observation(name: str, text: str, *, deviation: str | None = None) -> Result:
    """Return a note: what the audit observed, without a verdict."""
    return Result(name, name, "", "note", message=f"{name}: {text}", deviation=deviation, kind="note")


def not_checked(name: str, source: str, reason: str, *, mode: str = "") -> Result:
    """Return a check that could not be made, with its reason."""
    number = f"{name}:{mode}" if mode else name
    return Result(number, name, source, "skipped", message=f"{number}: {reason} [{source}]")
