"""`sample` names a first noise level other than sigma_max, and takes endings in any case."""

from pathlib import Path

import pytest
from tests.edit.test_edit import network

from ict_ref.data.image_files import read_pixels
from ict_ref.evaluate.__main__ import main as evaluate
from ict_ref.sample.__main__ import main as sample


@pytest.mark.parametrize(
    ("sigmas", "said"), [((), False), (("80", "0.8"), False), (("40", "0.8"), True), (("79.9",), True)]
)
def test_a_first_level_other_than_sigma_max_is_said(
    sigmas: tuple[str, ...], said: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = network(tmp_path, channels=1, classes=0)
    levels = ["--sigmas", *sigmas] if sigmas else []
    line = f"{path}: the first noise level is {sigmas[0] if sigmas else ''} and not sigma_max, 80\n"
    assert sample([path, *levels, "--count", "2", "--device", "cpu", "--out", str(tmp_path / "a.npz")]) == 0
    assert (line in capsys.readouterr().out) == said
    assert evaluate([path, *levels, "--count", "8", "--reference", "digits:held-out", "--device", "cpu"]) == 0
    assert (line in capsys.readouterr().out) == said


@pytest.mark.parametrize("name", ["a.NPZ", "a.Npz", "a.PNG"])
def test_an_ending_in_any_case_says_what_is_written(name: str, tmp_path: Path) -> None:
    path, _ = network(tmp_path, channels=1, classes=0)
    assert sample([path, "--count", "4", "--device", "cpu", "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / name).is_file()
    assert (tmp_path / f"{name}.json").is_file()
    count, height = (1, 2 * 40 + 2) if name.endswith("PNG") else (4, 8)
    assert read_pixels(tmp_path / name).shape[::2] == (count, height)
