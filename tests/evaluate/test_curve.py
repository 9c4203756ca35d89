"""`python -m ict_ref.evaluate RUN --every-milestone`: scores of each checkpoint, in a file that can be continued."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.one_line import rejection
from tests.support.runs import short_run

from ict_ref.checkpoint.training_state import checkpoint_file
from ict_ref.evaluate import curve as module
from ict_ref.evaluate.__main__ import main
from ict_ref.evaluate.curve import read_curve

FORMAT_2 = Path(__file__).parents[1] / "fixtures" / "format_2" / "curve.json"
REFERENCE = ["--reference", "digits:held-out", "--count", "9"]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run with checkpoints of three steps."""
    return short_run(tmp_path_factory.mktemp("curve") / "run")


@pytest.fixture
def run(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the run, and work in its folder."""
    shutil.copytree(original, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return Path("run")


def scored(run: Path, *options: str) -> list[dict[str, object]]:
    assert main([str(run), *REFERENCE, "--every-milestone", *options]) == 0
    points: list[dict[str, object]] = json.loads((run / "curve.json").read_text())["points"]
    return points


def test_each_point_has_the_scores_of_its_checkpoint(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = scored(run)
    assert [(point["step"], point["levels"]) for point in points] == [(10, 81), (20, 641), (30, 1281)]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["step", "N", "frechet", "distance"]
    assert [line.split()[:2] for line in lines[1:4]] == [["10", "81"], ["20", "641"], ["30", "1281"]]
    assert lines[-1] == "run/curve.json"
    for point in points:
        json_file = f"{point['step']}.json"
        assert main(["run", *REFERENCE, "--step", str(point["step"]), "--json", json_file]) == 0
        scores = json.loads(Path(json_file).read_text())["scores"]
        assert point["scores"] == {name: scores[name] for name in module.SCORES}


def test_a_stopped_command_is_continued_and_scores_each_checkpoint_once(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = scored(run)
    (run / "curve.json").unlink()
    score, calls = module.Scorer.scores, list[str]()

    def stopping(self: module.Scorer, recipe: object, what: str) -> object:
        calls.append(what)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return score(self, recipe, what)  # type: ignore[arg-type]

    monkeypatch.setattr(module.Scorer, "scores", stopping)
    capsys.readouterr()
    assert main(["run", *REFERENCE, "--every-milestone"]) == 130
    assert "the same command resumes" in capsys.readouterr().err
    assert [point.step for point in read_curve(run / "curve.json").points] == [10]
    assert scored(run) == whole
    assert calls == ["step 10", "step 20", "step 20", "step 30"]


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_two_processes_write_the_same_file(run: Path) -> None:
    points = scored(run)
    (run / "curve.json").rename("one.json")
    command = [sys.executable, "-m", "ict_ref.evaluate", "run", *REFERENCE, "--every-milestone", "--processes", "2"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.count("run/curve.json") == 1
    assert (run / "curve.json").read_bytes() == Path("one.json").read_bytes()
    # The second process follows the first one, which has the scores of two of the three checkpoints.
    content = json.loads(Path("one.json").read_text())
    del content["points"][1], content["sha256"]
    (run / "curve.json").write_text(json.dumps(content))
    subprocess.run(command, check=True, capture_output=True)
    assert json.loads((run / "curve.json").read_text())["points"] == points


def test_a_link_in_place_of_the_file_is_rejected_before_anything_is_scored(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module.Scorer, "scores", None)
    (run / "curve.json").symlink_to("../mine.json")
    assert main(["run", *REFERENCE, "--every-milestone"]) == 2
    message = "run/curve.json: expected a regular file, got a symbolic link to ../mine.json. Replace the link"
    assert message in rejection(capsys, "ict_ref.evaluate")
    assert not Path("mine.json").exists()


def test_a_point_of_a_deleted_checkpoint_is_kept_and_one_of_another_network_is_scored_again(run: Path) -> None:
    whole = scored(run)
    checkpoint_file(run, 10).unlink()
    content = json.loads((run / "curve.json").read_text())
    content["points"][1] |= {"network_sha256": "0", "scores": dict.fromkeys(module.SCORES, 1.0)}
    del content["sha256"]  # changed on purpose
    (run / "curve.json").write_text(json.dumps(content))
    assert scored(run) == whole


@pytest.mark.parametrize("name", ["frechet_distance", "recall", "step", "levels", "seed", "identity"])
def test_a_flipped_digit_is_not_believed(name: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scored(run)
    text = (run / "curve.json").read_text()
    start = text.index(f'"{name}": ') + len(name) + 4
    place = next(k for k in range(start, len(text)) if text[k].isdigit())
    changed = text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :]
    (run / "curve.json").write_text(changed)
    capsys.readouterr()
    assert main(["run", *REFERENCE, "--every-milestone"]) == 2
    line = rejection(capsys, "ict_ref.evaluate")
    assert "run/curve.json: expected the sha256 " in line
    assert "an entry has changed. Restore it from a copy, or delete its entry sha256" in line
    assert (run / "curve.json").read_text() == changed


def test_spaces_and_the_order_of_entries_may_change(run: Path) -> None:
    whole = scored(run)
    content = json.loads((run / "curve.json").read_text())
    (run / "curve.json").write_text(json.dumps(dict(reversed(content.items())), indent=7))
    assert scored(run) == whole


def test_scores_of_another_protocol_are_not_mixed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scored(run)
    before = (run / "curve.json").read_bytes()
    for options, name in (
        (["--count", "8"], "samples.count 9, as in run/curve.json, got 8"),
        (["--sigmas", "80", "0.5"], "samples.sigmas [80.0], as in run/curve.json, got [80.0, 0.5]"),
        (["--seed", "1"], "samples.seed 0, as in run/curve.json, got 1"),
        (["--features", "digits"], "features.name pixels, as in run/curve.json, got digits"),
        (["--k", "2"], "k 3, as in run/curve.json, got 2"),
        (["--clip", "no"], "samples.clipping"),
        (["--reference", "digits:train"], "reference.count 599, as in run/curve.json, got 1198"),
    ):
        capsys.readouterr()
        assert main(["run", *REFERENCE, "--every-milestone", *options]) == 2
        assert f"--json: expected {name}" in rejection(capsys, "ict_ref.evaluate")
    assert (run / "curve.json").read_bytes() == before


def test_the_file_of_another_run_is_not_continued(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scored(run)
    short_run(Path("other"), "--train.seed", "1")
    capsys.readouterr()
    assert main(["other", *REFERENCE, "--every-milestone", "--json", "run/curve.json"]) == 2
    assert "--json: expected a file of other, got run/curve.json of run" in rejection(capsys, "ict_ref.evaluate")


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "[" * 100_000, '{"format": 2}', '{"format": 2, "points": [1]}'], ids=lambda text: text[:30]
)
def test_a_file_that_is_not_a_curve_is_rejected_and_stays(
    text: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "curve.json").write_text(text)
    assert main(["run", *REFERENCE, "--every-milestone"]) == 2
    assert "run/curve.json is " in rejection(capsys, "ict_ref.evaluate")
    assert (run / "curve.json").read_text() == text


INFINITY = float("inf")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("points", 5, "points: expected a list, got 5"),
        ("points", {}, "points: expected a list, got {}"),
        ("points.0", 5, "points[0]: expected an object, got 5"),
        ("points.0.step", INFINITY, "points[0].step: expected an integer, got inf"),
        ("points.0.step", -1, "points[0].step: expected an integer >= 0, got -1"),
        ("points.1.levels", "81", "points[1].levels: expected an integer, got '81'"),
        ("points.1.levels", 81.0, "points[1].levels: expected an integer, got 81.0"),
        ("points.2.scores", None, "points[2].scores: expected an object, got None"),
        ("points.2.scores.recall", "1", "points[2].scores.recall: expected a number or null, got '1'"),
        ("points.2.scores.recall", [], "points[2].scores.recall: expected a number or null, got []"),
        ("protocol", 5, "protocol: expected an object, got 5"),
        ("protocol", {}, "protocol.samples: expected an entry, got none"),
        ("protocol.reference", None, "protocol.reference: expected an object, got None"),
        ("protocol.features", {}, "protocol.features.name: expected an entry, got none"),
        ("protocol.samples.sigmas", [None], "protocol.samples.sigmas[0]: expected a number, got None"),
        ("identity", 5, "identity: expected a string, got 5"),
    ],
)
def test_an_entry_of_another_type_is_rejected_by_its_name(
    name: str, value: object, message: str, tmp_path: Path
) -> None:
    content = json.loads(FORMAT_2.read_text())
    *outer, last = name.split(".")
    place = content
    for part in outer:
        place = place[int(part) if part.isdigit() else part]
    place[int(last) if last.isdigit() else last] = value
    (tmp_path / "curve.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"curve\.json is not a curve of scores \(") as caught:
        read_curve(tmp_path / "curve.json")
    assert message in str(caught.value)


def test_a_folder_or_a_device_is_not_a_file_of_scores(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", *REFERENCE, "--every-milestone"]
    for options, place in (
        (["--json", "."], "the folder ."),
        (["--json", "/dev/null"], "the device /dev/null"),
        ([], "the folder run/curve.json"),
    ):
        (run / "curve.json").mkdir(exist_ok=True)
        assert main([*command, *options]) == 2
        assert f"expected a file, got {place}. Choose another file." in rejection(capsys, "ict_ref.evaluate")
    with pytest.raises(ValueError, match=r"expected a file, got the folder run/curve\.json\."):
        read_curve(run / "curve.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["samples.npz"], "SAMPLES: expected a run folder for --every-milestone, got samples.npz"),
        ([], "SAMPLES: expected SAMPLES or --save-stats, got neither"),
        (["run", "--step", "10"], "--step: expected only without --every-milestone"),
        (["run", "--table"], "--table: expected only without --every-milestone"),
        (["run", "--save-stats", "s.npz"], "--save-stats: expected only without --every-milestone"),
    ],
)
@pytest.mark.usefixtures("run")
def test_options_that_do_not_fit_are_rejected(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*options, *REFERENCE, "--every-milestone"]) == 2
    assert message in rejection(capsys, "ict_ref.evaluate")


def test_a_run_without_a_checkpoint_is_rejected(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in run.glob("checkpoint-*"):
        file.unlink()
    assert main(["run", *REFERENCE, "--every-milestone"]) == 2
    assert "run has no checkpoint yet" in rejection(capsys, "ict_ref.evaluate")


def test_a_damaged_checkpoint_is_reported_and_the_others_are_scored(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint_file(run, 20).write_bytes(b"damaged")
    assert main(["run", *REFERENCE, "--every-milestone"]) == 1
    out, err = capsys.readouterr()
    assert [point.step for point in read_curve(run / "curve.json").points] == [10, 30]
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["10", "30"]
    last = err.split("\r")[-1]  # a slow machine shows a progress bar before it
    assert last.startswith("ict_ref.evaluate: step 20 is not scored: run/checkpoint-00000020.safetensors is damaged")
    assert err.count("\n") == 1
