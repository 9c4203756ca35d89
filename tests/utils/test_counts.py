"""Numbers that cannot be are rejected before anything starts, and all options read numbers by one rule."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest

from ict_ref.config import Method, Network, Train, minimal
from ict_ref.evaluate.options import EvaluateOptions
from ict_ref.search.options import SearchOptions


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("sample", ["none", "--count", str(2**63)], "--count: expected an integer between 1 and 2147483647"),
        ("sample", ["none", "--processes", str(2**63)], "--processes: expected an integer between 0 and 1024"),
        ("sample", ["none", "--count", "\uff11"], "--count: expected an integer, got \uff11"),
        ("sample", ["none", "--count", "1_0"], "--count: expected an integer, got 1_0"),
        ("sample", ["none", "--seed", " 1"], "--seed: expected an integer, got"),
        ("launch", ["--config", "minimal", "--method.rho", "7_0"], "--method.rho: expected a number, got 7_0"),
        ("launch", ["--config", "minimal", "--train.batch-size", str(2**64)], "between 1 and 16777216, got 1844"),
        ("launch", ["--config", "minimal", "--network.blocks", str(10**7)], "between 1 and 64, got 10000000"),
        ("launch", ["--config", "minimal", "--processes", str(2**63)], "--processes: expected an integer between 0"),
        ("launch", ["--config", "minimal", "--train.seed", str(2**128)], "--train.seed: expected an integer between"),
        ("prepare", [".", "--workers", str(2**40)], "--workers: expected an integer between 1 and 1024"),
    ],
)
def test_an_impossible_number_is_one_line(
    command: str,
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert importlib.import_module(f"ict_ref.{command}.__main__").main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_counts_of_scoring_have_limits() -> None:
    with pytest.raises(ValueError, match="--count: expected an integer between 1 and 2147483647"):
        SearchOptions(Path("run"), "digits:train", count=2**64)
    with pytest.raises(ValueError, match="--nodes: expected an integer between 3 and 1000000"):
        SearchOptions(Path("run"), "digits:train", nodes=10**9)
    with pytest.raises(ValueError, match="--count: expected an integer between 1 and 2147483647"):
        EvaluateOptions("digits:train", "run", count=2**31)
    assert SearchOptions(Path("run"), "digits:train", count=2**31 - 1).count == 2**31 - 1


def test_numbers_whose_squares_overflow_or_vanish_are_rejected() -> None:
    config = minimal()
    for name, value in (("sigma_max", 1e30), ("huber_c", 1e30), ("sigma_data", 1e-30), ("sigma_data", 1e20)):
        method = replace(config.method, **{name: value})  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"--method.{name.replace('_', '-')}: expected a number"):
            replace(config, method=method)
        # float64 has room for all of them.
        replace(config, method=method, train=replace(config.train, precision="float64"))


def test_the_largest_numbers_are_accepted() -> None:
    assert Network(blocks=64).blocks == 64
    assert Train(batch_size=2**24).batch_size == 2**24
    assert Train(seed=2**128 - 1).seed == 2**128 - 1
    assert Method(s1=2**20).s1 == 2**20
