"""A network as a folder that diffusers reads. `nox -s peers` runs the tests that need diffusers."""

import dataclasses
import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from ict_ref.checkpoint.diffusers_folder import DIFFUSERS, files, read
from ict_ref.checkpoint.ema_weights import load_ema
from ict_ref.checkpoint.network_file import export, load_exported
from ict_ref.config import Network
from ict_ref.export_checkpoint import main
from ict_ref.formulas import multistep_sample, sigma_grid
from ict_ref.import_checkpoint import main as import_main
from ict_ref.networks.network_checkpoint import NetworkCheckpoint

RUN = Path(__file__).parents[1] / "fixtures" / "format_2" / "run"
OPTIONS = Network(
    architecture="ncsnpp", embedding="fourier", width=8, multipliers=(1, 2), blocks=1, head_channels=0, groups=2
)


def checkpoint(channels: int = 3, classes: int = 0, **changes: Any) -> NetworkCheckpoint:
    """Return a small network with random values in every parameter."""
    empty = NetworkCheckpoint(options=OPTIONS, channels=channels, size=8, classes=classes, state={})
    generator = torch.Generator().manual_seed(5)
    state = {
        name: torch.randn(tensor.shape, generator=generator) * 0.05
        for name, tensor in empty.empty_network().state_dict().items()
    }
    return dataclasses.replace(empty, state=state, **changes)


def written(folder: Path, network: NetworkCheckpoint) -> Path:
    for path, content in files(network, "digits").items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def test_the_folder_has_what_diffusers_looks_for() -> None:
    content = files(checkpoint(classes=10), "digits")
    index = json.loads(content["model_index.json"])
    assert f"unet/{index['unet'][0]}.py" in content
    assert f"class {index['unet'][1]}(" in content["unet/ict_unet.py"].decode()
    scheduler = json.loads(content["scheduler/scheduler_config.json"])
    assert (scheduler["num_train_timesteps"], scheduler["clip_denoised"]) == (1281, True)
    weights = safetensors.torch.load(content["unet/diffusion_pytorch_model.safetensors"])
    assert {name.removeprefix("free_form.") for name in weights} == set(checkpoint().state) | {"embedding.label.weight"}


def test_the_card_names_images_options_and_scores() -> None:
    scores = {
        "step": 40,
        "protocol": "599 images",
        "scores": [{"name": "one step", "frechet_distance": 1.25}, {"name": "noise"}],
    }
    card = files(checkpoint(source="handwritten digits"), "digits", scores)["README.md"].decode()
    assert "Training images: handwritten digits." in card
    assert "| network.width | 8 |" in card
    assert "## Scores after 40 updates" in card
    assert "| one step | 1.25 |" in card
    assert "| noise |  |" in card
    assert "class_labels" not in card


def test_a_denoiser_is_refused() -> None:
    with pytest.raises(ValueError, match="--format diffusers: expected a consistency model, got a denoiser"):
        files(dataclasses.replace(checkpoint(), is_denoiser=True), "digits")


def test_the_command_writes_the_whole_folder_or_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "digits"
    assert main([str(RUN), "--format", "diffusers", "--out", str(out)]) == 0
    network = load_ema(RUN).network
    written = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert written == files(network, "digits")
    assert main([str(RUN), "--format", "diffusers", "--out", str(out)]) == 2
    assert "--out: expected a new path" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [out]


def test_values_that_are_not_finite_are_refused() -> None:
    broken = checkpoint()
    next(iter(broken.state.values())).view(-1)[0] = float("nan")
    with pytest.raises(ValueError, match="expected finite parameters"):
        files(broken, "digits")


def test_the_commands_bring_a_run_to_a_folder_and_back_bit_for_bit(tmp_path: Path) -> None:
    folder, back = tmp_path / "folder", tmp_path / "back"
    assert main([str(RUN), "--format", "diffusers", "--out", str(folder)]) == 0
    assert import_main([str(folder), "--out", str(back)]) == 0
    assert main([str(RUN), "--out", str(tmp_path / "directly")]) == 0
    assert (back / "network.safetensors").read_bytes() == (tmp_path / "directly").read_bytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reading_returns_every_field_that_was_written(tmp_path: Path, dtype: torch.dtype) -> None:
    levels = {"sigma_min": 0.01, "sigma_max": 50.0, "rho": 5.0, "sigma_data": 0.7, "s1": 40, "clip": False}
    names = tuple(f"digit {k}" for k in range(10))
    network = checkpoint(1, 10, class_names=names, source="digits", **levels)
    network = dataclasses.replace(network, state={name: value.to(dtype) for name, value in network.state.items()})
    found = read(written(tmp_path, network))
    assert dataclasses.replace(found, state={}) == dataclasses.replace(network, state={})
    assert list(found.state) == sorted(network.state)  # as safetensors has them
    for name, value in found.state.items():
        assert value.dtype == dtype
        assert torch.equal(value, network.state[name])


def test_a_folder_of_an_earlier_version_has_neither_class_names_nor_source(tmp_path: Path) -> None:
    file = written(tmp_path, checkpoint(class_names=("a", "b"), source="digits")) / "unet" / "config.json"
    config = json.loads(file.read_text())
    del config["class_names"], config["source"], config["sigma_min"]
    file.write_text(json.dumps(config))
    with_entries("scheduler/scheduler_config.json", sigma_min=0.002)(tmp_path)
    found = read(tmp_path)
    assert (found.class_names, found.source, found.sigma_min) == (None, "", 0.002)


@pytest.mark.parametrize("sigma_min", [0.002, 0.01, 0.25, 1 / 3])
def test_the_scheduler_adds_no_noise_to_the_last_sample(tmp_path: Path, sigma_min: float) -> None:
    folder = written(tmp_path, checkpoint(sigma_min=sigma_min))
    level = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())["sigma_min"]
    assert level == struct.unpack("f", struct.pack("f", sigma_min))[0]
    assert read(folder).sigma_min == sigma_min


def test_another_sigma_min_of_the_scheduler_is_read(tmp_path: Path) -> None:
    folder = written(tmp_path, checkpoint())
    with_entries("scheduler/scheduler_config.json", sigma_min=0.003)(folder)
    assert read(folder).sigma_min == 0.003


def test_weights_in_16_bits_are_read_as_float32(tmp_path: Path) -> None:
    network = checkpoint()
    halves = {f"free_form.{name}": value.half() for name, value in network.state.items()}
    safetensors.torch.save_file(halves, written(tmp_path, network) / "unet" / "diffusion_pytorch_model.safetensors")
    for name, value in read(tmp_path).state.items():
        assert torch.equal(value, network.state[name].half().float())


def without(name: str) -> Any:
    return lambda folder: (folder / name).unlink()


def with_entries(name: str, **entries: Any) -> Any:
    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | entries))

    return change


def with_tensor(name: str, value: Tensor) -> Any:
    def change(folder: Path) -> None:
        file = folder / "unet" / "diffusion_pytorch_model.safetensors"
        safetensors.torch.save_file(safetensors.torch.load_file(file) | {name: value}, file)

    return change


OF_OURS = "expected a folder of export_checkpoint --format diffusers, got "
NAN = torch.full((8,), float("nan"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            without("model_index.json"),
            OF_OURS + r"a folder without model_index\.json \(it has README\.md, scheduler, unet\)",
        ),
        (with_entries("model_index.json", _class_name="DDPMPipeline"), OF_OURS + r"the pipeline DDPMPipeline\. Import"),
        (
            with_entries("model_index.json", unet=["diffusers", "UNet2DModel"]),
            OF_OURS + "a ConsistencyModelPipeline with the network UNet2DModel of diffusers",
        ),
        (with_entries("model_index.json", unet=None), OF_OURS + "a ConsistencyModelPipeline with the network None of "),
        (with_entries("model_index.json", _class_name=["a" * 999]), OF_OURS + r"the pipeline \['aaa\S{,60}\. Import"),
        (without("scheduler/scheduler_config.json"), r"got one without scheduler/scheduler_config\.json\. Export it"),
        (without("unet/diffusion_pytorch_model.safetensors"), r"without unet/diffusion_pytorch_model\.safetensors"),
        (lambda folder: (folder / "unet" / "config.json").write_text("{"), r"config\.json is damaged"),
        (with_entries("unet/config.json", network={"width": "8"}), "--network.width: expected an integer, got '8'"),
        (with_entries("unet/config.json", network={"qk_norm": True}), r"of this version of ict_ref \(.*qk_norm"),
        (with_entries("unet/config.json", sample_size=None), r"unet/config\.json: sample_size: expected an integer"),
        (with_entries("unet/config.json", sample_size=0), r"size: expected an integer >= 1, got 0"),
        (with_entries("unet/config.json", in_channels=1), r"expected the tensors of the network in unet/config\.json"),
        (with_entries("scheduler/scheduler_config.json", rho="7"), r"_config\.json: rho: expected a number, got '7'"),
        (with_entries("scheduler/scheduler_config.json", sigma_min=90.0), r"ict_ref \(.*sigma.min"),
        (with_tensor("free_form.spare", torch.zeros(1)), "got others: spare"),
        (with_tensor("spare", torch.zeros(1)), "got others: spare"),
        (with_tensor("free_form.stem.bias", NAN), r"expected tensors of finite floats, got stem\.bias has a NaN"),
        (with_tensor("free_form.stem.bias", torch.zeros(8, dtype=torch.int64)), r"got stem\.bias has int64"),
    ],
)
def test_other_and_damaged_folders_are_refused_in_one_line(
    change: Any, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(written(tmp_path / "in", checkpoint()))
    assert import_main([str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.search(complaint, lines[0])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (("--size", "8"), "--size: expected a file, got the folder .* Leave it out"),
        (("--no-average",), "--no-average: expected a file"),
        (("--dropout", "0.1"), "--dropout: expected a file"),
        (("--format", "openai"), "Is a directory"),
    ],
)
def test_options_of_files_are_refused_for_a_folder(
    given: tuple[str, ...], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path / "in", checkpoint())
    assert import_main([str(folder), "--out", str(tmp_path / "out"), *given]) == 2
    assert re.search(complaint, capsys.readouterr().err)


def test_a_file_is_not_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(checkpoint(), tmp_path / "file")
    assert import_main([str(tmp_path / "file"), "--out", str(tmp_path / "out"), "--format", "diffusers"]) == 2
    assert "--format diffusers: expected a folder, got" in capsys.readouterr().err


def pipeline_of(folder: Path) -> Any:
    diffusers = pytest.importorskip("diffusers")
    loaded = diffusers.DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.mark.parametrize("classes", [0, 10])
@pytest.mark.parametrize("levels", [{}, {"sigma_min": 0.01, "sigma_max": 50.0, "rho": 5.0, "sigma_data": 0.7}])
def test_the_pipeline_makes_our_samples(tmp_path: Path, classes: int, levels: dict[str, Any]) -> None:
    network = checkpoint(classes=classes, **levels)
    pipeline = pipeline_of(written(tmp_path, network))
    start = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 3, 9, 3]) if classes else None
    given = {
        "batch_size": 4,
        "num_inference_steps": None,
        "latents": start,
        "class_labels": labels,
        "output_type": "pt",
    }
    sigmas = sigma_grid(network.s1 + 1, sigma_min=network.sigma_min, sigma_max=network.sigma_max, rho=network.rho)
    model = network.model().eval()

    def f(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.clamp(model(x, sigma.to(torch.float32).expand(4), labels), -1, 1)

    for indices in ([0], [700, 0], [1100, 500, 0]):
        got = pipeline(timesteps=indices, generator=torch.Generator().manual_seed(7), **given).images
        generator = torch.Generator().manual_seed(7)
        noises = torch.stack([start, *(torch.randn(start.shape, generator=generator) for _ in indices[1:])])
        chosen = torch.stack([sigmas[network.s1 - index] for index in reversed(indices)])
        expected = multistep_sample(f, noises, chosen, sigma_min=network.sigma_min)
        torch.testing.assert_close(got, expected / 2 + 0.5, atol=2e-7, rtol=0)


def test_what_diffusers_saves_again_is_read_bit_for_bit(tmp_path: Path) -> None:
    network = checkpoint(classes=3, class_names=("a", "b", "c"), source="digits", sigma_max=50.0)
    pipeline = pipeline_of(written(tmp_path / "ours", network))
    pipeline.save_pretrained(tmp_path / "theirs")
    assert import_main([str(tmp_path / "theirs"), "--out", str(tmp_path / "back")]) == 0
    found = load_exported(tmp_path / "back" / "network.safetensors")
    assert dataclasses.replace(found, state={}) == dataclasses.replace(network, state={})
    assert all(torch.equal(value, network.state[name]) for name, value in found.state.items())


def test_a_pipeline_of_diffusers_own_network_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    diffusers = pytest.importorskip("diffusers", DIFFUSERS)
    unet = diffusers.UNet2DModel(
        sample_size=8,
        block_out_channels=(32,),
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )
    scheduler = diffusers.CMStochasticIterativeScheduler()
    diffusers.ConsistencyModelPipeline(unet=unet, scheduler=scheduler).save_pretrained(tmp_path / "in")
    assert import_main([str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    assert "got a ConsistencyModelPipeline with the network UNet2DModel of diffusers" in capsys.readouterr().err
