"""Published networks through the importer: the formats that have no fixture, what is refused, and the command."""

import argparse
import json
import math
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tests.support.published import SMALL, fixture, given, import_options_of, imported, relative, state_of
from torch import Tensor

from ict_ref.checkpoint.network_file import load_exported
from ict_ref.import_checkpoint import main
from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.networks.published import FORMATS, read
from ict_ref.networks.published.common import ImportOptions
from ict_ref.networks.published.container import choose


def agrees(weights: NetworkCheckpoint, name: str, *, scale: float = 1.0) -> bool:
    """Return whether the network returns the fixture's output at `scale` times the noise level."""
    arrays = fixture(name)
    network = weights.model(torch.float64).network
    noise = scale * torch.from_numpy(arrays["sigma"]).log() / 4
    with torch.no_grad():
        return relative(network(torch.from_numpy(arrays["x"]), noise, given(name, "y")), arrays["out"]) < 1e-10


def score_sde_state(edm: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict that NCSNpp has for this SongUNet: its modules numbered as they are called."""
    found: dict[str, Tensor] = {"sigmas": torch.linspace(50, 0.01, 10)}
    number = 0

    def put(theirs: dict[str, str]) -> None:
        nonlocal number
        for name, key in theirs.items():
            for leaf in ("weight", "bias"):
                if f"{key}.{leaf}" in edm:
                    found[f"all_modules.{number}{name}.{leaf}"] = edm[f"{key}.{leaf}"]
        number += 1

    def block(key: str) -> None:
        parts = {"GroupNorm_0": "norm0", "Conv_0": "conv0", "Dense_0": "affine", "GroupNorm_1": "norm1"}
        put({f".{ours}": f"{key}.{theirs}" for ours, theirs in (parts | {"Conv_1": "conv1", "Conv_2": "skip"}).items()})

    def attention(key: str) -> None:
        nonlocal number
        if f"{key}.qkv.weight" not in edm:
            return
        nins = [(edm[f"{key}.qkv.weight"][i::3], edm[f"{key}.qkv.bias"][i::3]) for i in range(3)]
        nins.append((edm[f"{key}.proj.weight"], edm[f"{key}.proj.bias"]))
        for i, (w, b) in enumerate(nins):
            found[f"all_modules.{number}.NIN_{i}.W"], found[f"all_modules.{number}.NIN_{i}.b"] = w[:, :, 0, 0].T, b
        put({".GroupNorm_0": f"{key}.norm2"})

    found["all_modules.0.W"] = edm["map_noise.freqs"]
    number = 1
    for key in ("map_layer0", "map_layer1", "enc.16x16_conv"):
        put({"": key})
    for side in (16, 8, 4):
        if side < 16:
            block(f"enc.{side}x{side}_down")
            put({".Conv2d_0": f"enc.{side}x{side}_aux_residual"})
        for i in range(2):
            block(f"enc.{side}x{side}_block{i}")
            attention(f"enc.{side}x{side}_block{i}")
    block("dec.4x4_in0")
    attention("dec.4x4_in0")
    block("dec.4x4_in1")
    for side in (4, 8, 16):
        if side > 4:
            block(f"dec.{side}x{side}_up")
        for i in range(3):
            block(f"dec.{side}x{side}_block{i}")
        attention(f"dec.{side}x{side}_block2")
    put({"": "dec.16x16_aux_norm"})
    put({"": "dec.16x16_aux_conv"})
    assert len(found) == len(edm) + 1 + 4 * 4  # sigmas, and of each of four attentions six tensors for two
    return found


def head_first(state: dict[str, Tensor], d: int) -> dict[str, Tensor]:
    """Return the state dict with qkv in guided-diffusion's order: by loops, row by row."""
    found = dict(state)
    for key, value in state.items():
        if ".qkv." in key:
            channels = len(value) // 3
            rows = [
                value[kind * channels + head * d + c]
                for head in range(channels // d)
                for kind in range(3)
                for c in range(d)
            ]
            found[key] = torch.stack(rows)
    return found


def test_the_network_of_score_sde_is_the_same_function_of_four_times_the_input() -> None:
    import_options = import_options_of("ncsnpp_small")
    weights = read(score_sde_state(state_of("ncsnpp_small")), import_options)
    # Its F is fed log(sigma), and what the fixture's was fed, log(sigma) / 4, is a quarter.
    assert weights.options.time_scale == 4.0
    assert agrees(weights, "ncsnpp_small", scale=1 / 4)
    assert weights.options == replace(imported("ncsnpp_small").options, time_scale=4.0)


def test_a_checkpoint_of_score_sde_holds_the_ema_weights_as_a_list() -> None:
    state = score_sde_state(state_of("ncsnpp_small"))
    shadow = [2 * value for key, value in state.items() if key not in ("sigmas", "all_modules.0.W")]
    model = {f"module.{key}": value for key, value in state.items()}
    checkpoint = {"optimizer": {}, "model": model, "ema": {"decay": 0.999, "shadow_params": shadow}, "step": 7}
    trained, average = (
        read(choose(checkpoint, average=flag).state, ImportOptions(size=16)).state for flag in (False, True)
    )
    for name, value in trained.items():
        assert torch.equal(average[name], value if name.endswith("frequencies") else 2 * value)
    checkpoint["ema"] = {"shadow_params": shadow[1:]}
    with pytest.raises(ValueError, match=r"expected EMA weights for \d+ parameters, got"):
        choose(checkpoint, average=True)


def test_both_layouts_of_openai_attention_are_read_and_have_the_same_shapes() -> None:
    state, import_options = state_of("adm_small"), import_options_of("adm_small")
    other = head_first(state, 16)
    assert agrees(read(other, replace(import_options, qkv="head-first")), "adm_small")
    assert not agrees(read(other, import_options), "adm_small")


def test_options_are_read_from_names_and_shapes() -> None:
    adm, adagn, ncsnpp = (imported(name) for name in ("adm_small", "adm_small_adagn", "ncsnpp_small"))
    assert asdict(adm.options) == {
        "architecture": "adm", "embedding": "positional", "fourier_scale": 0.02, "width": 32,
        "multipliers": (1, 2, 3), "blocks": 2, "attention_resolutions": (8,), "head_channels": 16, "groups": 32,
        "adaptive_norm": False, "dropout": 0.2, "dropout_max_resolution": 8, "time_scale": 1000.0,
    }  # fmt: skip
    assert (adm.channels, adm.size, adm.classes) == (3, 16, 10)
    assert (adagn.options.adaptive_norm, adagn.options.multipliers, adagn.options.blocks) == (True, (1, 2), 1)
    assert (ncsnpp.options.multipliers, ncsnpp.options.blocks) == ((2, 2, 2), 2)
    assert (ncsnpp.options.attention_resolutions, ncsnpp.options.time_scale) == ((8,), 1.0)
    assert (ncsnpp.channels, ncsnpp.size, ncsnpp.classes) == (3, 16, 0)
    assert ncsnpp.options.fourier_scale == pytest.approx(0.02, rel=5 / math.sqrt(2 * 32))


def test_edm_s_preconditioner_filters_and_augmentation_are_set_aside() -> None:
    state = state_of("ncsnpp_small")
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    state["enc.8x8_down.conv0.resample_filter"] = torch.outer(taps, taps)[None, None]
    state["map_augment.weight"] = torch.zeros(64, 9)
    assert agrees(read({f"model.{key}": value for key, value in state.items()}, ImportOptions()), "ncsnpp_small")


def test_edm_s_label_map_has_a_bias_that_goes_into_its_columns() -> None:
    state, import_options = state_of("ncsnpp_small"), ImportOptions()
    generator = torch.Generator().manual_seed(0)
    w, b = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((64, 5), (64,)))
    embedding = (
        read(state | {"map_label.weight": w, "map_label.bias": b}, import_options)
        .model(torch.float64)
        .network.embedding
    )
    seen: list[Tensor] = []
    embedding.linear0.register_forward_pre_hook(lambda _, received: seen.append(received[0]))
    embedding(torch.zeros(1, dtype=torch.float64), torch.tensor([3]))
    # At noise 0 the features are 32 sines, 0, and 32 cosines, 1.
    features = torch.cat([torch.zeros(32), torch.ones(32)]).double()
    torch.testing.assert_close(seen[0][0], features + math.sqrt(5) * w[:, 3] + b)


def without(key: str) -> Callable[[dict[str, Tensor]], None]:
    def change(state: dict[str, Tensor]) -> None:
        del state[key]

    return change


def with_(key: str, *shape: int) -> Callable[[dict[str, Tensor]], None]:
    def change(state: dict[str, Tensor]) -> None:
        state[key] = torch.zeros(shape)

    return change


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("adm_small", without("middle_block.0.in_layers.0.bias"), r"1 missing \(middle_block\.0\.in_layers\.0\.bias\)"),
        ("adm_small", without("time_embed.0.weight"), r"expected the key time_embed\.0\.weight"),
        ("adm_small", with_("spare", 1), r"1 unknown \(spare\)"),
        (
            "adm_small",
            with_("time_embed.2.bias", 7),
            r"1 of another shape or kind \(time_embed\.2\.bias \[7\] .* for \[128\]\)",
        ),
        ("adm_small", with_("out.2.weight", 6, 32, 3, 3), r"expected 3 output channels, got 6\. .*learn_sigma"),
        ("adm_small", with_("input_blocks.3.0.op.weight", 1), "resblock_updown"),
        ("adm_small", with_("input_blocks.1.0.out_layers.3.weight", 40, 32, 3, 3), r"multiples of 32 .* got \[40, 64"),
        ("ncsnpp_small", without("enc.8x8_aux_residual.bias"), r"1 missing \(enc\.8x8_aux_residual\.bias\)"),
        ("ncsnpp_small", without("map_noise.freqs"), r"DDPM\+\+, as it has no map_noise\.freqs, got an enc"),
        ("ncsnpp_small", with_("dec.8x8_aux_conv.weight", 3, 64, 3, 3), "adds up images of all resolutions"),
        ("ncsnpp_small", with_("enc.8x8_down.conv0.resample_filter", 1, 1, 2, 2), "a resampling filter other"),
        ("ncsnpp_small", with_("out_conv.weight", 3, 64, 3, 3), "got the DhariwalUNet"),
        ("ncsnpp_small", with_("enc.8x8_block0.qkv.bias", 191), "three rows for each channel"),
    ],
)
def test_a_bad_key_is_named(name: str, change: Callable[[dict[str, Tensor]], None], complaint: str) -> None:
    state = state_of(name)
    change(state)
    with pytest.raises(ValueError, match=complaint):
        read(state, import_options_of(name))


def test_integer_tensors_are_not_parameters() -> None:
    state = state_of("adm_small") | {"time_embed.2.bias": torch.zeros(128, dtype=torch.int64)}
    with pytest.raises(
        ValueError, match=r"1 of another shape or kind \(time_embed\.2\.bias \[128\] torch\.int64 for \[128\]"
    ):
        read(state, import_options_of("adm_small"))


def test_many_odd_keys_are_counted_and_three_of_them_named() -> None:
    state = state_of("adm_small") | {f"spare.{i}": torch.zeros(1) for i in range(9)}
    with pytest.raises(ValueError, match=re.escape("9 unknown (spare.0, spare.1, spare.2, ...)")):
        read(state, import_options_of("adm_small"))


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_rejects_a_state_dict_of_another_model(form: str) -> None:
    with pytest.raises(ValueError, match="state dict: expected"):
        read({"weight": torch.zeros(1)}, ImportOptions(), form)
    with pytest.raises(ValueError, match="state dict: expected a network of openai, edm, score_sde, got keys weight"):
        read({"weight": torch.zeros(1)}, ImportOptions())


@pytest.mark.parametrize("content", [7, [torch.zeros(1)], {"step": 7}, {"model": {"a": 1}}])
def test_content_without_a_state_dict_is_rejected(content: object) -> None:
    with pytest.raises(ValueError, match="expected a mapping of names to tensors"):
        choose(content, average=True)


def saved(folder: Path, name: str, content: object) -> Path:
    """Return a file of torch.save with this content."""
    file = folder / name
    torch.save(content, file)
    return file


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_the_command_writes_a_network_that_is_the_author_s(
    name: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = state_of(name)
    file = saved(tmp_path, "theirs.pt", state)
    if kind == "safetensors":
        file = tmp_path / "theirs.safetensors"
        safetensors.torch.save_file(state, file)
    size = str(fixture(name)["x"].shape[-1])
    # A state dict of EDM says both itself.
    unstored = [] if name.startswith("ncsnpp") else ["--head-channels", "16", "--size", size]
    assert main([str(file), "--out", str(tmp_path / "out"), *unstored]) == 0
    written = tmp_path / "out" / "network.safetensors"
    weights = load_exported(written)
    assert agrees(weights, name)
    said = capsys.readouterr().out
    assert f"{int(fixture(name)['n_params']):,} parameters" in said
    assert str(written) in said
    about = json.loads((tmp_path / "out" / "network.json").read_text())
    assert about["network"] == json.loads(json.dumps(asdict(weights.options)))
    before = written.read_bytes()
    assert main([str(file), "--out", str(tmp_path / "out")]) == 2
    assert "Existing files are not overwritten" in capsys.readouterr().err
    assert written.read_bytes() == before


class Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("executed"),)


def damaged(folder: Path) -> dict[str, Path]:
    """Return files that cannot be imported."""
    file = saved(folder, "whole.pt", state_of("adm_small_adagn"))
    (folder / "cut.pt").write_bytes(file.read_bytes()[:-5000])
    (folder / "text.pt").write_text("not a network")
    (folder / "empty.pt").write_bytes(b"")
    (folder / "pickle.pkl").write_bytes(pickle.dumps({"ema": Harmful()}))
    safetensors.torch.save_file({"a": torch.zeros(9)}, folder / "whole.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "whole.safetensors").read_bytes()[:-5])
    nan = state_of("adm_small_adagn")
    nan["out.0.bias"][3] = math.nan
    saved(folder, "nan.pt", nan)
    saved(folder, "object.pt", {"model": 3})
    saved(folder, "arguments.pt", {"model": state_of("adm_small_adagn"), "args": argparse.Namespace(lr=1)})
    saved(folder, "numbers.pt", state_of("adm_small_adagn") | {5: torch.zeros(1)})
    saved(folder, "sparse.pt", state_of("adm_small_adagn") | {"out.0.bias": torch.ones(32).to_sparse()})
    saved(folder, "meta.pt", state_of("adm_small_adagn") | {"out.0.bias": torch.ones(32, device="meta")})
    os.mkfifo(folder / "pipe.pt")
    return {path.name: path for path in folder.iterdir()} | {"missing.pt": folder / "missing.pt", "folder": folder}


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("cut.pt", "damaged"),
        ("text.pt", "expected a file of torch.save or safetensors"),
        ("empty.pt", "expected a file of torch.save or safetensors"),
        ("pickle.pkl", "It is not read: it could execute code.* torch.save"),
        ("cut.safetensors", "damaged"),
        ("whole.safetensors", "expected a network of openai, edm, score_sde, got keys a"),
        ("nan.pt", r"head\.0\.bias: expected finite parameters, got a NaN or an infinity"),
        ("object.pt", "expected a mapping of names to tensors"),
        ("arguments.pt", r"expected tensors, got a pickle with other objects \(argparse\.Namespace\)"),
        ("numbers.pt", "expected names as keys, got 5"),
        ("sparse.pt", r"expected dense tensors with values, got out\.0\.bias sparse"),
        ("meta.pt", r"expected dense tensors with values, got out\.0\.bias on the meta device"),
        ("pipe.pt", "expected a regular file, got a pipe or a device"),
        ("missing.pt", "No such file"),
        ("folder", r"expected a folder of export_checkpoint --format diffusers, got a folder without model_index"),
        ("whole.pt", r"--network\.head-channels: expected 0 or a divisor of 32 channels"),
    ],
)
def test_bad_files_are_rejected_in_one_line_and_nothing_is_written(
    name: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    file = damaged(tmp_path / "in")[name]
    head = "48" if name == "whole.pt" else "16"
    assert main([str(file), "--out", str(tmp_path / "out"), "--head-channels", head, "--size", "16"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert re.search(complaint, captured.err)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("command", ["import_checkpoint", "export_checkpoint"])
def test_help_comes_without_importing_torch(command: str) -> None:
    code = (
        f"import sys\nfrom ict_ref.{command} import main\n"
        "try:\n    main(['--help'])\nfinally:\n    assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"python -m ict_ref.{command}" in done.stdout
    assert "exit status" in done.stdout
