"""The form of a rejection: one line on standard error, and nothing on standard output."""

import pytest


def rejection(capsys: pytest.CaptureFixture[str], command: str) -> str:
    """Return the one line that a command has printed, or fail if it has printed anything else."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{command}: ")
    assert err.count("\n") == 1
    return err
