"""The results of the audit of a training loop."""

from ict_ref.verify.checks.result import Kind, Result, Status

PAPER, CODE = "iCT, Appendix B", "iCT, Appendix B; the authors' CM code"
CURRICULUM = "iCT, Section 3.4, Eq. (9)"


def result(name: str, source: str, wrong: str | None, deviation: str | None = None, *, kind: Kind = "wrong") -> Result:
    """Return a finding with the message `wrong`, or a pass if it is None. `name` may be check:part."""
    message = f"training:{name}: {wrong} [{source}]" if wrong else ""
    status: Status = "fail" if wrong else "pass"
    deviation = deviation if wrong else None
    of = _of(name)
    return Result(f"training:{name}", of, source, status, message=message, deviation=deviation, kind=kind)


def skipped(name: str, source: str, why: str) -> Result:
    """Return a check that could not be tried."""
    message = f"training:{name}: not tried: {why} [{source}]"
    return Result(f"training:{name}", _of(name), source, "skipped", message=message)


def _of(name: str) -> str:
    """Return the row of the report that has a check."""
    return f"training:{name.partition(':')[0]}"
