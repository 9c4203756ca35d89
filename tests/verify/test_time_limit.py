"""A call is interrupted after its time limit, but not because the machine is loaded."""

import importlib
import signal
import sys
import time
from pathlib import Path

import pytest

from ict_ref.verify.target.time_limit import PATIENCE, PATIENCE_WITH_IMPORTS, NoAnswerError, limited, time_limit


def works() -> None:
    while True:
        pass


def waits(seconds: float) -> int:
    time.sleep(seconds)
    return 1


def test_a_call_that_works_too_long_is_interrupted() -> None:
    began = time.process_time()
    with pytest.raises(NoAnswerError, match=r"^no answer in 0.1 s$"):
        limited(works, 0.1)()
    assert time.process_time() - began < PATIENCE * 0.1


def test_a_call_that_waits_for_its_processor_is_not_interrupted() -> None:
    # A process that sleeps gets as little of a processor as one on a loaded machine.
    assert limited(waits, 0.2)(0.3) == 1


def test_a_call_that_waits_for_ever_is_interrupted() -> None:
    began = time.monotonic()
    with pytest.raises(NoAnswerError), time_limit(0.05):
        time.sleep(30)
    assert PATIENCE * 0.05 <= time.monotonic() - began < 20


def test_an_import_is_completed_before_its_call_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slowly_imported.py").write_text("import time\ntime.sleep(0.3)\nvalue = 1\n")
    monkeypatch.syspath_prepend(tmp_path)

    def call() -> None:
        importlib.import_module("slowly_imported")
        works()

    with pytest.raises(NoAnswerError):
        limited(call, 0.05)()
    assert sys.modules.pop("slowly_imported").value == 1


def test_a_call_from_within_an_import_is_interrupted_as_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checks_itself.py").write_text(
        "import time\nfrom ict_ref.verify.target.time_limit import limited\nlimited(time.sleep, 0.1)(9)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    began = time.monotonic()
    with pytest.raises(NoAnswerError):
        importlib.import_module("checks_itself")
    assert time.monotonic() - began < PATIENCE_WITH_IMPORTS * 0.1


def test_the_handler_of_the_signal_is_restored() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(5.0):
        assert signal.getsignal(signal.SIGALRM) is not before
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
