"""EDM's DDPM++ through the importer.

Oracle: the network that Song et al. 2021 and EDM, Table 7, describe, written out on the names of a SongUNet's tensors.
"""

import math
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ict_ref.config import Network
from ict_ref.config.presets import DDPMPP
from ict_ref.import_checkpoint import main
from ict_ref.networks.published import read
from ict_ref.networks.published.common import ImportOptions

State = dict[str, Tensor]


class SongUNet:
    """The function of a state dict, and the shapes of its tensors."""

    def __init__(self, *, size: int, width: int, multipliers: tuple[int, ...], blocks: int, attention: int) -> None:
        self.size, self.width, self.multipliers = size, width, multipliers
        self.blocks, self.attention = blocks, attention
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.plan: list[tuple[str, str]] = []
        self._lay_out()

    def _lay_out(self) -> None:
        """Note the blocks in their order, encoder and decoder, and the shape of each tensor."""
        self._linear("map_layer0", self.width, 4 * self.width)
        self._linear("map_layer1", 4 * self.width, 4 * self.width)
        self._conv(f"enc.{self.size}x{self.size}_conv", 3, self.width, 3)
        skips, before = [self.width], self.width
        for stage, multiplier in enumerate(self.multipliers):
            side, after = self.size >> stage, self.width * multiplier
            if stage:
                self._block(f"enc.{side}x{side}_down", before, before, "down")
                skips.append(before)
            for number in range(self.blocks):
                self._block(f"enc.{side}x{side}_block{number}", before, after, attends=side == self.attention)
                skips.append(after)
                before = after
        for stage, multiplier in reversed(list(enumerate(self.multipliers))):
            side, after = self.size >> stage, self.width * multiplier
            if stage == len(self.multipliers) - 1:
                self._block(f"dec.{side}x{side}_in0", before, before, attends=True)
                self._block(f"dec.{side}x{side}_in1", before, before)
            else:
                self._block(f"dec.{side}x{side}_up", before, before, "up")
            for number in range(self.blocks + 1):
                attends = side == self.attention and number == self.blocks
                self._block(f"dec.{side}x{side}_block{number}", before + skips.pop(), after, "join", attends=attends)
                before = after
        self._norm(f"dec.{self.size}x{self.size}_aux_norm", before)
        self._conv(f"dec.{self.size}x{self.size}_aux_conv", before, 3, 3)

    def _linear(self, name: str, before: int, after: int) -> None:
        self.shapes |= {f"{name}.weight": (after, before), f"{name}.bias": (after,)}

    def _conv(self, name: str, before: int, after: int, side: int) -> None:
        self.shapes |= {f"{name}.weight": (after, before, side, side), f"{name}.bias": (after,)}

    def _norm(self, name: str, channels: int) -> None:
        self.shapes |= {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}

    def _block(self, name: str, before: int, after: int, kind: str = "", *, attends: bool = False) -> None:
        self.plan.append((name, kind))
        self._norm(f"{name}.norm0", before)
        self._conv(f"{name}.conv0", before, after, 3)
        self._linear(f"{name}.affine", 4 * self.width, after)
        self._norm(f"{name}.norm1", after)
        self._conv(f"{name}.conv1", after, after, 3)
        if before != after or kind in ("up", "down"):
            self._conv(f"{name}.skip", before, after, 1)
        if attends:
            self._norm(f"{name}.norm2", after)
            self._conv(f"{name}.qkv", after, 3 * after, 1)
            self._conv(f"{name}.proj", after, after, 1)

    def state(self, seed: int = 0) -> State:
        """Return random tensors in all places, with the filters that such a module also stores."""
        generator = torch.Generator().manual_seed(seed)
        made = {}
        for name, shape in self.shapes.items():
            value = torch.randn(shape, generator=generator, dtype=torch.float64)
            made[name] = value / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 1 + 0.1 * value
        for name, kind in self.plan:
            if kind in ("up", "down"):
                made |= {f"{name}.{part}.resample_filter": torch.full((1, 1, 2, 2), 0.25) for part in ("conv0", "skip")}
        return made

    def __call__(self, w: State, x: Tensor, c_noise: Tensor, one_hot: Tensor | None = None) -> Tensor:
        """Return F(x, c_noise)."""
        half = self.width // 2
        angles = c_noise[:, None] * torch.tensor([1e4 ** (-k / (half - 1)) for k in range(half)], dtype=torch.float64)
        e = torch.cat([angles.sin(), angles.cos()], dim=1)
        if one_hot is not None:
            e = e + F.linear(one_hot * math.sqrt(one_hot.shape[1]), w["map_label.weight"], w["map_label.bias"])
        for layer in ("map_layer0", "map_layer1"):
            e = F.silu(F.linear(e, w[f"{layer}.weight"], w[f"{layer}.bias"]))
        stem = f"enc.{self.size}x{self.size}_conv"
        h = F.conv2d(x, w[f"{stem}.weight"], w[f"{stem}.bias"], padding=1)
        kept = [h]
        for name, kind in self.plan:
            if kind == "join":
                h = torch.cat([h, kept.pop()], dim=1)
            h = self._through(w, name, kind, h, e)
            if name.startswith("enc"):
                kept.append(h)
        head = f"dec.{self.size}x{self.size}_aux"
        h = F.silu(normalised(w, f"{head}_norm", h))
        return F.conv2d(h, w[f"{head}_conv.weight"], w[f"{head}_conv.bias"], padding=1)

    def _through(self, w: State, name: str, kind: str, x: Tensor, e: Tensor) -> Tensor:
        def resampled(h: Tensor) -> Tensor:
            if kind == "down":
                return F.avg_pool2d(h, 2)
            return h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3) if kind == "up" else h

        def conv(part: str, h: Tensor) -> Tensor:
            kernel = w[f"{name}.{part}.weight"]
            return F.conv2d(h, kernel, w[f"{name}.{part}.bias"], padding=kernel.shape[-1] // 2)

        h = conv("conv0", resampled(F.silu(normalised(w, f"{name}.norm0", x))))
        h = h + F.linear(e, w[f"{name}.affine.weight"], w[f"{name}.affine.bias"])[:, :, None, None]
        h = conv("conv1", F.silu(normalised(w, f"{name}.norm1", h)))
        h = (h + (conv("skip", resampled(x)) if f"{name}.skip.weight" in w else x)) / math.sqrt(2)
        if f"{name}.qkv.weight" not in w:
            return h
        n, channels, *_ = h.shape
        rows = conv("qkv", normalised(w, f"{name}.norm2", h)).reshape(n, channels, 3, -1)
        q, k, v = rows[:, :, 0], rows[:, :, 1], rows[:, :, 2]
        attended = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(channels), dim=-1)
        out = (v @ attended.transpose(1, 2)).reshape(h.shape)
        return (h + conv("proj", out)) / math.sqrt(2)


def normalised(w: State, name: str, h: Tensor) -> Tensor:
    """Return a group normalisation of groups of at least four channels, at most 32."""
    groups = min(32, h.shape[1] // 4)
    return F.group_norm(h, groups, w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-6)


SMALL = SongUNet(size=16, width=16, multipliers=(1, 2, 2), blocks=2, attention=8)


def inputs() -> tuple[Tensor, Tensor]:
    """Return images and log(sigma)/4 of noise levels from 0.002 to 80."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 3, 16, 16, generator=generator, dtype=torch.float64)
    return x, torch.tensor([0.002, 0.5, 3.0, 80.0], dtype=torch.float64).log() / 4


def test_the_imported_network_is_the_same_function() -> None:
    state, (x, c_noise) = SMALL.state(), inputs()
    found = read(state | {"map_augment.weight": torch.ones(16, 9)}, ImportOptions())
    assert found.options == Network(
        architecture="ddpmpp", width=16, multipliers=(1, 2, 2), blocks=2, attention_resolutions=(8,), head_channels=0,
        dropout=0.0,
    )  # fmt: skip
    assert (found.channels, found.size, found.classes) == (3, 16, 0)
    expected = SMALL(state, x, c_noise)
    with torch.no_grad():
        value = found.model(torch.float64).network(x, c_noise, None)
    assert float((value - expected).abs().max() / expected.abs().max()) < 1e-12


def test_the_imported_network_with_labels_is_the_same_function() -> None:
    state, (x, c_noise) = SMALL.state(), inputs()
    generator = torch.Generator().manual_seed(2)
    shapes = {"map_label.weight": (16, 5), "map_label.bias": (16,)}
    state |= {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    labels = torch.tensor([0, 3, 4, 1])
    found = read({f"model.{key}": value for key, value in state.items()}, ImportOptions())
    assert found.classes == 5
    expected = SMALL(state, x, c_noise, F.one_hot(labels, 5).double())
    with torch.no_grad():
        value = found.model(torch.float64).network(x, c_noise, labels)
    assert float((value - expected).abs().max() / expected.abs().max()) < 1e-12


def test_edm_s_network_for_cifar10_has_the_tensors_of_the_ect_preset() -> None:
    """55 733 891 parameters, of which 1 152 are of augmentation labels"""
    full = SongUNet(size=32, width=128, multipliers=(2, 2, 2), blocks=4, attention=16)
    assert sum(math.prod(shape) for shape in full.shapes.values()) == 55_733_891 - 9 * 128
    state = {name: torch.zeros(shape) for name, shape in full.shapes.items()}
    found = read(state, ImportOptions(dropout=0.2, dropout_max_resolution=32))
    assert found.options == DDPMPP
    assert found.other_tensor() is None


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"ema": SMALL.state()}, tmp_path / "vp.pt")
    assert main([str(tmp_path / "vp.pt"), "--out", str(tmp_path / "out")]) == 0
    count = sum(math.prod(shape) for shape in SMALL.shapes.values())
    assert f"DDPM++: {count:,} parameters, images of 3 x 16 x 16, no labels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ({"enc.8x8_aux_residual.weight": (16, 3, 3, 3)}, "got an encoder with an input pyramid"),
        ({"enc.8x8_aux_skip.weight": (16, 3, 1, 1)}, "got an encoder with an input pyramid"),
        ({"dec.8x8_aux_conv.weight": (3, 32, 3, 3)}, "got a decoder that adds up images of all resolutions"),
        ({"enc.8x8_down.conv0.resample_filter": (1, 1, 4, 4)}, "got a resampling filter other than [1, 1]"),
        ({"out_conv.weight": (3, 16, 3, 3)}, "expected a SongUNet, got the DhariwalUNet"),
        (
            {"map_noise.freqs": (8,)},
            "configured as NCSN++, got an encoder without the residual input pyramid and a",
        ),
        ({"map_layer0.weight": (64, 32)}, "1 of another shape or kind (map_layer0.weight [64, 32]"),
        ({"spatial_emb": (1, 16, 16, 16)}, "1 unknown (spatial_emb)"),
    ],
)
def test_other_songunets_are_rejected(extra: dict[str, tuple[int, ...]], complaint: str) -> None:
    state = SMALL.state() | {name: torch.ones(shape) for name, shape in extra.items()}
    with pytest.raises(ValueError, match=re.escape(complaint)):
        read(state, ImportOptions())
