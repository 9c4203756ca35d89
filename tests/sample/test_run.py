"""`ict_ref.Run`: the images of the command, copies of runs, and what is one line."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support import own
from tests.support.one_line import rejection
from tests.support.runs import last, same, unchecked
from torch import Tensor

from ict_ref import Run, train
from ict_ref.checkpoint.training_state import checkpoints
from ict_ref.data.image_files import read_pixels
from ict_ref.edit.__main__ import main as edit
from ict_ref.evaluate.__main__ import main as evaluate
from ict_ref.export_checkpoint import main as export
from ict_ref.sample.__main__ import main as sample

CONFIG = {"preset": "minimal", "train.steps": 20, "train.ema_decay": [0.9, 0.5], "train.seed": 2}
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
NAME = "tests.support.own:Labelled"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run of a preset, and with a run of a network and data of the user's own."""
    place = tmp_path_factory.mktemp("runs")
    with unchecked():
        train(CONFIG, out=place / "preset")
        train(CONFIG, (IMAGES, np.arange(40) % 3), own.Labelled, out=place / "own")
    return place


@pytest.fixture(autouse=True)
def in_folder(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in a folder with copies of the runs."""
    for name in ("preset", "own"):
        shutil.copytree(folders / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    with unchecked():
        yield


def by_command(*arguments: str) -> Tensor:
    """Return the images that the command makes."""
    assert sample([*arguments, "--out", "made"]) == 0
    pixels = read_pixels(Path("made"))
    shutil.rmtree("made")
    return pixels


@pytest.mark.parametrize(("folder", "network"), [("preset", None), ("own", NAME)])
def test_images_are_those_of_the_command(folder: str, network: str | None) -> None:
    named = [] if network is None else ["--network", network]
    run = Run.load(folder, network)
    for arguments, made in (
        (["--count", "7"], run.sample(7)),
        (["--count", "5", "--seed", "3"], run.sample(5, seed=3)),
        (["--count", "5", "--sigmas", "80", "0.8"], run.sample(5, sigmas=(80, 0.8))),
        (["--count", "5", "--sigmas", "80", "0.8"], run.sample(5, np.array([80, 0.8]))),
        (["--count", "5", "--labels", "2", "1"], run.sample(5, labels=torch.tensor([2, 1]))),
        (["--count", "3", "--labels", "2"], run.sample(np.int64(3), labels=2)),  # type: ignore[arg-type]
        (["--count", "3", "--labels", "1"], run.sample(3, labels=torch.tensor(1))),
        (["--count", "5", "--ema", "0.5"], Run.load(folder, network, ema=0.5).sample(5)),
        (["--count", "5", "--step", "10"], Run.load(folder, network, step=10).sample(5)),
    ):
        assert made.dtype == torch.uint8
        assert torch.equal(made, by_command(folder, *named, *arguments)), arguments
    assert not torch.equal(run.sample(5), run.sample(5, seed=3))
    assert not torch.equal(run.sample(5), Run.load(folder, network, ema=0.5).sample(5))
    assert torch.equal(run.sample(7)[:3], run.sample(3)[:3])


def test_a_network_is_given_as_module_function_or_name() -> None:
    wanted = Run.load("own", NAME).sample(4)
    for network in (own.Labelled, own.Labelled(), lambda: own.Labelled()):
        assert torch.equal(Run.load(Path("own"), network).sample(4), wanted)


def test_a_checkpoint_alone_needs_the_network_too() -> None:
    file = next(iter(checkpoints(Path("own")).values())).rename("alone.safetensors")
    assert torch.equal(Run.load(file, NAME).sample(2), Run(Path("alone.safetensors"), own.Labelled).sample(2))
    with pytest.raises(ValueError, match=r"^--network: expected module:callable, because alone.safetensors has a netw"):
        Run.load("alone.safetensors")


def test_model_and_configuration_are_there() -> None:
    run = Run.load("own", NAME)
    assert run.config is not None
    assert (run.config.train.steps, run.path) == (20, Path("own"))
    x, sigma = torch.randn(2, 1, 8, 8), torch.full((2,), 0.002)
    assert torch.equal(run.model(x, sigma, torch.tensor([0, 1])), x)  # the boundary condition
    assert not any(parameter.requires_grad for parameter in run.model.parameters())
    stored = last(Path("own"))
    here = run.model.state_dict()["network.module.classes.weight"]
    assert torch.equal(here, stored.tensors["average/network.module.classes.weight"])


@pytest.mark.parametrize(("folder", "network"), [("preset", None), ("own", NAME)])
def test_a_saved_copy_is_sampled_and_resumed(folder: str, network: str | None) -> None:
    run = Run.load(folder, network)
    run.save("deep/copy")
    copy = Path("deep/copy")
    assert sorted(path.name for path in copy.iterdir()) == [
        "checkpoint-00000010.safetensors", "checkpoint-00000020.safetensors", "config.json", "metrics.jsonl",
    ]  # fmt: skip
    assert torch.equal(Run.load(copy, network).sample(3), run.sample(3))
    checkpoints(copy)[20].unlink()
    data = None if network is None else (IMAGES, np.arange(40) % 3)
    train(CONFIG, data, network, out="deep/copy")
    assert same(last(copy), last(Path(folder)))
    with pytest.raises(ValueError, match=r"^path: expected a new path, got deep/copy. Existing files"):
        run.save("deep/copy")


def test_a_network_file_is_saved_and_loaded() -> None:
    run = Run.load("preset", ema=0.5)
    run.save("net.safetensors")
    assert export(["preset", "--ema", "0.5", "--out", "by-command.safetensors"]) == 0
    assert Path("net.safetensors").read_bytes() == Path("by-command.safetensors").read_bytes()
    loaded = Run.load("net.safetensors")
    assert loaded.config is None
    assert torch.equal(loaded.sample(4, seed=1), run.sample(4, seed=1))
    loaded.save("again.safetensors")
    assert Path("again.safetensors").read_bytes() == Path("net.safetensors").read_bytes()
    with pytest.raises(ValueError, match=r"^path: expected FILE.safetensors for the file net.safetensors, got folder"):
        loaded.save("folder")
    with pytest.raises(
        ValueError, match=r"^own.safetensors: expected a network that is built from options, got one of"
    ):
        Run.load("own", NAME).save("own.safetensors")
    assert not Path("own.safetensors").exists()


@pytest.mark.parametrize(
    ("path", "network", "options", "complaint"),
    [
        ("own", None, {}, r"--network: expected module:callable, because own has a network of the user's own, got"
         r" nothing\. Give --network tests.support.own:Labelled to sample, evaluate, search or edit,"),
        ("own", own.Wide, {}, r"--network: expected tensors with the names and shapes of own \(SHA-256 \w{16}\.\.\.\), "
         r"got others \(SHA-256 \w{16}\.\.\.\) from tests.support.own:Wide\. Give the network of the run"),
        ("own", "tests.support.own:failing", {}, r"--network: tests.support.own:failing failed: KeyError: 'weights'"),
        ("own", "tests.support.own:missing", {}, r"--network: expected tests.support.own:missing as module:callable"),
        ("preset", own.Plain, {}, r"--network: expected nothing for preset, whose configuration builds its network"),
        ("own", NAME, {"ema": 0.7}, r"--ema: expected 0.9 or 0.5, of which own has EMA weights, got 0.7"),
        ("own", NAME, {"step": 3}, r"own has no checkpoint of step 3|.*step.*3"),
        ("nowhere", None, {}, r"nowhere does not exist\."),
    ],
)  # fmt: skip
def test_what_cannot_be_loaded_is_one_line(path: str, network: Any, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{complaint}") as error:
        Run.load(path, network, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"n": 0}, "n: expected an integer >= 1, got 0"),
        ({"n": 2.5}, "n: expected integers, got 2.5"),
        ({"n": 2, "labels": [0.5]}, "labels: expected integers, got 0.5"),
        ({"n": 2, "labels": [3]}, "--labels: expected classes from 0 to 2, got 3"),
        ({"n": 2, "sigmas": [0.8, 80]}, ".*descend"),
        ({"n": 2, "seed": -1}, "seed, step, shard: expected integers >= 0, got -1"),
    ],
)
def test_what_cannot_be_sampled_is_one_line(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{complaint}") as error:
        Run.load("own", NAME).sample(**arguments)
    assert "\n" not in str(error.value)


def test_commands_without_the_network_say_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    typed = f"Give --network {NAME} to sample, evaluate, search or edit, or network= to Run.load.\n"
    assert sample(["own"]) == 2
    assert rejection(capsys, "ict_ref.sample").endswith(typed)
    assert evaluate(["own", "--reference", "digits:held-out"]) == 2
    assert rejection(capsys, "ict_ref.evaluate").endswith(typed)
    assert export(["own", "--out", "net.safetensors"]) == 2
    assert rejection(capsys, "ict_ref.export_checkpoint").endswith(typed)
    assert sample(["own", "--network", "tests.support.own:failing"]) == 2
    assert rejection(capsys, "ict_ref.sample").endswith(
        "--network: tests.support.own:failing failed: KeyError: 'weights'\n"
    )


def test_commands_take_the_network_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--network", NAME, "--count", "20", "--json", "scores.json"]
    assert evaluate(["own", "--reference", "digits:held-out", *options]) == 0
    assert json.loads(Path("scores.json").read_text())
    assert evaluate(["own", "--reference", "digits:held-out", "--every-milestone", *options[:4]]) == 0
    assert edit(["own", "--task", "interpolate", "--network", NAME, "--labels", "1"]) == 0
    capsys.readouterr()
