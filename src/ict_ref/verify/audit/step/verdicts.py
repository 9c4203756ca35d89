"""Results of the audit of a training step."""

from ict_ref.verify.checks.result import Kind, Result, Status

SOURCES = {
    "runs": "iCT, Section 2, Eq. (5)",
    "side_effects": "iCT, Section 2, Eq. (5)",
    "c_noise": "CM, Appendix C; iCT, Section 2",
    "c_in": "CM, Appendix C",
    "one_path": "iCT, Section 2, Eq. (5)",
    "grid": "iCT, Section 2",
    "neighbours": "iCT, Section 2, Eq. (5)",
    "curriculum": "iCT, Section 3.4, Eq. (9)",
    "p(i)": "iCT, Section 3.5, Eq. (10)",
    "independent_intervals": "iCT, Section 3.5, Eq. (10)",
    "unit_noise": "iCT, Section 2",
    "normal_noise": "iCT, Section 2",
    "independent_noise": "iCT, Section 2",
    "shared_dropout": "iCT, Section 3.1",
    "stop_gradient": "iCT, Section 2, Eq. (4)",
    "coefficients": "iCT, Section 2, Eq. (2); CM, Appendix C",
    "boundary": "iCT, Section 2, Eq. (2)",
    "distance": "iCT, Section 3.3, Eq. (8)",
    "huber_constant": "iCT, Section 3.3, Eq. (8)",
    "weight": "iCT, Section 3.1, Table 1",
    "loss": "iCT, Section 2, Eq. (5)",
    "gradient": "iCT, Section 2, Eq. (5)",
    "nan": "iCT, Section 2, Eq. (5)",
    "levels": "methods without a grid",
    "ratio": "methods without a grid",
}
"""The checks of an audit, and where the paper states what they check."""


def result(
    name: str, wrong: str | None = None, deviation: str | None = None, *, kind: Kind = "wrong", fails: bool = True
) -> Result:
    """Return a finding with its message, or a pass if it is None. A note does not fail."""
    status: Status = "pass" if wrong is None else "fail" if fails else "note"
    source = SOURCES[name]
    message = f"step:{name}: {wrong} [{source}]" if wrong else ""
    return Result(
        f"step:{name}",
        f"step:{name}",
        source,
        status,
        message=message,
        deviation=deviation if wrong else None,
        kind=kind,
    )


def note(name: str, text: str) -> Result:
    """Return a note about a step that is not wrong."""
    return result(name, text, kind="note", fails=False)


def skipped(name: str, reason: str) -> Result:
    """Return a check that could not be made, with the reason."""
    source = SOURCES[name]
    return Result(f"step:{name}", f"step:{name}", source, "skipped", message=f"step:{name}: {reason} [{source}]")
