"""EMA weights of several decays and of reconstructed widths, chosen by the commands from the files of a run."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.support.one_line import rejection
from tests.support.runs import short_run, unchecked
from torch import Tensor

from ict_ref.checkpoint.ema_profiles import Profile, reconstruction
from ict_ref.checkpoint.ema_weights import load_ema
from ict_ref.checkpoint.load import load_pretrained
from ict_ref.checkpoint.post_hoc_ema import reconstructed
from ict_ref.checkpoint.training_state import Checkpoint, checkpoints, load_checkpoint, save_checkpoint
from ict_ref.config import Train
from ict_ref.evaluate.__main__ import main as evaluate
from ict_ref.export_checkpoint import main as export
from ict_ref.figures.__main__ import main as figures
from ict_ref.sample.__main__ import main as sample
from ict_ref.search.__main__ import main as search

OPTIONS = [
    "--train.ema-decay", "0.9", "0.5", "--train.ema-sigmas", "0.05", "0.1", "--record.ema-snapshots", "6",
    "--record.keep", "1",
]  # fmt: skip
SNAPSHOTS = [5, 10, 15, 20, 25, 30]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run with several EMA weights, which tests only read."""
    return short_run(tmp_path_factory.mktemp("several") / "run", *OPTIONS)


@pytest.fixture
def run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder with a copy of the run, and return the copy."""
    shutil.copytree(finished, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    with unchecked():
        yield Path("run")


def stored(run: Path, step: int, name: str) -> dict[str, Tensor]:
    """Return the tensors of a network in the checkpoint after a step."""
    tensors = load_checkpoint(checkpoints(run)[step]).tensors.items()
    return {key.removeprefix(f"{name}/"): value for key, value in tensors if key.startswith(f"{name}/")}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Return whether two networks are equal to the bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_each_decay_is_loaded_by_its_number(run: Path) -> None:
    for decay, name in ((None, "average"), (0.9, "average"), (0.5, "average-0.5")):
        assert equal(load_pretrained(run, ema=decay).model.state_dict(), stored(run, 30, name))
    assert load_pretrained(run, ema=0.9).name == "run after step 30"
    assert load_pretrained(run, ema=0.5).name == "run after step 30, EMA decay 0.5"
    file = checkpoints(run)[10]
    assert equal(load_pretrained(file, ema=0.5).model.state_dict(), stored(run, 10, "average-0.5"))


def test_a_width_is_combined_from_the_snapshots_and_the_checkpoint_itself(run: Path) -> None:
    assert sorted(checkpoints(run)) == SNAPSHOTS
    profiles = [Profile(step, sigma) for step in SNAPSHOTS[:4] for sigma in (0.05, 0.1)]
    coefficients = reconstruction(profiles, Profile(20, 0.07)).coefficients
    made = load_pretrained(run, step=20, ema_sigma=0.07)
    states = [stored(run, int(step), f"power-{sigma}") for step, sigma in profiles]
    for name, value in made.model.state_dict().items():
        expected = sum(x * state[name].double() for x, state in zip(coefficients, states, strict=True))
        torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-7)
    assert made.name == "run after step 20, EMA width 0.07"


def test_milestones_alone_are_combined_at_the_number_of_their_updates(tmp_path: Path) -> None:
    def saved(step: int, value: float, *, skipped: int = 0, milestone: bool = True) -> Checkpoint:
        tensors = {"power-0.1/network.w": torch.tensor([value]), "student/network.w": torch.tensor([99.0])}
        one = Checkpoint(step=step, tensors=tensors, config="abc", skipped=skipped)
        save_checkpoint(tmp_path, one, keep=9, milestones=[step] if milestone else [])
        return one

    saved(1, 7.0, skipped=1)  # before the first update, where an average has no profile
    saved(4, 1.0, skipped=1)
    saved(6, 2.0, milestone=False)
    newest = saved(8, 4.0, skipped=1, milestone=False)
    saved(12, 8.0, skipped=1)
    x = reconstruction([Profile(3, 0.1), Profile(7, 0.1)], Profile(7, 0.15)).coefficients
    found = reconstructed(tmp_path, newest, Train(ema_sigmas=(0.1,)), 0.15)
    assert found.keys() == {"w"}
    torch.testing.assert_close(found["w"].double(), (x[0] * 1.0 + x[1] * 4.0)[None], rtol=1e-6, atol=0)


def test_a_stored_width_is_its_own_reconstruction(run: Path) -> None:
    made = load_pretrained(run, ema_sigma=0.1).model.state_dict()
    for name, value in stored(run, 30, "power-0.1").items():
        torch.testing.assert_close(made[name], value, rtol=1e-6, atol=1e-7)


def test_a_coarse_reconstruction_is_reported(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_ema(run, sigma=0.07)
    assert capsys.readouterr().err == ""
    load_ema(run, sigma=0.28)
    line = capsys.readouterr().err
    assert line.startswith("ict_ref: warning: the averages in run approximate the profile of --ema-sigma 0.28 to ")
    assert line.count("\n") == 1


def test_every_command_chooses_by_the_same_options(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(["run", "--ema", "0.5", "--out", "half.safetensors"]) == 0
    assert "wrote the EMA weights (EMA decay 0.5) after step 30 of run to half" in capsys.readouterr().out
    assert export(["run", "--ema-sigma", "0.07", "--out", "wide.safetensors"]) == 0
    for options, file in ((["--ema", "0.5"], "half.safetensors"), (["--ema-sigma", "0.07"], "wide.safetensors")):
        assert sample(["run", *options, "--count", "4"]) == 0
        assert sample([file, "--count", "4"]) == 0
        chosen = f"run-{options[0].removeprefix('--')}-{options[1]}"
        mine, theirs = (Path(f"{name}-samples.png") for name in (chosen, file.removesuffix(".safetensors")))
        assert mine.read_bytes() == theirs.read_bytes()
    reference = ["--reference", "digits:held-out", "--count", "8"]
    assert evaluate(["run", "--ema", "0.5", *reference, "--json", "a.json"]) == 0
    assert evaluate(["half.safetensors", *reference, "--json", "b.json"]) == 0
    a, b = (json.loads(Path(name).read_text())["scores"] for name in ("a.json", "b.json"))
    assert a == b
    assert search(["run", "--ema-sigma", "0.07", *reference, "--nodes", "3"]) == 0
    assert Path("run-ema-sigma-0.07-search/search.json").exists()


def test_every_milestone_is_scored_with_the_chosen_weights(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = ["--reference", "digits:held-out", "--count", "8"]
    command = ["run", *reference, "--every-milestone"]
    for chosen in (["--ema", "0.5"], ["--ema-sigma", "0.07"]):
        assert evaluate([*command, *chosen, "--json", "curve.json"]) == 0
        content = json.loads(Path("curve.json").read_text())
        assert str(content["protocol"]["samples"][chosen[0].removeprefix("--").replace("-", "_")]) == chosen[1]
        point = content["points"][-2]
        assert export(["run", *chosen, "--step", str(point["step"]), "--out", "one.safetensors"]) == 0
        assert evaluate(["one.safetensors", *reference, "--json", "one.json"]) == 0
        scores = json.loads(Path("one.json").read_text())["scores"]
        assert point["scores"] == {name: scores[name] for name in point["scores"]}
        capsys.readouterr()
        assert evaluate([*command, "--json", "curve.json"]) == 2  # other weights are not mixed with these
        assert "as in curve.json, got None. Give the same options" in rejection(capsys, "ict_ref.evaluate")
        for name in ("curve.json", "one.json", "one.safetensors"):
            Path(name).unlink()
    assert evaluate([*command, "--ema", "0.7"]) == 2
    assert "--ema: expected 0.9 or 0.5, of which run has EMA weights, got 0.7" in rejection(capsys, "ict_ref.evaluate")
    assert not Path("run/curve.json").exists()


def test_the_first_decay_by_its_number_continues_the_scores_without_it(run: Path) -> None:
    command = ["run", "--reference", "digits:held-out", "--count", "8", "--every-milestone"]
    assert evaluate(command) == 0
    before = Path("run/curve.json").read_bytes()
    assert evaluate([*command, "--ema", "0.9"]) == 0
    assert Path("run/curve.json").read_bytes() == before


def test_a_sheet_shows_the_chosen_weights(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for chosen in (["--ema", "0.5"], ["--ema-sigma", "0.07"]):
        assert figures(["--run", "run", *chosen, "--sheet", "2", "2", "--out", "."]) == 0
        assert export(["run", *chosen, "--out", "one.safetensors"]) == 0
        assert figures(["--run", "one.safetensors", "--sheet", "2", "2", "--out", "."]) == 0
        name = f"run-{chosen[0].removeprefix('--')}-{chosen[1]}-sheet.png"
        assert Path(name).read_bytes() == Path("one-sheet.png").read_bytes()
        for path in (*Path().glob("one*"), Path(name)):
            path.unlink()
    capsys.readouterr()
    for options, says in (
        (["--run", "run", "--ema", "0.7"], "--ema: expected 0.9 or 0.5, of which run has EMA weights, got 0.7"),
        (["--ema-sigma", "0.1"], "--ema-sigma: expected --run too, got --ema-sigma alone. Add --run."),
    ):
        assert figures([*options, "--out", "."]) == 2
        assert says in rejection(capsys, "ict_ref.figures")


def test_another_average_gives_other_samples(run: Path) -> None:
    for name, options in (("a", []), ("b", ["--ema", "0.5"]), ("c", ["--ema-sigma", "0.07"])):
        assert sample(["run", *options, "--count", "4", "--out", f"{name}.npz"]) == 0
    assert len({Path(f"{name}.npz").read_bytes() for name in "abc"}) == 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["run", "--ema", "0.7"], "--ema: expected 0.9 or 0.5, of which run has EMA weights, got 0.7"),
        (["run", "--ema", "0.5", "--ema-sigma", "0.1"], "--ema-sigma: expected only one of --ema and --ema-sigma"),
        (["run", "--ema-sigma", "0.3"], "--ema-sigma: sigma_rel: expected 0 < sigma_rel <= 12^-1/2"),
        (["run/checkpoint-00000010.safetensors", "--ema-sigma", "0.1"], "--ema-sigma: expected a run folder, whose"),
        (["half.safetensors", "--ema", "0.5"], "--ema: expected a run folder or a checkpoint, got half.safetensors"),
        (["half.safetensors", "--ema-sigma", "0.1"], "--ema-sigma: expected a run folder, got half.safetensors"),
    ],
)
def test_weights_that_do_not_exist_are_rejected(
    options: list[str], says: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(["run", "--ema", "0.5", "--out", "half.safetensors"]) == 0
    capsys.readouterr()
    assert sample([*options, "--count", "2"]) == 2
    assert says in rejection(capsys, "ict_ref.sample")


def test_a_run_without_averages_for_it_is_rejected(copied_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sample([str(copied_run), "--ema-sigma", "0.1", "--count", "2"]) == 2
    line = rejection(capsys, "ict_ref.sample")
    assert "--ema-sigma: expected a run that keeps averages for it, got run. Train with --train.ema-sigmas" in line
    assert load_pretrained(copied_run, ema=0.9).name == "run after step 30"


def test_a_damaged_snapshot_is_not_left_out_silently(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoints(run)[10]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert sample(["run", "--ema-sigma", "0.07", "--count", "2"]) == 2
    assert "checkpoint-00000010.safetensors is damaged" in rejection(capsys, "ict_ref.sample")


@pytest.mark.parametrize("damage", ["length of the head", "name of the entry", "empty"])
def test_a_snapshot_that_cannot_be_recognised_is_not_left_out_silently(
    damage: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = checkpoints(run)[10]
    whole = damaged.read_bytes()
    changed = {
        "length of the head": whole[:3] + bytes([whole[3] ^ 0xFF]) + whole[4:],
        "name of the entry": whole.replace(b"milestone", b"milestonf", 1),
        "empty": b"",
    }[damage]
    assert changed != whole
    damaged.write_bytes(changed)
    assert export(["run", "--ema-sigma", "0.07", "--out", "wide.safetensors"]) == 2
    assert f"{damaged} is " in rejection(capsys, "ict_ref.export_checkpoint")
    assert not Path("wide.safetensors").exists()
    assert export(["run", "--ema-sigma", "0.07", "--step", "5", "--out", "early.safetensors"]) == 0


def test_stored_images_have_no_ema_weights(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sample(["run", "--count", "4", "--out", "s.npz"]) == 0
    capsys.readouterr()
    assert evaluate(["s.npz", "--ema-sigma", "0.1", "--reference", "digits:held-out"]) == 2
    assert "--ema-sigma: expected a run or a network as SAMPLES" in rejection(capsys, "ict_ref.evaluate")
