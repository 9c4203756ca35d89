"""Levels below the cut of TCM's second stage, which is not trained there, wherever a level can be given.

Oracle: the network F called by hand, with EDM's coefficients.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.support.one_line import rejection
from tests.support.runs import unchecked

import ict_ref
from ict_ref import export_checkpoint
from ict_ref.checkpoint.load import load_pretrained
from ict_ref.checkpoint.network_file import export, load_exported
from ict_ref.checkpoint.openai_file import content
from ict_ref.config import minimal
from ict_ref.edit.__main__ import main as edit
from ict_ref.evaluate.__main__ import main as evaluate
from ict_ref.figures.samples import planned
from ict_ref.launch.__main__ import main as launch
from ict_ref.networks.model import build_model
from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.sample.__main__ import main as sample
from ict_ref.search.__main__ import main as search

CUT = 1.5
REASON = "levels from 1.5 on, the cut of this model of TCM's second stage, which is not trained below, got"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run of TCM's second stage, and with its network file."""
    here = tmp_path_factory.mktemp("cut")
    state = build_model(minimal(), event=(1, 8, 8), classes=10).network.state_dict()
    generator = torch.Generator().manual_seed(0)
    noisy = {name: 0.1 * torch.randn(value.shape, generator=generator) for name, value in state.items()}
    given = NetworkCheckpoint(options=minimal().network, channels=1, size=8, classes=10, state=noisy)
    export(given, here / "first.safetensors")
    command = ["--config", "minimal", "--method.objective", "tcm", "--train.init", str(here / "first.safetensors")]
    options = ["--tuning.sigma-cut", str(CUT), "--sample.two-step-sigma", str(CUT), "--train.steps", "8"]
    none = [f"--acceptance.{name}=None" for name in ("accuracy", "frechet-distance", "recall")]
    with unchecked():
        assert launch([*command, *options, *none, "--out", str(here / "run")]) == 0
    assert export_checkpoint.main([str(here / "run"), "--out", str(here / "file.safetensors")]) == 0
    return here


Command = tuple[str, Callable[[list[str]], int], list[str]]
SAMPLE: Command = ("ict_ref.sample", sample, ["--count", "2"])
EVALUATE: Command = ("ict_ref.evaluate", evaluate, ["--reference", "digits:held-out", "--count", "4"])
SEARCH: Command = ("ict_ref.search", search, ["--reference", "digits:held-out", "--count", "4", "--nodes", "5"])
EDIT: Command = ("ict_ref.edit", edit, ["digits:held-out", "--count", "2"])


@pytest.mark.parametrize("model", ["run", "file.safetensors"])
@pytest.mark.parametrize(
    ("command", "options", "says"),
    [
        (SAMPLE, ["--sigmas", "80", "0.5"], f"--sigmas: expected {REASON} 0.5. Leave out levels below the cut"),
        (SAMPLE, ["--sigmas", "80", "1.4999"], f"--sigmas: expected {REASON} 1.4999. Leave"),
        (SAMPLE, ["--sigmas", "80", "2", "1", "0.5"], f"--sigmas: expected {REASON} 1 0.5. Leave"),
        (SAMPLE, ["--sigmas", "0.8"], f"--sigmas: expected {REASON} 0.8. Leave"),
        (EVALUATE, ["--sigmas", "80", "0.821"], f"--sigmas: expected {REASON} 0.821. Leave"),
        (SEARCH, ["--before", "80", "0.8"], f"--before: expected {REASON} 0.8. Leave"),
        (SEARCH, ["--after", "0.8"], f"--after: expected {REASON} 0.8. Leave"),
        (EDIT, ["--task", "inpaint", "--sigmas", "80", "0.002"], f"--sigmas: expected {REASON} 0.002. Leave"),
        (EDIT, ["--task", "stroke", "--sigmas", "5", "0.6"], f"--sigmas: expected {REASON} 0.6. Leave"),
        (EDIT, ["--task", "denoise"], f"--sigmas: expected {REASON} 0.5. Leave"),
    ],
)
def test_a_level_below_the_cut_is_rejected_in_one_line(
    command: Command, options: list[str], says: str, model: str, place: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    name, main, given = command
    capsys.readouterr()
    out = [] if main is evaluate else ["--out", str(tmp_path / ("out.npz" if main is sample else "out"))]
    assert main([str(place / model), *given, *options, *out]) == 2
    assert says in rejection(capsys, name)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_scores_of_every_checkpoint_are_rejected_too(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    arguments = ["--reference", "digits:held-out", "--count", "4", "--every-milestone", "--sigmas", "80", "0.8"]
    assert evaluate([str(place / "run"), *arguments]) == 2
    assert f"--sigmas: expected {REASON} 0.8. Leave" in rejection(capsys, "ict_ref.evaluate")
    assert not (place / "run/curve.json").exists()


def test_levels_from_the_cut_on_are_taken(place: Path, tmp_path: Path) -> None:
    """By default a search has its grid, and an edited image its levels, from the cut on"""
    model = str(place / "file.safetensors")
    options = ["--reference", "digits:held-out", "--count", "4", "--nodes", "5"]
    inpainting = ["digits:held-out", "--count", "2", "--task", "inpaint"]
    with unchecked():
        assert sample([model, "--count", "2", "--sigmas", "80", "1.5", "--out", str(tmp_path / "s.npz")]) == 0
        assert search([model, *options, "--out", str(tmp_path / "search")]) == 0
        assert edit([model, *inpainting, "--out", str(tmp_path / "edit")]) == 0
    rows = (tmp_path / "search/scores.csv").read_text().splitlines()[1:]
    levels = [float(row.split(",")[0].split()[1]) for row in rows if " " in row.split(",")[0]]
    assert len(levels) >= 3
    assert min(levels) >= CUT
    sigmas = json.loads((tmp_path / "edit/edit.json").read_text())["sigmas"]
    assert (len(sigmas), sigmas[0], sigmas[-1]) == (40, 80, pytest.approx(CUT, rel=1e-12))


def test_the_python_interface_rejects_them_too(place: Path) -> None:
    for name in ("run", "file.safetensors"):
        run = ict_ref.Run.load(place / name)
        assert run.sample(2, sigmas=[80.0, CUT]).shape == (2, 1, 8, 8)
        with pytest.raises(ValueError, match=r"--sigmas: expected levels from 1\.5 on"):
            run.sample(2, sigmas=[80.0, 1.0])
        x, labels = torch.ones(2, 1, 8, 8), torch.tensor([1, 2])
        with pytest.raises(ValueError, match=r"sigma: expected levels from 1\.5 on.*got 1\.4"):
            run.model(x, torch.tensor([80.0, 1.4]), labels)
        value = run.model(x, torch.tensor([CUT, CUT]), labels)
        root = math.sqrt(0.25 + CUT**2)
        free = run.model.network(x / root, torch.full((2,), math.log(CUT) / 4), labels)
        torch.testing.assert_close(value, 0.25 / root**2 * x + CUT * 0.5 / root * free, rtol=1e-5, atol=1e-6)


def test_a_cut_that_float32_rounds_down_is_not_below_itself(place: Path) -> None:
    """float32 has 0.7 as 0.699999988"""
    given = load_exported(place / "file.safetensors")
    model = NetworkCheckpoint(**{**vars(given), "sigma_cut": 0.7}).model()
    x, labels = torch.ones(1, 1, 8, 8), torch.tensor([1])
    assert model(x, torch.tensor([0.7]), labels).shape == x.shape
    assert model(x, torch.tensor([0.7], dtype=torch.float64), labels).shape == x.shape
    with pytest.raises(ValueError, match=r"sigma: expected levels from 0\.7 on"):
        model(x, torch.tensor([0.6999]), labels)


def test_a_sheet_has_its_second_level_at_the_cut_or_above(place: Path) -> None:
    """0.821 is the second level of network files"""
    for name in ("run", "file.safetensors"):
        recipes, _, _ = planned(load_pretrained(place / name), (1, 2), (), 0)
        assert [list(recipe.levels) for recipe in recipes.values()] == [[80], [80, CUT]]


def test_a_second_stage_does_not_start_from_another_one(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its frozen function would have to be trained below the cut"""
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    command = ["--config", "minimal", "--method.objective", "tcm", "--sample.two-step-sigma", "2", "--out", "run"]
    assert launch([*command, "--train.init", str(place / "file.safetensors")]) == 2
    expected = "--train.init: expected weights that are trained below --tuning.sigma-cut, got the second stage"
    assert expected in rejection(capsys, "ict_ref.launch")
    assert not Path("run").exists()


def test_a_file_stores_the_cut_only_if_there_is_one(place: Path, tmp_path: Path) -> None:
    given = load_exported(place / "file.safetensors")
    assert given.sigma_cut == CUT
    assert b"sigma_cut" not in (place / "first.safetensors").read_bytes()
    for cut in (-1.0, 80.0, math.inf, math.nan):
        wrong = tmp_path / f"{cut}.safetensors"
        export(NetworkCheckpoint(**{**vars(given), "sigma_cut": cut}), wrong)
        with pytest.raises(ValueError, match=r"sigma_cut: expected 0 <= cut < 80\.0"):
            load_exported(wrong)


def test_openai_s_code_does_not_have_its_coefficients(place: Path) -> None:
    with pytest.raises(ValueError, match="--format openai: expected CM's coefficients, which openai's code"):
        content(load_exported(place / "file.safetensors"))
