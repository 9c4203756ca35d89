"""Options that `python -m ict_ref.edit` rejects, with one line and status 2; it writes nothing."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.edit.test_edit import network
from tests.support.datasets import random_images

from ict_ref.edit.__main__ import main


def everything(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its content, and every folder."""
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with networks of grey and of colour, images and masks of all kinds."""
    here = tmp_path_factory.mktemp("refused")
    for name, channels, classes in (("grey", 1, 10), ("plain", 1, 0)):
        path, _ = network(here, channels, classes)
        Path(path).rename(here / f"{name}.safetensors")
    for name, size in (("8", 8), ("4", 4), ("9", 9)):
        Image.fromarray(random_images(1, size, size)[0]).save(here / f"{name}.png")
    Image.fromarray(random_images(1, 8, 8, 3)[0]).save(here / "rgb.png")
    Image.new("L", (4, 8), "white").save(here / "narrow.png")
    Image.new("L", (8, 8), "black").save(here / "black.png")
    (here / "cut.png").write_bytes((here / "8.png").read_bytes()[:60])
    for name in ("empty", "mixed", "there"):
        (here / name).mkdir()
    for name in ("8.png", "9.png"):
        shutil.copy(here / name, here / "mixed")
    np.savez(here / "floats.npz", arr_0=np.zeros((2, 8, 8, 3)))
    return here


INPAINT = ["--task", "inpaint", "--labels", "3"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "RUN|FILE: expected a path, got nothing; see python -m ict_ref.edit --help"),
        (["--task", "stroke"], "RUN|FILE: expected a path, got nothing"),
        (
            ["grey", "8.png"],
            "--task: expected one of inpaint, colorize, superres, stroke, denoise, interpolate, got noth",
        ),
        (
            ["grey", "8.png", "--task", "erase"],
            "--task: expected one of inpaint, colorize, superres, stroke, denoise, interpolate, got erase",
        ),
        (["grey", "8.png", *INPAINT, "--msk", "left"], "unknown option --msk; perhaps you meant --mask"),
        (["grey", *INPAINT], "IMAGE: expected files, folders, .npz or digits:held-out for --task inpaint, got"),
        (["grey", "8.png", *INPAINT, "--out", "there"], "--out: expected a new path, got there."),
        (["nowhere", "8.png", *INPAINT], "nowhere does not exist"),
        (["8.png", "8.png", *INPAINT], "8.png is damaged or not safetensors"),
        (["grey", "nowhere.png", *INPAINT], "nowhere.png does not exist"),
        (["grey", "cut.png", *INPAINT], "cut.png is not an image that can be used"),
        (["grey", "empty", *INPAINT], "empty has no images in it"),
        (["grey", "mixed", *INPAINT], "expected images of one size"),
        (["grey", "floats.npz", *INPAINT], "expected uint8 images"),
        (["grey", "9.png", *INPAINT], "9.png: expected images of 8x8 for the model, got 9x9. Crop a folder"),
        (["grey", "8.png", "9.png", *INPAINT], "9.png: expected images of 8x8 for the model, got 9x9"),
        (["grey", "rgb.png", *INPAINT], "rgb.png: expected grey images for the model, got colour. Convert them"),
        (["grey", "8.png", "--task", "colorize", "--labels", "1"], "expected a model of colour images for colorize"),
        (
            ["grey", "8.png", "--task", "inpaint"],
            "--labels: expected one label for all images or one per image, got nothing",
        ),
        (["grey", "digits:held-out", "8.png", "--task", "inpaint"], "safetensors was trained with labels"),
        (["grey", "8.png", "--task", "inpaint", "--labels", "10"], "--labels: expected classes from 0 to 9, got 10"),
        (["grey", "8.png", "--task", "inpaint", "--labels", "-1"], "--labels: expected classes from 0 to 9, got -1"),
        (
            ["grey", "8.png", "--task", "inpaint", "--labels", "1", "2"],
            "one label for all 1 images or one per image, got 2",
        ),
        (["grey", "8.png", "--task", "inpaint", "--labels", "one"], "--labels: expected integers, got one"),
        (["plain", "8.png", *INPAINT], "--labels: expected a model with labels, got plain.safetensors"),
        (["grey", "8.png", *INPAINT, "--count", "2"], "--count: expected at most 1, the number of images, got 2"),
        (["grey", "8.png", *INPAINT, "--count", "0"], "--count: expected an integer >= 1, got 0"),
        (["grey", "8.png", *INPAINT, "--seed", "-1"], "--seed: expected integers from 0 to 2^128 - 1, got -1"),
        (["grey", "8.png", *INPAINT, "--seed", "1", "2"], "--seed: expected 1 for --task inpaint, got 2"),
        (["grey", "8.png", *INPAINT, "--seed", str(2**128)], "--seed: expected integers from 0 to"),
        (["grey", "8.png", *INPAINT, "--sigmas", "1", "1"], "--sigmas: expected levels that descend, got 1 1"),
        (["grey", "8.png", *INPAINT, "--sigmas", "1", "2"], "--sigmas: expected levels that descend, got 1 2"),
        (["grey", "8.png", *INPAINT, "--sigmas", "81", "2"], "--sigmas: expected levels from 80 to 0.002"),
        (["grey", "8.png", *INPAINT, "--sigmas", "8", "0.001"], "--sigmas: expected levels from 80 to 0.002"),
        (["grey", "8.png", *INPAINT, "--sigmas", "nan"], "--sigmas: expected levels above 0, got nan"),
        (["grey", "8.png", *INPAINT, "--sigmas", "inf", "1"], "--sigmas: expected levels above 0, got inf 1"),
        (
            ["grey", "8.png", *INPAINT, "--mask", "narrow.png"],
            "--mask: expected the size of the images, 8x8, got 4x8 in narrow.png",
        ),
        (["grey", "8.png", *INPAINT, "--mask", "black.png"], "--mask: expected white pixels in black.png"),
        (
            ["grey", "8.png", *INPAINT, "--mask", "rgb.png"],
            "--mask: expected one black and white image in rgb.png, got 1 with 3",
        ),
        (
            ["grey", "8.png", *INPAINT, "--mask", "middle"],
            "--mask: expected left, right, top, bottom, center, random or an",
        ),
        (["grey", "8.png", *INPAINT, "--patch", "2"], "--patch: expected --task superres, got --task inpaint"),
        (["grey", "8.png", *INPAINT, "--noisy"], "--noisy: expected --task denoise, got --task inpaint"),
        (["grey", "8.png", "--task", "stroke", "--mask", "top"], "--mask: expected --task inpaint, got --task stroke"),
        (["grey", "8.png", *INPAINT, "--steps", "3"], "--steps: expected --task interpolate"),
        (["grey", "8.png", "--task", "superres", "--patch", "3"], "--patch: expected a divisor of 8"),
        (["grey", "8.png", "--task", "superres", "--patch", "1"], "--patch: expected an integer >= 2, got 1"),
        (
            ["grey", "9.png", "--task", "superres", "--patch", "2"],
            "9.png: expected images of 8x8 or 4x4 for the model, got 9x9",
        ),
        (["grey", "8.png", "4.png", "--task", "superres"], "4.png: expected images of 8x8 as in 8.png, got 4x4"),
        (["grey", "4.png", *INPAINT], "4.png: expected images of 8x8 for the model, got 4x4"),
        (
            ["grey", "8.png", "--task", "denoise", "--sigma", "2", "1"],
            "--sigmas: expected the one level of the noise for --task denoise, got 2 1",
        ),
        (["grey", "8.png", "--task", "interpolate"], "IMAGE: expected nothing for --task interpolate, got 8.png"),
        (["grey", "--task", "interpolate", "--sigma", "2"], "--sigmas: expected nothing for --task interpolate, got 2"),
        (["grey", "--task", "interpolate", "--seed", "2"], "--seed: expected 2 for --task interpolate, got 1"),
        (["grey", "--task", "interpolate", "--steps", "1"], "--steps: expected an integer >= 2, got 1"),
        (["grey", "--task", "interpolate", "--labels", "11"], "--labels: expected classes from 0 to 9, got 11"),
        (["grey", "8.png", *INPAINT, "--device", "cuda"], "--device: expected a GPU that torch can use for cuda"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str],
    message: str,
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    before = everything(place)
    named = [f"{word}.safetensors" if word in ("grey", "plain") else word for word in arguments]
    assert main(named) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    (line,) = streams.err.splitlines()
    assert line.startswith("ict_ref.edit: ")
    assert message in line
    assert everything(place) == before


def test_help_and_errors_come_without_importing_torch() -> None:
    code = (
        "import sys\nfrom ict_ref.edit.__main__ import main\n"
        "assert main(['run', 'a.png', '--task', 'inpaint', '--patch', '2']) == 2\n"
        "assert 'torch' not in sys.modules\nmain(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert "--patch: expected --task superres" in line
    for word in ("exit status", "inpaint", "digits:held-out", "examples:", "5.38"):
        assert word in done.stdout
    assert not re.search(r".{121}", done.stdout)
