"""Values of options: home folders, several values, near words, and a help that ends in any width."""

import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from ict_ref.__main__ import main as ict_ref
from ict_ref.evaluate.__main__ import main as evaluate
from ict_ref.figures.__main__ import main as figures
from ict_ref.launch.__main__ import main as launch
from ict_ref.plan.__main__ import main as plan
from ict_ref.prepare.__main__ import main as prepare
from ict_ref.sample.__main__ import main as sample
from ict_ref.sample.options import Sampling
from ict_ref.utils.option_parser import Several, given_options, parse_options
from ict_ref.verify.__main__ import main as verify


@dataclass(frozen=True)
class Options:
    """Options of some kinds."""

    place: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="PLACE")] = None
    """Place."""
    out: Path | None = None
    """Folder."""
    reference: str = ""
    """Folder or name."""
    sigmas: Several[float] = ()
    """Levels."""
    labels: Several[int] = ()
    """Labels."""
    size: tuple[int, int] = (1, 1)
    """Width and height."""
    kind: Literal["exponential", "sqrt"] | None = None
    """Kind."""
    auto: bool | Literal["auto"] = "auto"
    """A flag or auto."""


def parsed(*words: str) -> Options:
    return parse_options(Options, words, "it")


def test_a_home_folder_is_expanded_wherever_a_path_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert parsed("--out=~/x").out == Path("/home/me/x")
    assert parsed("--out", "~").out == Path("/home/me")
    assert parsed("--reference=~/data").reference == "/home/me/data"
    assert parsed("~/x").place == Path("/home/me/x")
    # Names that begin with ~ are names, and so is ~ after the beginning.
    for name in ("~backup.png", "a/~/b", "./~/x", "~nobody-of-this-name/x"):
        assert parsed(f"--out={name}").out == Path(name)


def test_without_a_home_folder_the_option_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as for a user without an entry and HOME
    with pytest.raises(ValueError, match=r"^--out: expected a path, got ~/x, whose home folder is not known"):
        parsed("--out=~/x")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--sigmas", "80,0.821"),
            "--sigmas: expected numbers, got 80,0.821. Separate values by spaces: --sigmas 80 0.8",
        ),
        (("--sigmas=80,0.821",), "Separate values by spaces: --sigmas 80 0.821"),
        (("--sigmas", "80, 0.821"), "Separate values by spaces: --sigmas 80 0.821"),
        (("--labels", "3,4,5"), "--labels: expected integers, got 3,4,5. Separate values by spaces: --labels 3 4 5"),
        (("--size", "32,64"), "Separate values by spaces: --size 32 64"),
        (("--kind", "Exp"), "expected one of exponential, sqrt, got Exp; perhaps you meant exponential"),
        (("--kind", "SQRT"), "perhaps you meant sqrt"),
        (("--auto=ture",), "perhaps you meant true"),
        (("--Out", "x"), "unknown option --Out; perhaps you meant --out"),
    ],
)
def test_a_wrong_value_has_advice(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match="it --help") as refused:
        parsed(*words)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("main", "words", "near"),
    [
        (launch, ["--config", "CIFAR-10"], "cifar10"),
        (launch, ["--config", "digits", "--machine.device", "CUDA"], "cuda"),
        (launch, ["--config", "digits", "--profile", "a10"], "a100"),
        (plan, ["--config", "imagenet-64"], "imagenet64"),
        (plan, ["--config", "cifar10", "--gpu", "A100"], "a100"),
        (figures, ["--only", "fig_1a"], "1a"),
        (evaluate, ["digits:train", "--reference", "digits:held-out", "--features", "digit"], "digits"),
        (evaluate, ["digits:trian", "--reference", "digits:held-out"], "digits:train"),
        (evaluate, ["digits:train", "--reference", "Digits:held_out"], "digits:held-out"),
        (verify, ["json", "--only", "c_inn"], "c_in"),
        (verify, ["audit", "stpe"], "step"),
        (ict_ref, ["lanch"], "launch"),
        (ict_ref, ["eq", "psuedo_huber"], "pseudo_huber"),
    ],
)
def test_every_command_names_the_nearest_of_its_words(
    main: "contextlib.AbstractContextManager[object]", words: list[str], near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2  # type: ignore[operator]
    (line,) = capsys.readouterr().err.splitlines()
    assert "perhaps you meant " in line, line
    assert near in line.partition("perhaps you meant ")[2]


@pytest.mark.parametrize("columns", ["1", "3", "wide"])
def test_the_help_ends_in_any_width(columns: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ict_ref.prepare", "--help"],
        env={**os.environ, "COLUMNS": columns}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--workers" in done.stdout


@pytest.mark.parametrize(
    ("words", "last"),
    [
        (["--count", "2", "--count", "3"], ["--count", "3"]),
        (["--sigmas", "80", "1", "--sigmas", "80"], ["--sigmas", "80"]),
        (["--out", "a", "--seed", "1", "--out=b", "--seed", "2"], ["--out", "b", "--seed", "2"]),
    ],
)
def test_the_last_value_of_an_option_is_taken(words: list[str], last: list[str]) -> None:
    given, _ = given_options(Sampling, ["run", *words], "ict_ref.sample")
    assert given == given_options(Sampling, ["run", *last], "ict_ref.sample")[0]


@pytest.mark.parametrize("option", ["--sigmas", "--labels"])
def test_an_option_without_its_values_is_named(option: str) -> None:
    with pytest.raises(ValueError, match=f"^{option}: expected .*s, got nothing"):
        given_options(Sampling, ["run", option, "--count", "2"], "ict_ref.sample")


@pytest.mark.parametrize(
    ("main", "words", "name"),
    [
        (sample, ["run", "--out", ""], "--out"),
        (sample, ["", "--count", "1"], "RUN|FILE"),
        (prepare, ["set", "--out="], "--out"),
        (launch, ["--config", "digits", "--dry-run", "--out", ""], "--out"),
        (figures, ["--only", "1a", "--out", ""], "--out"),
    ],
)
def test_an_empty_path_is_not_the_working_directory(
    main: "contextlib.AbstractContextManager[object]", words: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2  # type: ignore[operator]
    (line,) = capsys.readouterr().err.splitlines()
    assert f": {name}: expected a path, got an empty one" in line
