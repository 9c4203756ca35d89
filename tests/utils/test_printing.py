"""Names that cannot be printed are escaped, and never end a command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.edit.test_edit import network
from tests.support.datasets import random_images, write_images

from ict_ref.edit.__main__ import main as edit
from ict_ref.evaluate.__main__ import main as evaluate
from ict_ref.prepare.__main__ import main as prepare
from ict_ref.sample.__main__ import main as sample

STREAMS = {
    "strict UTF-8": {"PYTHONIOENCODING": "utf-8:strict"},
    "ASCII": {"PYTHONIOENCODING": "ascii"},
    "C locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
NAMES = [b"caf\xe9", "собака".encode(), b"two\xff\xfe"]


def done(environment: dict[str, str], *words: str | bytes) -> subprocess.CompletedProcess[bytes]:
    """Run a command of the package."""
    before = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    return subprocess.run(
        [sys.executable, "-m", *words], env={**before, **environment}, capture_output=True, check=False
    )


@pytest.mark.parametrize("stream", STREAMS)
def test_a_class_of_any_name_is_prepared(stream: str, tmp_path: Path) -> None:
    source = write_images(tmp_path / "set", random_images(3, 3, 4, 4), [0, 1, 2])
    for k, name in enumerate(NAMES):
        os.rename(os.fsencode(source / f"c{k}"), os.fsencode(source) + b"/" + name)  # noqa: PTH104 (not Unicode)
    out = os.fsencode(tmp_path) + b"/out-" + NAMES[0]
    made = done(STREAMS[stream], "ict_ref.prepare", str(source), "--out", out)
    assert made.returncode == 0, made.stderr
    assert b"in 3 classes" in made.stdout
    assert os.path.exists(out + b"/data.json")  # noqa: PTH110


@pytest.mark.parametrize("stream", ["strict UTF-8", "ASCII"])
def test_samples_are_written_to_any_name(stream: str, tmp_path: Path) -> None:
    path, _ = network(tmp_path, channels=1, classes=0)
    place = os.fsencode(tmp_path) + b"/" + NAMES[0] + b".npz"
    made = done(STREAMS[stream], "ict_ref.sample", path, "--count", "2", "--device", "cpu", "--out", place)
    assert made.returncode == 0, made.stderr
    assert b"caf\\udce9.npz" in made.stdout
    assert os.path.exists(place)  # noqa: PTH110


def test_what_a_command_prints_of_a_path_has_no_control_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "a\u202eb\x1b[2J\nc"
    odd.mkdir()
    path, _ = network(odd, channels=1, classes=0)
    images = write_images(odd / "set", random_images(9, 1, 8, 8), [0] * 9)
    on_cpu = ["--device", "cpu"]
    scored = ["--features", "pixels", "--reference", str(images)]
    commands = [
        (sample, [path, "--count", "8", *on_cpu, "--out", str(odd / "o.npz")]),
        (evaluate, [str(odd / "o.npz"), *scored, "--json", str(odd / "o.json")]),
        (evaluate, [*scored, "--save-stats", str(odd / "stats.npz")]),
        (edit, [path, str(images), "--task", "denoise", *on_cpu, "--out", str(odd / "edited")]),
        (prepare, [str(images), "--out", str(odd / "data")]),
        (prepare, ["--check", str(odd / "data")]),
    ]
    for main, words in commands:
        assert main(words) == 0
        out = capsys.readouterr().out
        assert all(line.isprintable() for line in out.split("\n")), words
        assert out.count("\n") == len(out.splitlines())
