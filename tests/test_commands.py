"""The command lines of all commands: help, and errors of usage as one line and status 2."""

import importlib
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
import tyro

from ict_ref import export_checkpoint, import_checkpoint
from ict_ref.config import PRESETS
from ict_ref.edit.options import Options as EditOptions
from ict_ref.evaluate.options import EvaluateOptions
from ict_ref.experiments.options import ExperimentOptions
from ict_ref.figures.options import FigureOptions
from ict_ref.launch.options import Launch
from ict_ref.launch.options import parse as parse_launch
from ict_ref.plan.options import PlanOptions
from ict_ref.prepare.options import PrepareOptions
from ict_ref.sample.options import Sampling
from ict_ref.sample.options import parse as parse_sampling
from ict_ref.search.options import SearchOptions
from ict_ref.training.import_lpips import Options as LpipsOptions
from ict_ref.utils.option_parser import Option, options_of, parse_options

COMMANDS: dict[str, Any] = {
    "launch.__main__": Launch,
    "sample.__main__": Sampling,
    "evaluate.__main__": EvaluateOptions,
    "search.__main__": SearchOptions,
    "edit.__main__": EditOptions,
    "figures.__main__": FigureOptions,
    "experiments.__main__": ExperimentOptions,
    "plan.__main__": PlanOptions,
    "prepare.__main__": PrepareOptions,
    "import_checkpoint": import_checkpoint.Options,
    "export_checkpoint": export_checkpoint.Options,
    "training.import_lpips": LpipsOptions,
}
# The options of a command that may run as a SLURM job.
PLACEMENT = "--processes --slurm --profile --wait --dry-run --device --threads --job.nodes --job.processes-per-node "
PLACEMENT += "--job.gpus-per-node --job.gpu-type --job.gpu-memory-gb --job.cpus-per-process --job.memory-gb "
PLACEMENT += "--job.minutes --job.signal-seconds --job.partition --job.account --job.qos --job.constraint --job.setup "
PLACEMENT += "--job.sbatch "
# The names that users may have in scripts; [IMAGE is the first word of a name of several.
NAMES = {
    "evaluate.__main__": PLACEMENT
    + "--reference --step --every-milestone --features --k --json --save-stats --table --count "
    "--sigmas --labels --label-order --seed --clip --truncate --ema --ema-sigma --network --precision --compile "
    "--trust SAMPLES",
    "search.__main__": PLACEMENT + "--reference --step --features --count --before --after --nodes --labels --seed "
    "--out --label-order --truncate --ema --ema-sigma --network --precision --compile --trust RUN|FILE",
    "edit.__main__": "--task --step --out --labels --seed --sigmas --sigma --count --mask --patch --noisy --steps "
    "--device --ema --ema-sigma --network RUN|FILE [IMAGE",
    "figures.__main__": "--out --only --from --run --step --ema --ema-sigma --sheet --labels --seed --device",
    "experiments.__main__": "--only --json --runs --seeds --steps",
    "prepare.__main__": "--out --split --size --grey --class-map --unknown-files --workers --check SOURCE",
    "import_checkpoint": "--out --format --size --time-scale --head-channels --qkv --no-average --entry --dropout "
    "--dropout-max-resolution FILE",
    "export_checkpoint": "--out --format --step --ema --ema-sigma RUN|FILE",
    "training.import_lpips": "--out --pooling FILE",
}
each_command = pytest.mark.parametrize("command", COMMANDS)


def named(command: str) -> list[Option]:
    """Return the options of a command that have a name."""
    return [option for option in options_of(COMMANDS[command]) if not option.positional]


def refused(command: str, arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line of a command that exits with status 2."""
    assert importlib.import_module(f"ict_ref.{command}").main(arguments) == 2, arguments
    streams = capsys.readouterr()
    assert streams.out == ""
    (line,) = streams.err.splitlines()
    name = f"ict_ref.{command.removesuffix('.__main__')}"
    assert line.startswith(f"{name}: ")
    assert line.endswith(f"; see python -m {name} --help")
    return str(line.removeprefix(f"{name}: "))


@each_command
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_mentions_every_option(
    command: str, flag: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(f"ict_ref.{command}").main([flag])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: python -m ict_ref.{command.removesuffix('.__main__')} " in shown
    assert "xit status" in shown
    words = shown.replace(",", " ").split()
    for option in options_of(COMMANDS[command]):
        assert option.name.split()[0] in words
    assert set(NAMES.get(command, "").split()) <= set(words)


@each_command
def test_commands_keep_their_options(command: str) -> None:
    if command in NAMES:
        assert {option.name.split()[0] for option in options_of(COMMANDS[command])} == set(NAMES[command].split())


@each_command
def test_an_unknown_option_is_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(command, ["--no-such-option"], capsys).startswith("unknown option --no-such-option")
    assert refused(command, ["--no-such-option=3"], capsys).startswith("unknown option --no-such-option")
    near = named(command)[0].name
    line = refused(command, [f"{near}x"], capsys)
    assert line.startswith(f"unknown option {near}x; perhaps you meant {near}")


@each_command
def test_a_missing_value_is_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    for option in named(command):
        if option.least:
            for rest in ([], ["--no-such-option"]):
                line = refused(command, [option.name, *rest], capsys)
                assert line.startswith(f"{option.name}: expected ")
                assert ", got nothing" in line


@each_command
def test_a_value_of_another_type_or_choice_is_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    for option in named(command):
        words = {int: "integer", float: "number"}
        choices = get_args(option.kind)
        if option.kind in words or choices:
            wrong = ["?"] * max(1, option.least)
            expected = f"one of {', '.join(choices)}" if choices else words[option.kind]
            for arguments in ([option.name, *wrong], [f"{option.name}=?", *wrong[1:]]):
                line = refused(command, arguments, capsys)
                assert line.startswith(f"{option.name}: expected ")
                assert expected in line
                assert ", got ?" in line
        elif option.most == 0:
            line = refused(command, [f"{option.name}=3"], capsys)
            assert line.startswith(f"{option.name}: expected no value, got 3")


@each_command
def test_what_is_required_and_what_is_too_much_is_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    required = [option for option in options_of(COMMANDS[command]) if option.required]
    if required:
        with pytest.raises(ValueError, match=re.escape(f"{required[0].name}: expected ")):
            parse_options(COMMANDS[command], [], "it", default=lambda given: pytest.fail("nothing is missing"))
        line = refused(command, [], capsys)
        assert line.startswith(f"{required[0].name}: expected ")
    given = [word for option in required if not option.positional for word in (option.name, _good(option))]
    if command not in ("edit.__main__", "training.import_lpips"):  # they take several
        with pytest.raises(ValueError, match=r"unexpected argument [ab]; see python -m it --help"):
            parse_options(COMMANDS[command], [*given, "a", "b"], "it", default=lambda given: pytest.fail("too much"))


def _good(option: Option) -> str:
    return str((get_args(option.kind) or ("1",))[0])


def test_help_and_errors_come_without_torch() -> None:
    code = "import contextlib, importlib, sys\n"
    for command in COMMANDS:
        code += (
            f"main = importlib.import_module('ict_ref.{command}').main\n"
            "assert main(['--no-such-option']) == 2\n"
            "with contextlib.suppress(SystemExit): main(['--help'])\n"
            f"assert 'torch' not in sys.modules, '{command}'\n"
        )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == len(COMMANDS)


GOOD: list[tuple[Any, str]] = [
    (EvaluateOptions, "a.npz --reference b --k 4 --sigmas 80 0.5 --labels 3 -1 --clip no --table --json=c"),
    (EvaluateOptions, "--reference b --save_stats s.npz"),
    (SearchOptions, "run --reference b --before=80 2 --count 5 --count 7 --device cuda"),
    (EditOptions, "run a b --task denoise --sigma 0.5 --noisy --seed 3"),
    (EditOptions, "run --task inpaint --out o -- -a b"),
    (FigureOptions, "--run r --labels 1 2 --device cpu"),
    (FigureOptions, "--only 1a analytic --out elsewhere"),
    (ExperimentOptions, "--only delta teacher-ema"),
    (PrepareOptions, "images --split test --size 8 --grey --workers 2"),
    (import_checkpoint.Options, "f.pt --out o --no-average --dropout 1e-1 --qkv head-first --time-scale 4"),
    (export_checkpoint.Options, "run --out f"),
]


@pytest.mark.parametrize(("kind", "line"), GOOD)
def test_good_words_are_read_as_tyro_reads_them(kind: Any, line: str) -> None:
    words = line.split()
    assert parse_options(kind, words, "it") == tyro.cli(kind, args=words)


def test_presets_and_profiles_are_defaults_that_other_options_change(tmp_path: Path) -> None:
    profile = tmp_path / "cluster.toml"
    profile.write_text("nodes = 3\nminutes = 7\n")
    job = [f"--profile={profile}", "--job.minutes=9", "--slurm"]
    words = [
        "--config",
        "digits",
        "--acceptance.accuracy",
        "None",
        "--method.mu0",
        "0.9",
        "--data.no-flip",
        "--network.multipliers=1",
        "2",
        "3",
    ]
    launch = parse_launch([*words, "--network.attention-resolutions", *job])
    assert (launch.job.nodes, launch.job.minutes) == (3, 9)
    assert (launch.config.acceptance.accuracy, launch.config.method.mu0, launch.config.data.flip) == (None, 0.9, False)
    assert (launch.config.network.multipliers, launch.config.network.attention_resolutions) == ((1, 2, 3), ())
    assert launch.config.train == PRESETS["digits"]().train
    sampling = parse_sampling(["run", *job])
    assert (sampling.job, str(sampling.model)) == (launch.job, "run")


def test_words_that_tyro_refuses_and_the_commands_took() -> None:
    read = parse_options(EditOptions, ["--task", "superres", "run", "--patch", "4", "a", "--out=-o", "b"], "it")
    assert (str(read.model), read.images, read.patch, str(read.out)) == ("run", ("a", "b"), 4, "-o")
    assert parse_options(FigureOptions, ["--run", "r", "--sheet", "2", "3", "--seed", "1"], "it").sheet == (2, 3)
    models = ["--labels=3", "run", "--reference", "b", "--out", "None"]
    assert parse_options(SearchOptions, models, "it") == SearchOptions(
        model=read.model, reference="b", labels=(3,), out=type(read.model)("None")
    )
