"""`ict_ref.train`: the same run as the command's, and runs with a network and data of the user's own."""

import json
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support import own
from tests.support.datasets import prepared, random_images
from tests.support.runs import last, lines, same

from ict_ref import Run, train
from ict_ref.checkpoint.training_state import checkpoints, load_checkpoint
from ict_ref.config import digits
from ict_ref.config.given import config_of
from ict_ref.data.own_images import own_images
from ict_ref.launch import __main__ as launch
from ict_ref.launch.in_python import folder_of, with_own
from ict_ref.launch.session import Own
from ict_ref.networks.own import OwnNetworkLike, own_network

pytestmark = pytest.mark.usefixtures("unchecked")

CONFIG = {"preset": "minimal", "train.steps": 30}
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
LABELS = np.arange(40) % 3


def stored(folder: Path) -> dict[str, Any]:
    """Return the content of config.json."""
    content: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return content


def test_a_preset_s_run_has_the_files_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert launch.main(["--config", "minimal", "--train.steps", "30", "--out", "by-command"]) == 0
    run = train(CONFIG)
    assert run.path.parent == Path("runs")
    assert run.path.name.startswith("minimal-")
    there, here = Path("by-command"), run.path
    assert stored(here) == stored(there)
    assert checkpoints(here).keys() == checkpoints(there).keys() == {10, 20, 30}
    for step in (10, 20, 30):
        assert same(load_checkpoint(checkpoints(here)[step]), load_checkpoint(checkpoints(there)[step]))
    assert [line["loss"] for line in lines(here)] == [line["loss"] for line in lines(there)]
    # The command takes the folder of the same name, and finds the run done.
    assert launch.main(["--config", "minimal", "--train.steps", "30"]) == 0
    assert sorted(Path("runs").iterdir()) == [run.path]


@pytest.mark.parametrize("kind", [own.Plain, own.Dropping, own.Labelled])
def test_a_resumed_run_ends_bit_for_bit_where_an_uninterrupted_one_does(tmp_path: Path, kind: type[own.Plain]) -> None:
    class StopError(Exception):
        pass

    def stop(step: int, metrics: Mapping[str, int | float]) -> None:
        if step == 17:
            raise StopError

    data = (IMAGES, LABELS)
    train(CONFIG, data, kind, out=tmp_path / "whole")
    with pytest.raises(StopError):
        train(CONFIG, data, kind, callbacks=[stop], out=tmp_path / "cut")
    assert checkpoints(tmp_path / "cut").keys() == {10}
    torch.rand(7)  # nothing depends on a global generator
    train(CONFIG, data, kind, out=tmp_path / "cut")
    assert same(last(tmp_path / "cut"), last(tmp_path / "whole"))
    assert [line["loss"] for line in lines(tmp_path / "cut")] == [line["loss"] for line in lines(tmp_path / "whole")]


def test_callbacks_get_each_line_of_the_metrics_after_the_files_of_its_step(tmp_path: Path) -> None:
    seen: list[dict[str, int | float]] = []

    def keep(step: int, metrics: Mapping[str, int | float]) -> None:
        seen.append({"step": step, **metrics})
        assert lines(tmp_path)[-1]["step"] == step
        with pytest.raises(TypeError):
            metrics["loss"] = 0.0  # type: ignore[index]

    train({**CONFIG, "record.log_every": 4}, IMAGES, own.Plain, callbacks=[keep], out=tmp_path)
    assert seen == lines(tmp_path)
    assert [line["step"] for line in seen] == [*range(4, 30, 4), 30]


def test_an_exception_in_a_callback_is_raised_and_leaves_whole_checkpoints(tmp_path: Path) -> None:
    def fail(step: int, metrics: Mapping[str, int | float]) -> None:
        if step == 20:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match=r"^mine$"):
        train(CONFIG, IMAGES, own.Plain, callbacks=[fail], out=tmp_path)
    assert [load_checkpoint(path).step for path in checkpoints(tmp_path).values()] == [20, 10]


def test_the_folder_notes_network_and_data(tmp_path: Path) -> None:
    run = train(CONFIG, (IMAGES, LABELS), own.Labelled, out=str(tmp_path / "run"))
    content = stored(tmp_path / "run")
    assert content["own_network"]["name"] == "tests.support.own:Labelled"
    assert content["config"]["data"]["name"] == "folder"
    assert content["images"] == {
        "channels": 1, "size": 8, "classes": 3, "class_names": None, "source": "data of the user's own",
    }  # fmt: skip
    checkpoint = last(tmp_path / "run")
    assert checkpoint.own_network is not None
    assert checkpoint.own_network.sha256 == content["own_network"]["sha256"]
    assert checkpoint.config == content["identities"][0]
    assert run.sample(3, labels=[2]).shape == (3, 1, 8, 8)


def test_labels_are_used_if_configuration_data_and_network_have_them(tmp_path: Path) -> None:
    cases: dict[str, tuple[Any, OwnNetworkLike, dict[str, Any], int]] = {
        "all": ((IMAGES, LABELS), own.Labelled, {}, 3),
        "plain network": ((IMAGES, LABELS), own.Plain, {}, 0),
        "no labels in data": (IMAGES, own.Dropping, {}, 0),
        "not wanted": ((IMAGES, LABELS), own.Dropping, {"data.labels": False}, 0),
    }
    for name, (data, network, options, classes) in cases.items():
        # The preset digits has a threshold for labelled samples, which is left out.
        shrunk = {"preset": "digits", "train.steps": 8, **options, "acceptance.accuracy": None}
        assert train(shrunk, data, network, out=tmp_path / name).pretrained.classes == classes
    assert digits().acceptance.accuracy is not None
    train({"preset": "digits", "train.steps": 8}, IMAGES, own.Plain, out=tmp_path / "no accuracy")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run with own network and data."""
    folder = tmp_path_factory.mktemp("own") / "run"
    train(CONFIG, IMAGES, own.Plain, out=folder)
    return folder


@pytest.mark.parametrize(
    ("options", "data", "network", "complaint"),
    [
        ({}, IMAGES, own.Wide, r"--network: expected tensors with the names and shapes of .* \(SHA-256 \w{16}"),
        (
            {},
            IMAGES,
            None,
            r"--network: expected module:callable, because .* has a network of the user's own",
        ),
        ({}, IMAGES[::-1], own.Plain, r"--data.checksum: expected \w{16} as in the run of .*, got \w{16}\. Choose"),
        ({}, None, own.Plain, r"--data.name: expected folder as in the run of .*, got digits\. Choose"),
        ({"train.seed": 3}, IMAGES, own.Plain, r"--train.seed: expected 0 as in the run of .*, got 3\. Choose"),
    ],
    ids=["network", "no network", "data", "no data", "configuration"],
)
def test_another_run_s_folder_is_refused_and_kept(
    finished: Path, options: dict[str, Any], data: Any, network: OwnNetworkLike | None, complaint: str
) -> None:
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    with pytest.raises(ValueError, match=f"^{complaint}") as error:
        train({**CONFIG, **options}, data, network, out=finished)
    assert "\n" not in str(error.value)
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_the_command_refuses_a_run_with_a_network_of_the_user_s_own(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch.main(["--config", "minimal", "--train.steps", "30", "--out", str(finished)]) == 2
    line = capsys.readouterr().err
    assert line.startswith("ict_ref.launch: --network: expected module:callable, because ")
    assert line.endswith("got nothing. Resume it in Python: ict_ref.train(..., network=...).\n")


def test_a_network_of_the_user_s_own_is_refused_in_another_run_s_folder(tmp_path: Path) -> None:
    train(CONFIG, out=tmp_path)
    with pytest.raises(ValueError, match=r"^--network: expected nothing for .*, whose configuration builds its net"):
        train(CONFIG, network=own.Plain, out=tmp_path)


@pytest.mark.parametrize(
    ("options", "data", "network", "complaint"),
    [
        ({}, IMAGES, own.Random, "--network: expected a network that draws no random numbers"),
        ({}, IMAGES, own.Unused, "--network: expected parameters on which every result depends"),
        (
            {"train.init": "a.safetensors"},
            None,
            own.Plain,
            "--train.init: expected nothing with a network of",
        ),
        (
            {"machine.recompute": True},
            None,
            own.Plain,
            "--machine.recompute: expected false with a network of",
        ),
        (
            {"data": {"name": "folder", "path": "x"}},
            IMAGES,
            None,
            "--data.path: expected nothing with data of",
        ),
        ({"data.name": "folder", "data.held_out": "x"}, IMAGES, None, "--data.held-out: expected nothing with data"),
        (
            {"data.name": "folder", "data.checksum": "0123"},
            IMAGES,
            None,
            r"--data.checksum: expected \w{16}, that of the",
        ),
        ({"train.seed": 1 << 100}, np.zeros((4, 1, 6, 6), np.uint8), own.Plain, "no error"),
        ({}, np.zeros((4, 1, 7, 7), np.uint8), None, "--network.multipliers: expected stages for images of size 7"),
        ({"preset": "cifar10"}, None, None, "--data.path: expected the folder of cifar10, got nothing"),
        (
            {"preset": "cifar10", "train.steps": 8},
            np.zeros((4, 3, 8, 8), np.uint8),
            None,
            "--machine.device: expected a GPU",
        ),
    ],
)
def test_what_cannot_be_trained_is_one_line_and_leaves_nothing(
    tmp_path: Path, options: dict[str, Any], data: Any, network: OwnNetworkLike | None, complaint: str
) -> None:
    config = {**CONFIG, "train.steps": 8, **options}
    if complaint == "no error":
        train(config, data, network, out=tmp_path / "run")
        return
    if complaint.endswith("a GPU") and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match=f"^{complaint}") as error:
        train(config, data, network, out=tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_the_caller_s_network_generator_and_threads_do_not_change(tmp_path: Path) -> None:
    network = own.Plain()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    flags = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    state = torch.get_rng_state()
    try:
        train(CONFIG, IMAGES, network, out=tmp_path)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == flags
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_saves_and_stops_the_run(
    tmp_path: Path, number: signal.Signals, error: type[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(step: int, metrics: Mapping[str, int | float]) -> None:
        if step == 13:
            os.kill(os.getpid(), number)

    handlers = signal.getsignal(number)
    with pytest.raises(error):
        train(CONFIG, IMAGES, own.Plain, callbacks=[stop], out=tmp_path)
    assert signal.getsignal(number) is handlers
    assert list(checkpoints(tmp_path)) == [14, 10]  # the signal is read after the next update
    assert (
        f"ict_ref: stopped by {number.name} and saved in {tmp_path}; the same call resumes" in capsys.readouterr().err
    )


def test_the_default_folder_is_named_by_configuration_network_and_data() -> None:
    config, images = config_of(CONFIG)[0], own_images(IMAGES)
    some = [Own(), Own(network=own_network(own.Plain)), Own(network=own_network(own.Wide)), Own(images)]
    some.append(Own(own_images(IMAGES[1:])))
    folders = {folder_of(with_own(config, one), "minimal", one) for one in some}
    assert len(folders) == len(some)
    assert folder_of(config, "minimal", Own()) == Path(f"runs/minimal-{config.digest()}")
    assert folder_of(config, "", Own()) == Path(f"runs/run-{config.digest()}")


def test_prepared_data_are_found_as_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = prepared(tmp_path / "sets" / "cifar10", random_images(40, 3, 32, 32), [k % 10 for k in range(40)])
    options = {"preset": "cifar10", "data.partial": True, "machine.device": "cpu", "train.batch_size": 2}
    small = {"train.noise_shards": 1, "network": {"width": 8, "multipliers": [1], "blocks": 1, "groups": 2}}
    monkeypatch.setenv("ICT_REF_DATA", str(tmp_path / "sets"))
    run = train({**options, **small, "train.steps": 8}, out=tmp_path / "run")
    assert run.config is not None
    assert run.config.data.path == str(folder)


def test_another_thread_can_train(tmp_path: Path) -> None:
    runs: list[Run] = []
    thread = threading.Thread(target=lambda: runs.append(train(CONFIG, IMAGES, own.Plain, out=tmp_path)))
    thread.start()
    thread.join()
    assert list(checkpoints(tmp_path)) == [30, 20, 10]
    assert runs[0].path == tmp_path
