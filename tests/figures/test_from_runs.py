"""`python -m ict_ref.figures --from RUN ...`: the paper's curves from scores of real runs."""

import csv
import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image
from tests.support.files import contents
from tests.support.one_line import rejection

from ict_ref.checkpoint.run_dir import open_run
from ict_ref.config import PRESETS, Config, Method, minimal
from ict_ref.evaluate.curve import Curve, Point
from ict_ref.figures.__main__ import main
from ict_ref.figures.from_runs import figure_from_runs
from ict_ref.figures.options import FROM_RUNS

PROTOCOL = {
    "samples": {"count": 9, "sigmas": [80.0], "labels": None, "seed": 0},
    "reference": {"name": "cifar10.npz", "statistics_sha256": "1"},
    "features": {"name": "inception.pt", "sha256": "2", "input": "uint8"},
    "k": 3,
}


def scored(folder: Path, config: Config, distances: dict[int, float], protocol: dict[str, object] = PROTOCOL) -> Path:
    """Return a run folder whose checkpoints have these Frechet distances; N(k) is the step plus 1."""
    with open_run(folder, config):
        pass
    points = tuple(
        Point(step, step + 1, "3", {"frechet_distance": distance, **dict.fromkeys(("kernel_distance",), None)})
        for step, distance in distances.items()
    )
    names = ("frechet_distance", "kernel_distance", "inception_score", "precision", "recall")
    points = tuple(
        dataclasses.replace(point, scores={**dict.fromkeys(names, None), **point.scores}) for point in points
    )
    (folder / "curve.json").write_bytes(Curve(folder.name, config.digest(), protocol, points).to_json())
    return folder


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_runs_of_the_paper_have_their_names_and_are_compared_with_its_finding() -> None:
    runs = [
        scored(Path("a"), PRESETS["fig2c_l2"](), {100: 50.0, 200: 20.0}),
        scored(Path("b"), PRESETS["fig2c_huber"](), {100: 40.0, 200: 4.0}),
        scored(Path("mine"), minimal(), {100: 30.0, 200: 7.0}),
    ]
    figure = figure_from_runs("2c", runs)
    [panel] = figure.panels
    # The preset has the constant 0.03 of Section 3.3.
    assert panel.curves == {
        "squared l2": ((100.0, 50.0), (200.0, 20.0)),
        "pseudo-Huber, c = 0.03": ((100.0, 40.0), (200.0, 4.0)),
        "mine": ((100.0, 30.0), (200.0, 7.0)),
    }
    assert "pseudo-Huber, c = 0.03 ends at 4, squared l2 ends at 20: as in the paper" in figure.caption
    assert "inception.pt of 9 samples at noise levels 80, seed 0, against cifar10.npz" in figure.caption
    assert "a, cifar10, 400000 updates of 512 images" in figure.caption


def test_figure_3a_is_by_the_number_of_noise_levels() -> None:
    [panel] = figure_from_runs("3a", [scored(Path("a"), PRESETS["fig3c_exponential"](), {10: 9.0, 20: 5.0})]).panels
    assert list(panel.curves.values()) == [((11.0, 9.0), (21.0, 5.0))]
    assert (panel.x_scale, panel.x) == ("log", "N(k), number of noise levels")


def test_a_run_that_ends_earlier_is_not_called_divergent_without_its_pair() -> None:
    figure = figure_from_runs("3c", [scored(Path("a"), PRESETS["fig3c_linear"](), {10: 9.0})])
    assert "diverges" not in figure.caption
    assert figure.caption.startswith("In the paper, the exponential curriculum is best.")


def test_equal_names_have_their_folders_added() -> None:
    config = PRESETS["fig3c_linear"]()
    other = dataclasses.replace(config, train=dataclasses.replace(config.train, seed=1))
    figure = figure_from_runs("3c", [scored(Path("a"), config, {10: 9.0}), scored(Path("b"), other, {10: 8.0})])
    assert set(figure.panels[0].curves) == {"linear (a)", "linear (b)"}


@pytest.mark.parametrize("number", FROM_RUNS)
def test_the_command_writes_picture_and_points(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    scored(Path("a"), PRESETS["fig3c_exponential"](), {10: 9.0, 20: 5.0})
    assert main(["--only", number, "--from", "a", "--out", "f"]) == 0
    assert f"f/{number}-runs.png" in capsys.readouterr().out
    with Image.open(f"f/{number}-runs.png") as picture:
        assert picture.width > 400
    rows = list(csv.DictReader(Path(f"f/{number}-runs.csv").read_text().splitlines()))
    assert [float(row["y"]) for row in rows] == [9.0, 5.0]


def test_a_figure_of_another_run_or_of_fewer_checkpoints_is_not_kept(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        scored(Path(name), minimal(), {10: 9.0})
    assert main(["--only", "3a", "--from", "a", "--out", "f"]) == 0
    before = contents(Path("f"))
    assert main(["--only", "3a", "--from", "a", "--out", "f"]) == 0
    capsys.readouterr()
    assert main(["--only", "3a", "--from", "b", "--out", "f"]) == 2
    message = "--out: expected a new path or the same file, got another f/3a-runs."
    assert message in rejection(capsys, "ict_ref.figures")
    scored(Path("a"), minimal(), {10: 9.0, 20: 5.0})
    assert main(["--only", "3a", "--from", "a", "--out", "f"]) == 2
    assert message in rejection(capsys, "ict_ref.figures")
    assert contents(Path("f")) == before


def test_scores_of_other_protocols_are_not_drawn_together(capsys: pytest.CaptureFixture[str]) -> None:
    scored(Path("a"), minimal(), {10: 9.0})
    fewer = {**PROTOCOL, "samples": {**PROTOCOL["samples"], "count": 8}}  # type: ignore[dict-item]
    scored(Path("b"), minimal(), {10: 9.0}, fewer)
    assert main(["--only", "3c", "--from", "a", "b"]) == 2
    assert "--from: expected scores with samples.count 9, as in a, got 8 in b" in rejection(capsys, "ict_ref.figures")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from", "a"], "--only: expected some of 1b, 1c, 2a, 2b, 2c, 3a, 3c, 4b with --from, got nothing"),
        (
            ["--only", "1a", "--from", "a"],
            "--only: expected some of 1b, 1c, 2a, 2b, 2c, 3a, 3c, 4b with --from, got 1a",
        ),
        (["--only", "3a", "--from", "a", "--run", "a"], "--run: expected only without --from"),
        (["--only", "3a", "--from", "nowhere"], "nowhere/curve.json does not exist. Write it with python -m"),
        (["--only", "3a", "--from"], "--from: expected paths, got nothing"),
    ],
)
def test_bad_options_are_rejected(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    scored(Path("a"), minimal(), {10: 9.0})
    assert main(options) == 2
    assert message in rejection(capsys, "ict_ref.figures")


def test_a_run_without_a_finite_score_is_an_empty_curve() -> None:
    folder = scored(Path("a"), dataclasses.replace(minimal(), method=Method()), {})
    assert json.loads((folder / "curve.json").read_text())["points"] == []
    assert figure_from_runs("3a", [folder]).panels[0].curves == {"a": ()}
