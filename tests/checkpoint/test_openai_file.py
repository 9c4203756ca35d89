"""A network under the names of openai's code: the authors' own state dict again, and back to the same weights."""

import dataclasses
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.published import imported, state_of

from ict_ref.checkpoint.network_file import load_exported
from ict_ref.checkpoint.openai_file import content, import_command
from ict_ref.checkpoint.training_state import Checkpoint, save_checkpoint
from ict_ref.config import Network, minimal
from ict_ref.config.images import ImageDescription
from ict_ref.export_checkpoint import main
from ict_ref.import_checkpoint import main as import_main
from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.networks.published.openai import write_openai


@pytest.mark.parametrize("name", ["adm_small", "adm_small_adagn"])
def test_the_authors_state_dict_comes_back_with_their_names_shapes_and_values(name: str) -> None:
    theirs, found = state_of(name), write_openai(imported(name))
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in theirs.items()}
    assert all(torch.equal(value, theirs[key]) for key, value in found.items())


def random_network(**changes: Any) -> NetworkCheckpoint:
    options = Network(width=32, multipliers=(1, 2), blocks=1, attention_resolutions=(4,), head_channels=16, dropout=0.1)
    empty = NetworkCheckpoint(options=options, channels=1, size=8, classes=10, state={})
    empty = dataclasses.replace(empty, options=dataclasses.replace(options, **changes))
    generator = torch.Generator().manual_seed(3)
    names = empty.empty_network().state_dict().items()
    return dataclasses.replace(empty, state={name: torch.randn(v.shape, generator=generator) for name, v in names})


def test_the_printed_command_reads_the_file_back_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    network = random_network(time_scale=0.1, dropout_max_resolution=4)
    Path("a file.pt").write_bytes(content(network))
    words = shlex.split(import_command(network, Path("a file.pt")))
    assert words[:3] == ["python", "-m", "ict_ref.import_checkpoint"]
    assert import_main(words[3:]) == 0
    found = load_exported(Path("a file") / "network.safetensors")
    assert dataclasses.replace(found, state={}) == dataclasses.replace(network, state={})
    assert found.state.keys() == network.state.keys()
    assert all(torch.equal(value, network.state[name]) for name, value in found.state.items())


def test_the_file_is_a_plain_state_dict_of_torch_and_the_same_bytes_each_time() -> None:
    network = random_network()
    file = content(network)
    assert content(network) == file
    state = torch.load(io.BytesIO(file), weights_only=True)
    assert state["middle_block.1.qkv.weight"].shape == (192, 64, 1, 1)
    assert state["label_emb.weight"].shape == (10, 128)


def test_the_command_writes_the_ema_weights_of_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    network = random_network()
    config = dataclasses.replace(minimal(), network=network.options)
    file = save_checkpoint(
        tmp_path,
        Checkpoint(
            step=7,
            tensors={f"average/network.{name}": value for name, value in network.state.items()},
            config=config.digest(),
            options=json.loads(config.to_json()),
            images=ImageDescription(channels=1, size=8, classes=10),
        ),
    )
    assert main([str(file), "--format", "openai", "--out", "net.pt"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("wrote the EMA weights after step 7")
    assert printed[1] == f"to read it: {import_command(network, Path('net.pt'))}"
    state = torch.load("net.pt", weights_only=True)
    assert all(torch.equal(value, state[key]) for key, value in write_openai(network).items())
    assert main([str(file), "--format", "openai", "--out", "net.pt"]) == 2


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"architecture": "ncsnpp", "head_channels": 0},
            "expected a network of openai's code, adm, got ncsnpp.",
        ),
        ({"embedding": "fourier"}, "expected a network of openai's code, positional, got fourier"),
        ({"groups": 16}, "expected a network of openai's code, 32 groups, got 16 groups"),
    ],
)
def test_networks_that_openai_s_code_does_not_have_are_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"--format openai: {complaint}")):
        write_openai(random_network(**changes))


def test_denoisers_and_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="--format openai: expected a consistency model, got a denoiser"):
        content(dataclasses.replace(random_network(), is_denoiser=True))
    broken = random_network()
    next(iter(broken.state.values())).view(-1)[0] = float("nan")
    with pytest.raises(ValueError, match="expected finite parameters"):
        content(broken)
