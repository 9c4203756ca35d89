"""`python -m ict_ref.search` on a run of a few steps.

Oracle: samples step by step, and the Frechet distance by the eigenvalues of the product.
"""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.files import contents
from tests.support.one_line import rejection
from tests.support.runs import short_run

from ict_ref.checkpoint.load import load_pretrained
from ict_ref.data.dataset import digits
from ict_ref.data.image_files import write_npz
from ict_ref.evaluate.measured import measure_together
from ict_ref.sample.images import images
from ict_ref.search import find as finding
from ict_ref.search.__main__ import main
from ict_ref.search.find import most_scores
from ict_ref.search.work import falls_then_rises

COUNT = 60
OPTIONS = ["--reference", "digits:held-out", "--count", str(COUNT)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run."""
    return short_run(tmp_path_factory.mktemp("search") / "run")


def scores(folder: Path) -> dict[tuple[float, ...], float]:
    """Return what was scored."""
    with (folder / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {tuple(map(float, row["sigmas"].split())): float(row["frechet_distance"]) for row in rows}


def by_hand(run: Path, sigmas: list[float]) -> float:
    """Return the Frechet distance of these samples to the held-out digits."""
    trained = load_pretrained(run)
    labels = torch.arange(COUNT) % 10
    made = images(trained.model, labels, sigmas, count=COUNT, event=trained.event, seed=0)
    a, b = (x.numpy().reshape(len(x), -1) / 127.5 - 1 for x in (made, digits().held_out.pixels))
    covariances = np.cov(a.T), np.cov(b.T)
    of_root = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).real.clip(0)).sum()
    mean = np.square(a.mean(0) - b.mean(0)).sum()
    return float(mean + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * of_root)


def test_of_few_nodes_each_is_scored_and_the_best_one_found(run: Path, tmp_path: Path) -> None:
    assert main([str(run), *OPTIONS, "--nodes", "4", "--out", str(tmp_path / "s")]) == 0
    rho = 7.0
    nodes = [(0.002 ** (1 / rho) + i / 3 * (80 ** (1 / rho) - 0.002 ** (1 / rho))) ** rho for i in range(3)]
    wanted = {sigma: by_hand(run, [80.0, max(sigma, 0.002)]) for sigma in nodes}
    found = json.loads((tmp_path / "s" / "search.json").read_text())["found"]
    scored = scores(tmp_path / "s")
    for sigma, score in wanted.items():
        (ours,) = [value for levels, value in scored.items() if len(levels) == 2 and abs(levels[1] / sigma - 1) < 1e-9]
        assert ours == pytest.approx(score, rel=1e-5)
    best = min(wanted, key=lambda sigma: wanted[sigma])
    assert found["sigma"] == pytest.approx(best)
    assert found["node"] == 1 + nodes.index(best)
    assert b"<svg" in (tmp_path / "s" / "curve.svg").read_bytes()[:1000]
    assert np.asarray(Image.open(tmp_path / "s" / "curve.png")).std() > 10  # something is drawn
    assert found["frechet_distance_without"] == pytest.approx(by_hand(run, [80.0]), rel=1e-5)


def test_stopped_it_goes_on_and_scores_nothing_twice(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(run), *OPTIONS, "--nodes", "40"]
    calls = list[str]()

    def counted(*arguments: object, what: str, **options: object) -> object:
        calls.append(what)
        if what == "samples" and calls.count("samples") == 4:
            raise KeyboardInterrupt
        return measure_together(*arguments, what=what, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(finding, "measure_together", counted)
    assert main([*command, "--out", str(tmp_path / "stopped")]) == 130
    assert "stopped; the same command resumes" in capsys.readouterr().err
    assert len(scores(tmp_path / "stopped")) == 3
    assert main([*command, "--out", str(tmp_path / "stopped")]) == 0
    total = calls.count("samples") - 1
    assert main([*command, "--out", str(tmp_path / "whole")]) == 0
    assert calls.count("samples") - 1 == 2 * total
    assert scores(tmp_path / "stopped") == scores(tmp_path / "whole")
    assert len(scores(tmp_path / "whole")) == total <= most_scores(40) + 1
    first = (tmp_path / "whole" / "search.json").read_text()
    assert main([*command, "--out", str(tmp_path / "whole")]) == 0
    assert calls.count("samples") - 1 == 2 * total
    assert (tmp_path / "whole" / "search.json").read_text() == first


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_two_processes_find_what_one_finds(run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ict_ref.search", str(run), *OPTIONS, "--nodes", "5", "--device", "cpu"]
    for count in ("1", "2"):
        done = subprocess.run(
            [*command, "--processes", count, "--out", str(tmp_path / count)], check=True, capture_output=True, text=True
        )
        assert done.stdout.count("<- best") == 1
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    # A finished search is resumed by the first process alone.
    assert main([str(run), *OPTIONS, "--nodes", "5", "--out", str(tmp_path / "2")]) == 0


def test_the_options_of_the_samples_are_in_the_description(run: Path, tmp_path: Path) -> None:
    options = ["--nodes", "3", "--truncate", "--label-order", "random", "--out", str(tmp_path / "s")]
    assert main([str(run), *OPTIONS, *options]) == 0
    search = json.loads((tmp_path / "s" / "search.json").read_text())["search"]
    assert (search["quantisation"], search["labels"]) == ("rounded down to 256 values", "all, at random")
    assert "device" not in search


def test_scores_with_one_valley_are_told_from_others() -> None:
    assert falls_then_rises([3.0, 2.0, 2.0, 1.0, 5.0, 5.0, 6.0])
    assert falls_then_rises([1.0])
    assert falls_then_rises([3.0, 2.0, 1.0])
    assert not falls_then_rises([3.0, 1.0, 2.0, 1.0, 4.0])
    assert not falls_then_rises([1.0, 3.0, 2.0])


def test_a_level_after_two_that_are_known(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    options = ["--before", "80", "5", "--after", "0.1", "--nodes", "9", "--labels", "3", "--seed", "2"]
    assert main([str(run), *OPTIONS, *options, "--out", str(out)]) == 0
    content = json.loads((out / "search.json").read_text())
    assert 0.1 < content["found"]["sigma"] < 5
    assert (content["search"]["labels"], content["search"]["seed"], content["search"]["count"]) == ([3], 2, COUNT)
    assert (80.0, 5.0, 0.1) in scores(out)
    assert all(levels[:2] == (80.0, 5.0) and levels[-1] == 0.1 for levels in scores(out))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--nodes", "2"], "--nodes: expected an integer >= 3, got 2"),
        (["--seed", "-1"], "--seed: expected an integer >= 0, got -1"),
        (["--count", "0"], "--count: expected an integer >= 1, got 0"),
        (["--count", "1"], "at least 2 images"),
        (["--before", "5", "80"], "expected before descending strictly"),
        (["--after", "79.9999"], "between before and after"),
        (["--device", "gpu"], "--device: expected one of auto, cpu, cuda, got gpu"),
        (["--device", "cuda"], "--device: expected a GPU"),
        (["--labels", "11"], "--labels: expected classes from 0 to 9, got 11"),
        (["--reference", "nowhere"], "nowhere does not exist"),
        (["--features", "nowhere"], "got nowhere, which does not exist"),
        (["--out", "mine"], "--out: expected a new folder or a search that can resume, got mine."),
        (["--out", "file"], "--out: expected a new folder or a search that can resume, got file."),
    ],
)
def test_bad_input_is_one_line(
    options: list[str],
    says: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "search.json").write_text("[]")
    (tmp_path / "file").touch()
    assert main([str(run), *OPTIONS, "--nodes", "9", *options]) == 2
    assert says in rejection(capsys, "ict_ref.search")
    assert (tmp_path / "mine" / "search.json").read_text() == "[]"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine"]


def test_a_folder_of_another_search_is_left_as_it_is(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run), *OPTIONS, "--nodes", "4", "--out", str(tmp_path / "s")]) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()}
    assert main([str(run), *OPTIONS, "--nodes", "5", "--out", str(tmp_path / "s")]) == 2
    assert "s has another search: expected nodes 5, got 4" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()} == before


@pytest.fixture(scope="module")
def searched(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished search."""
    folder = tmp_path_factory.mktemp("searched") / "s"
    assert main([str(run), *OPTIONS, "--nodes", "4", "--out", str(folder)]) == 0
    return folder


def test_a_reference_that_was_moved_is_the_same_one(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, moved, other = (tmp_path / f"{name}.npz" for name in ("first", "moved", "other"))
    write_npz(digits().held_out.pixels[:50], first)
    write_npz(digits().held_out.pixels[50:100], other)
    options = ["--count", str(COUNT), "--nodes", "4", "--out", str(tmp_path / "s")]
    assert main([str(run), "--reference", str(first), *options]) == 0
    first.rename(moved)
    assert main([str(run), "--reference", str(moved), *options]) == 0
    capsys.readouterr()
    assert main([str(run), "--reference", str(other), *options]) == 2
    assert "has another search: expected reference.pixels_sha256 " in rejection(capsys, "ict_ref.search")


@pytest.mark.parametrize("row", ["80.0,nan", "80.0,inf", "80.0,-1.0", "80.0", "80.0,", "nan,1.0", "-1.0,1.0", ",1.0"])
def test_a_row_that_is_not_a_score_is_rejected(
    row: str, searched: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(searched, tmp_path / "s")
    with (out / "scores.csv").open("a") as file:
        file.write(f"{row}\n")
    before = contents(out)
    capsys.readouterr()
    assert main([str(run), *OPTIONS, "--nodes", "4", "--out", str(out)]) == 2
    line = len(before["scores.csv"].splitlines())
    message = f"s/scores.csv, line {line}: expected noise levels > 0 and a finite Frechet distance >= 0, got {row}. "
    assert message in rejection(capsys, "ict_ref.search")
    assert contents(out) == before


@pytest.mark.parametrize("row", [1, 2, -1])
@pytest.mark.parametrize("cell", [0, 1, 2])
def test_a_flipped_digit_of_a_score_is_not_believed(
    row: int, cell: int, searched: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(searched, tmp_path / "s")
    lines = (out / "scores.csv").read_text().splitlines()
    cells = lines[row].split(",")
    last = max(k for k, sign in enumerate(cells[cell]) if sign.isdigit())
    cells[cell] = cells[cell][:last] + str((int(cells[cell][last]) + 1) % 10) + cells[cell][last + 1 :]
    changed = [",".join(cells) if line == lines[row] else line for line in lines]
    (out / "scores.csv").write_text("\n".join([*changed, ""]))
    before = contents(out)
    capsys.readouterr()
    assert main([str(run), *OPTIONS, "--nodes", "4", "--out", str(out)]) == 2
    line = rejection(capsys, "ict_ref.search")
    assert f"s/scores.csv, line {lines.index(lines[row]) + 1}: expected the sha256 " in line
    assert "Delete the line, and the same command scores its levels again." in line
    assert contents(out) == before
    del changed[lines.index(lines[row])]
    (out / "scores.csv").write_text("\n".join([*changed, ""]))
    assert main([str(run), *OPTIONS, "--nodes", "4", "--out", str(out)]) == 0
    assert sorted((out / "scores.csv").read_text().splitlines()) == sorted(lines)


def test_a_row_has_the_sha256_of_its_text(searched: Path) -> None:
    head, *rows = (searched / "scores.csv").read_text().splitlines()
    assert head == "sigmas,frechet_distance,sha256"
    for row in rows:
        text, _, digest = row.rpartition(",")
        done = subprocess.run(["/usr/bin/env", "sha256sum"], input=text.encode(), capture_output=True, check=True)
        assert done.stdout.decode().startswith(digest)
        assert len(digest) == 16


def test_scores_of_earlier_versions_are_read(searched: Path, run: Path, tmp_path: Path) -> None:
    out = shutil.copytree(searched, tmp_path / "s")
    rows = (out / "scores.csv").read_text().splitlines()
    old = "\n".join([*(row.rpartition(",")[0] for row in rows), ""])
    (out / "scores.csv").write_text(old)
    assert main([str(run), *OPTIONS, "--nodes", "4", "--out", str(out)]) == 0
    assert (out / "scores.csv").read_text() == old  # nothing was scored
    (out / "scores.csv").write_text("\n".join([*old.splitlines()[:-1], ""]))
    assert main([str(run), *OPTIONS, "--nodes", "4", "--out", str(out)]) == 0
    assert (out / "scores.csv").read_text().splitlines() == rows


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("search.json", '{"search": 5}'),
        ("search.json", '{"search": null}'),
        ("search.json", '{"search": [1]}'),
        ("search.json", "5"),
        ("search.json", "{}"),
        ("scores.csv", "levels,scores\n"),
        ("scores.csv", "\0"),
    ],
)
def test_a_damaged_file_is_rejected(
    name: str, text: str, searched: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(searched, tmp_path / "s")
    (out / name).write_text(text)
    before = contents(out)
    capsys.readouterr()
    assert main([str(run), *OPTIONS, "--nodes", "4", "--out", str(out)]) == 2
    assert "expected a new folder or a search that can resume" in rejection(capsys, "ict_ref.search")
    assert contents(out) == before
