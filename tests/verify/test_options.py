"""Commands of `python -m ict_ref.verify`, and the options of version 0.1 that stood for them."""

import subprocess
import sys
from pathlib import Path

import pytest

from ict_ref.verify.__main__ import main, options_of
from ict_ref.verify.audit.options import ModelOptions, SamplerOptions, StepOptions, TrainingOptions
from ict_ref.verify.checks.run_laws import EXAMPLES, THOROUGH_EXAMPLES
from ict_ref.verify.options import COMMANDS, CheckOptions, ExecOptions, TraceInputsOptions, TraceOptions


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (["check", "mine.py", "--seed", "3"], ["mine.py", "--seed", "3"]),
        (["audit", "step", "mine.py:step", "--seed", "3"], ["mine.py:step", "--audit", "step", "--seed", "3"]),
        (["audit", "step", "mine.py:step"], ["--audit=step", "mine.py:step"]),
        (["exec", "node peer.js", "--only", "c_in"], ["--only", "c_in", "--exec", "node peer.js"]),
        (["exec", "node peer.js --x=1", "--seconds", "2"], ["--exec=node peer.js --x=1", "--seconds", "2"]),
        (["trace", "mine.json", "--rtol", "1e-4"], ["--trace", "mine.json", "--rtol", "1e-4"]),
        (["trace", "mine.json"], ["--trace=mine.json"]),
        (["trace", "mine.json"], ["--trace", "mine.json", "--values-only", "--seed", "3", "--arrays=numpy"]),
        (
            ["audit", "step", "mine.py:step", "--seed", "3"],
            ["mine.py:step", "--seed", "3", "--audit", "step", "--thorough"],
        ),
        (["trace-inputs", "--vectors-version", "1"], ["--vectors-version", "1", "--trace-inputs"]),
    ],
)
def test_an_option_of_version_0_1_stands_for_its_command(new: list[str], old: list[str]) -> None:
    assert options_of(new) == options_of(old)


def test_each_command_has_options_of_its_own() -> None:
    assert isinstance(options_of(["mine"]), CheckOptions)
    assert isinstance(options_of(["check", "trace"]), CheckOptions)  # a module called trace
    assert isinstance(options_of(["exec", "x"]), ExecOptions)
    assert isinstance(options_of(["trace", "x"]), TraceOptions)
    assert isinstance(options_of(["trace-inputs"]), TraceInputsOptions)
    assert isinstance(options_of(["audit", "step", "x"]), StepOptions)
    assert isinstance(options_of(["audit", "model", "x"]), ModelOptions)
    assert isinstance(options_of(["audit", "sampler", "x"]), SamplerOptions)
    assert isinstance(options_of(["audit", "training", "x"]), TrainingOptions)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_lists_its_options_and_all_commands(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(f"\n  {name} " in out for name in COMMANDS)
    listed = out[: out.index("\ncommands (")]
    assert not [name for name in ("--audit", "--exec", "--trace") if name in listed]
    assert ("--json FILE" in listed) is (command != "trace-inputs")


def test_the_help_says_how_many_examples_a_law_has() -> None:
    source = Path(__file__).parents[2] / "src" / "ict_ref" / "verify" / "options.py"
    assert f"on {THOROUGH_EXAMPLES:,} examples instead of {EXAMPLES}.".replace(",", " ") in source.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "TARGET: expected a value, got nothing; see python -m ict_ref.verify --help"),
        (["audit", "loop", "x"], "audit: expected one of step, model, training, sampler, data, score, got loop"),
        (["--audit", "loop", "x"], "audit: expected one of step, model, training, sampler, data, score, got loop"),
        (["audit"], "audit: expected one of step, model, training, sampler, data, score, got nothing"),
        (["audit", "step"], "TARGET: expected a value, got nothing; see python -m ict_ref.verify audit step --help"),
        (["trace"], "FILE: expected a path, got nothing"),
        (["--exec"], "COMMAND: expected a value, got nothing"),
        (["--exec", "cat", "--audit", "step"], "unknown option --audit"),
        (["exec", "cat", "--seconds", "0"], "--seconds: expected a number > 0, got 0.0"),
        (["x", "--seconds", "inf"], "--seconds: expected a number > 0, got inf"),
        (["x", "--dtype", "float16"], "--dtype: expected one of float64, float32, bfloat16, got float16"),
        (["x", "--device", "nowhere"], "--device: expected a device of this machine, got nowhere"),
        (["x", "--arrays", "numpy", "--dtype", "bfloat16"], "--arrays: expected torch for bfloat16 or a device"),
        (["x", "--format", "html"], "--format: expected one of text, markdown, latex, got html"),
        (["exec", "cat", "--arrays", "numpy"], "unknown option --arrays"),
        (["trace", "x.json", "--rtol", "2"], "--rtol: expected a number between 0 and 1, got 2.0"),
        (["trace", "x.json", "--rtol", "nan"], "--rtol: expected a number between 0 and 1, got nan"),
        (["trace-inputs", "mine.json"], "unexpected argument mine.json"),
        (["audit", "step", "x", "--seed", "4294967296"], "--seed: expected an integer from 0 to 2^32 - 1"),
    ],
)
def test_options_that_a_command_does_not_have_are_rejected_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("python -m ict_ref.verify: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_command_without_laws_and_trace_has_no_stale_waivers_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("trace:loss", "step:loss", "pseudo_huber:lies_below_the_norm")
    (tmp_path / "w.toml").write_text("".join(f'[[waiver]]\nid = "{name}"\nreason = "known"\n' for name in names))
    (tmp_path / "c_in.py").write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    print(json.dumps({'id': json.loads(line)['id'], 'missing': True}), flush=True)\n"
    )
    # Without any function nothing can be checked, and no waiver is reported.
    assert main(["exec", f"python3 {tmp_path / 'c_in.py'}", "--waivers", str(tmp_path / "w.toml")]) == 3
    out, err = capsys.readouterr()
    assert "waived" not in out
    assert "does not have any of the functions" in err


@pytest.mark.parametrize(
    ("words", "sigma_min"),
    [([], 0.002), (["--method", "ct"], 0.002), (["--method", "gridless"], 0), (["--sigma-min", "0.01"], 0.01)],
)
def test_the_smallest_level_of_a_step_is_that_of_its_method(words: list[str], sigma_min: float) -> None:
    options = options_of(["audit", "step", "x", *words])
    assert isinstance(options, StepOptions)
    assert options.settings.sigma_min == sigma_min


@pytest.mark.parametrize("words", [["--help"], ["audit", "step", "--help"], ["exec", "--help"], ["--no-such-option"]])
def test_help_and_errors_do_not_import_torch(words: list[str]) -> None:
    program = f"""import sys
from ict_ref.verify.__main__ import main
try: main({words!r})
except SystemExit: pass
sys.exit("torch" in sys.modules)"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0
