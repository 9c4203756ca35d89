"""Files with several state dicts: the one that is read is named, and the others too, in every form of public code."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tests.networks.test_published import score_sde_state
from tests.support.published import import_options_of, state_of
from torch import Tensor

from ict_ref.checkpoint.network_file import load_exported
from ict_ref.import_checkpoint import main
from ict_ref.networks.published import read
from ict_ref.networks.published.common import ImportOptions
from ict_ref.networks.published.container import choose

State = dict[str, Tensor]
TRAINED, AVERAGE = 1.0, 2.0


def filled(value: float) -> State:
    """Return a small network whose parameters all have this value."""
    return {key: torch.full_like(tensor, value) for key, tensor in state_of("adm_small_adagn").items()}


def prefixed(prefix: str, state: Mapping[str, Tensor]) -> State:
    return {f"{prefix}{key}": value for key, value in state.items()}


T, A = filled(TRAINED), filled(AVERAGE)
BOTH: dict[str, tuple[Any, str, str]] = {
    "model and ema": ({"model": T, "ema": A, "step": 3}, "ema", "model"),
    "model and model_ema": ({"model": T, "model_ema": A, "epoch": 9, "optimizer": {"state": {}}}, "model_ema", "model"),
    "model and ema_model": ({"model": T, "ema_model": A}, "ema_model", "model"),
    "state_dict and state_dict_ema": ({"state_dict": T, "state_dict_ema": A}, "state_dict_ema", "state_dict"),
    "ema_state_dict": ({"model_state_dict": T, "ema_state_dict": A}, "ema_state_dict", "model_state_dict"),
    "EMA of DataParallel": (
        {"net": prefixed("module.", T), "EMA": prefixed("module.", A)}, "EMA.module", "net.module",
    ),
    "a list of shadow_params": (
        {"model": T, "ema": {"decay": 0.99, "num_updates": 5, "shadow_params": list(A.values())}},
        "ema.shadow_params", "model",
    ),
    "a list at the top": ({"model": T, "shadow_params": list(A.values())}, "shadow_params", "model"),
    "an EMA with both inside": (
        {"model": T, "ema": {**prefixed("online_model.", T), **prefixed("ema_model.", A), "step": torch.tensor(4)}},
        "ema.ema_model", "",
    ),
    "prefixes in one mapping": ({**prefixed("model.", T), **prefixed("model_ema.", A)}, "model_ema", "model"),
    "nested": ({"state": {"net": T, "net_ema": A}, "config": {"lr": 0.1}}, "state.net_ema", "state.net"),
    "averaged alone": ({**prefixed("module.", A), "n_averaged": torch.tensor(7)}, "module", "module"),
    "counters beside parameters": ({**A, "num_updates": torch.tensor(7), "decay": 0.999}, "the whole file", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", BOTH)
def test_ema_weights_are_found_under_every_name_and_named(name: str) -> None:
    content, average, trained = BOTH[name]
    chosen = choose(content, average=True)
    assert chosen.entry == average
    assert chosen.state.keys() == A.keys()
    assert all(bool((value == AVERAGE).all()) for value in chosen.state.values())
    assert chosen.lines()[0] == f"read: {average}"
    if trained and trained != average:
        other = choose(content, average=False)
        assert other.entry == trained
        assert all(bool((value == TRAINED).all()) for value in other.state.values())
        assert any(line.startswith(average) for line in other.beside)
        assert any(line.startswith(f"{trained} (state dict of {len(T)} tensors)") for line in chosen.beside)


def test_everything_beside_the_network_is_named() -> None:
    assert choose(BOTH["model and model_ema"][0], average=True).lines() == [
        "read: model_ema",
        f"not read: model (state dict of {len(T)} tensors), epoch, optimizer",
    ]
    assert choose(BOTH["averaged alone"][0], average=True).beside == ("n_averaged",)
    assert choose(BOTH["counters beside parameters"][0], average=True).beside == ("num_updates", "decay")
    inside = choose(BOTH["an EMA with both inside"][0], average=True).beside
    assert [line.split(" ")[0] for line in inside] == ["model", "ema.online_model", "ema.step"]
    parts = {**prefixed("model.unet.", T), **prefixed("vae.", {"a.b": torch.ones(1), "a.c": torch.ones(1)})}
    assert choose({"state_dict": parts, "epoch": 3}, average=True).lines() == [
        "read: state_dict.model.unet",
        "not read: state_dict.vae (2 entries), epoch",
    ]
    assert choose(A, average=True).lines() == ["read: the whole file"]


@pytest.mark.parametrize(
    ("content", "average", "message"),
    [
        ({"ema_0.999": A, "ema_0.9999": A}, True, "expected one network, got 2: ema_0.999, ema_0.9999. Choose one by"),
        ({"model": T, "target_model": A}, True, "expected one network, got 2: model, target_model. Choose one by"),
        ({"generator": T, "teacher": A}, False, "expected one network, got 2: generator, teacher. Choose one by"),
        ({"ema": A, "step": 3}, False, "expected trained weights for --no-average, got only ema."),
        (
            {"model": T, "model_ema": {"input_blocks00weight": torch.ones(3)}}, True,
            "got another form in model_ema. Give --no-average to take the trained weights.",
        ),
        (
            {"state_dict": {**prefixed("model.unet.", T), "model_ema.input_blocks00weight": torch.ones(3)}}, True,
            "got another form in state_dict.model_ema. Give --no-average to take the trained weights.",
        ),
        ({"model": T, "ema_params": [list(A.values()), list(A.values())]}, True, "got another form in ema_params."),
        ({"model": T, "shadow_params": list(A.values())[1:]}, True, "expected EMA weights for"),
        ({"model": T, "shadow_params": list(A.values())[::-1]}, True, "expected EMA weights of shape"),
    ],
)  # fmt: skip
def test_nothing_is_chosen_where_several_fit(content: Any, average: bool, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        choose(content, average=average)


def test_an_entry_is_read_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"ema_0.999": A, "ema_0.9999": T, "step": 5}, tmp_path / "a.pt")
    options = ["--head-channels", "16", "--size", "16"]
    for entry, value in (("ema_0.9999", TRAINED), ("ema_0.999", AVERAGE)):
        out = tmp_path / entry
        assert main([str(tmp_path / "a.pt"), "--out", str(out), "--entry", entry, *options]) == 0
        shown = capsys.readouterr().out
        assert f"\nread: {entry}\nnot read: ema_0.99" in shown
        assert load_exported(out / "network.safetensors").state["head.0.bias"].tolist() == [value] * 32
    assert main([str(tmp_path / "a.pt"), "--out", str(tmp_path / "c"), "--entry", "EMA_0.99", *options]) == 2
    expected = "--entry: expected one of ema_0.999, ema_0.9999, got EMA_0.99; perhaps you meant ema_0.999"
    assert expected in capsys.readouterr().err


def test_prefixes_are_read_from_safetensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = {**prefixed("model.", T), **prefixed("ema.", A)}
    safetensors.torch.save_file(both, tmp_path / "a.safetensors")
    arguments = [str(tmp_path / "a.safetensors"), "--out", str(tmp_path / "out"), "--head-channels", "16"]
    assert main([*arguments, "--size", "16"]) == 0
    assert f"read: ema\nnot read: model (state dict of {len(T)} tensors)\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--qkv", "head-first"], "--qkv: expected a network of openai, got --qkv head-first for another."),
        (["--head-channels", "0"], "--head-channels: expected a network of openai, got --head-channels 0 for another."),
        (["--size", "64"], "--size: expected 16, as the names in "),
        (["--no-average", "--entry", "model"], "--no-average: expected nothing beside --entry, got both."),
    ],
)
def test_options_that_the_network_does_not_have_are_named(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    safetensors.torch.save_file(state_of("ncsnpp_small"), tmp_path / "a.safetensors")
    assert main([str(tmp_path / "a.safetensors"), "--out", str(tmp_path / "out"), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "out").exists()
    assert main([str(tmp_path / "a.safetensors"), "--out", str(tmp_path / "out"), "--size", "16"]) == 0


SIZES: dict[str, Callable[[], tuple[State, ImportOptions]]] = {
    "openai, 3 stages": lambda: (state_of("adm_small"), ImportOptions(head_channels=16)),
    "openai, 2 stages": lambda: (state_of("adm_small_adagn"), ImportOptions(head_channels=16)),
    "score_sde, 3 stages": lambda: (score_sde_state(state_of("ncsnpp_small")), ImportOptions()),
}


@pytest.mark.parametrize("name", SIZES)
def test_the_size_is_asked_for_where_the_stages_are_not_those_of_the_released_networks(name: str) -> None:
    state, options = SIZES[name]()
    stages = re.search(r"\d", name)
    assert stages is not None
    with pytest.raises(
        ValueError, match=f"--size: expected the side of the images for a network of {stages[0]} stages"
    ):
        read(state, options)


def test_the_size_of_edm_s_networks_is_in_their_names() -> None:
    assert read(state_of("ncsnpp_small"), ImportOptions()).size == 16


def test_unknown_keys_alone_have_advice_that_helps() -> None:
    state = state_of("adm_small") | {"num.updates": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"1 unknown \(num\.updates\)\. Save the state dict without them\."):
        read(state, import_options_of("adm_small"))


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "a.ckpt"])
def test_a_git_lfs_pointer_is_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    assert main([str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
    assert "it is a Git LFS pointer, not the file itself. Run git lfs pull" in capsys.readouterr().err
