"""The examples of docs/python.md, and the interface that the package offers."""

import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.support.runs import unchecked

import ict_ref
from ict_ref.data.image_files import read_pixels
from ict_ref.sample.__main__ import main as sample

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMAND = re.findall(r"^python -m ict_ref.sample (.*)$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Work in a folder with my_digits.py, the run that it leaves, and its module as `import` finds it."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "my_digits.py").write_text(BLOCKS[0])
    with pytest.MonkeyPatch.context() as patch, unchecked():
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        runpy.run_path("my_digits.py", run_name="__main__")
        yield folder
    sys.modules.pop("my_digits", None)


def test_the_first_example_has_fifteen_lines_and_is_checked_by_mypy() -> None:
    assert sum(bool(line.strip()) for line in BLOCKS[0].splitlines()) == 15
    for number, name in enumerate(("my_digits.py", "sample_it.py")):  # which mypy checks with all tests
        assert (ROOT / "tests" / "support" / "page" / name).read_text() == BLOCKS[number]


def test_the_command_and_the_second_example_make_the_same_images(place: Path) -> None:
    names: dict[str, object] = {}
    exec(compile(BLOCKS[1], "<second example>", "exec"), names)  # noqa: S102
    images, run = names["images"], names["run"]
    assert isinstance(images, torch.Tensor)
    assert isinstance(run, ict_ref.Run)
    (arguments,) = COMMAND
    assert sample([*arguments.split(), "--out", "made"]) == 0
    assert torch.equal(images, read_pixels(Path("made")))
    assert images.shape == (10, 1, 8, 8)
    assert torch.equal(ict_ref.Run.load("runs/copy", "my_digits:Net").sample(2), run.sample(2))


def test_the_run_has_learned_something(place: Path) -> None:
    # Corners of a digit's image are black, and its middle is not: noise would have a mean of 127 everywhere.
    images = ict_ref.Run.load("runs/mine", "my_digits:Net").sample(64).double()
    assert images[:, 0, :, 0].mean() < 40
    assert images[:, 0, 2:6, 3:5].mean() > 90


def test_the_third_example_runs(place: Path) -> None:
    exec(compile(BLOCKS[2], "<third example>", "exec"), {})  # noqa: S102


def test_the_note_names_the_script(place: Path) -> None:
    with pytest.raises(ValueError, match=r"Give --network my_digits:Net to sample"):
        ict_ref.Run.load("runs/mine")


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, ict_ref; ict_ref.__version__; dir(ict_ref); assert 'torch' not in sys.modules; ict_ref.Run.load"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' in sys.modules"], check=True)


def test_a_missing_package_is_one_line() -> None:
    code = "import sys; sys.modules['safetensors'] = None; from ict_ref import Run"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    line = done.stderr.splitlines()[-1]
    assert line.startswith("ImportError: ict_ref.Run: expected the package safetensors")
    assert line.endswith("Run pip install 'safetensors>=0.5'.")


def test_the_package_has_these_names_only() -> None:
    assert ict_ref.__all__ == ["Run", "__version__", "loss", "train"]
    assert {"Run", "loss", "train"} <= set(dir(ict_ref))
    with pytest.raises(AttributeError, match=r"^module 'ict_ref' has no attribute 'sing'$"):
        ict_ref.sing  # type: ignore[attr-defined]  # noqa: B018
    named = re.search(r"^\| (`Run`.*?) \| `ict_ref` \|$", PAGE, re.MULTILINE)
    assert named is not None
    assert named[1] == "`Run`, `train`, `loss`"
