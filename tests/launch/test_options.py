"""Options of `python -m ict_ref.launch`: presets, names of run folders, help and errors."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.files import contents

from ict_ref.config import PRESETS, digits, minimal
from ict_ref.launch.__main__ import main
from ict_ref.launch.options import parse


def test_the_run_folder_is_named_by_preset_and_configuration() -> None:
    plain, other = (parse(["--config", "minimal", *more]) for more in ([], ["--train.seed", "1"]))
    assert re.fullmatch(r"runs/minimal-[0-9a-f]{8}", str(plain.folder()))
    assert plain.folder() != other.folder()
    assert str(parse(["--config", "minimal", "--out", "here"]).folder()) == "here"


@pytest.mark.parametrize(
    "options",
    [
        "--sample.two-step-sigma 0.3 --method.sigma-max 0.5",
        "--acceptance.accuracy None --data.no-labels",
        "--method.objective tcm --train.init file --sample.two-step-sigma 1",
    ],
)
def test_a_folder_is_named_where_the_preset_s_sampling_does_not_go_with_the_options(options: str) -> None:
    folder = parse(["--config", "digits", *options.split(), "--dry-run"]).folder()
    assert re.fullmatch(r"runs/digits-[0-9a-f]{8}", str(folder))


def test_options_change_the_preset() -> None:
    launch = parse(["--config", "digits", "--train.batch_size=32", "--network.multipliers", "1", "2", "2"])
    assert launch.config.train.batch_size == 32
    assert launch.config.network.multipliers == (1, 2, 2)
    assert launch.config.method == digits().method
    assert parse(["--config=minimal"]).config == minimal()


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_presets_options_and_their_sources(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([flag])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for expected in (*PRESETS, "--train.batch-size", "iCT, Section 3.5", "--out", "130"):
        assert expected in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config: expected one of digits, minimal"),
        (["--config"], "--config: expected one of digits, minimal"),
        (["--config", "digit"], "got digit; perhaps you meant digits"),
        (["--config", "zebra"], "--config: expected one of digits, minimal"),
        (["--config", "minimal", "--train.batchsize", "3"], "perhaps you meant --train.batch-size"),
        (["--config", "minimal", "--train.batch-size", "many"], "--train.batch-size: expected an integer, got many"),
        (["--config", "minimal", "--train.batch-size"], "--train.batch-size: expected an integer, got nothing"),
        (["--config", "minimal", "--train.batch-size", "0"], "--train.batch-size: expected an integer >= 1, got 0"),
        (["--config", "minimal", "--train.noise-shards", "3"], "--train.noise-shards: expected a divisor of"),
        (["--config", "minimal", "--machine.accumulate", "3"], "--train.noise-shards: expected a multiple of 3"),
        (["--config", "minimal", "--processes", "-1"], "--processes: expected an integer >= 0, got -1"),
        (
            ["--config", "minimal", "--train.dtype", "float64", "--train.autocast", "bfloat16"],
            "--train.precision: expected one of float64, float32, tf32, bfloat16, float16, "
            "got float64 with autocast bfloat16",
        ),
        (["--config", "minimal", "--record.keep", "0"], "--record.keep: expected an integer >= 1, got 0"),
        (["--config", "minimal", "--network.dropout", "1"], "--network.dropout: expected 0 <= rate < 1, got 1.0"),
        (["--config", "minimal", "--network.groups", "3"], "--network.groups: expected a divisor of 8 channels"),
        (
            ["--config", "minimal", "--method.sigma-min", "90"],
            "--method.sigma-min: expected 0 < sigma_min < sigma_max < infinity (iCT",
        ),
        (["--config", "minimal", "--train.steps", "3"], "Train for at least 8 steps"),
        (["--config", "minimal", "--sample.two-step-sigma", "90"], "--sample.two-step-sigma: expected 0.002 <= "),
        (["--config", "minimal", "--method.sigma-data", "nan"], "--method.sigma-data: expected 0 < sigma_data"),
        (["--config", "minimal", "--method.rho", "1e-6"], "--method.rho: expected a number for which"),
        (
            ["--config", "minimal", "--method.sigma-max", "1e308"],
            "--method.sigma-max: expected 0 < sigma < ",
        ),
        (
            ["--config", "minimal", "--method.sigma-data", "1e200"],
            "--method.sigma-data: expected a number",
        ),
        (["--config", "minimal", "--network.multipliers", "1", "1", "1", "1", "1"], "cannot be halved 4 times"),
        (["--config", "minimal", "--network.time-scale", "inf"], "--network.time-scale: expected a number between"),
        (["--config", "minimal", "--acceptance.accuracy", "nan"], "--acceptance.accuracy: expected a fraction"),
        (["--config", "minimal", "--acceptance.frechet-distance", "inf"], "expected a finite number >= 0, got inf"),
        (["--config", "digits", "--data.no-labels"], "--acceptance.accuracy: expected None for a model"),
        (["--config", "minimal", "stray"], "unexpected argument stray"),
        (["--config", "minimal", "--out", "/proc/nowhere"], "/proc/nowhere"),
        (["--config", "minimal", "--out", "/dev/null"], "/dev/null is a file"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    (line,) = streams.err.splitlines()
    assert line.startswith("ict_ref.launch: ")
    assert message in line
    assert contents(tmp_path) == {}


def test_help_and_errors_come_without_importing_torch() -> None:
    code = (
        "import sys\nfrom ict_ref.launch.__main__ import parse\n"
        "parse(['--config', 'digits'])\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_run_that_version_0_1_0_began_is_continued_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The name that it gave to the demo's run folder: runs/digits-c86323d6.
    monkeypatch.chdir(tmp_path)
    assert str(parse(["--config", "digits"]).folder()) != "runs/digits-c86323d6"
    (tmp_path / "runs" / "digits-c86323d6").mkdir(parents=True)
    assert str(parse(["--config", "digits"]).folder()) == "runs/digits-c86323d6"
    assert str(parse(["--config", "digits", "--acceptance.recall", "0.2"]).folder()) == "runs/digits-c86323d6"
    assert str(parse(["--config", "digits", "--train.seed", "2"]).folder()) != "runs/digits-c86323d6"
