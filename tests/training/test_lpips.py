"""LPIPS from published files, with random weights of the published shapes.

Oracle: the formula of the paper in NumPy and float64, with VGG16's table of layers, both ways of pooling, and the two
published ways to standardize images.
"""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torchmetrics
from jaxtyping import Float64
from tests.support.one_line import rejection
from torch import Tensor

from ict_ref.config import Method
from ict_ref.networks.lpips import Lpips, shapes
from ict_ref.training import distance as module
from ict_ref.training.distance import distance_of
from ict_ref.training.import_lpips import main
from ict_ref.training.lpips_file import published_weights, read_lpips

State = dict[str, Tensor]
# VGG16, configuration D of its paper: channels of each convolution; None is pooling.
VGG16 = [64, 64, None, 128, 128, None, 256, 256, 256, None, 512, 512, 512, None, 512, 512, 512, None]
# The published weights of the channels, which torchmetrics redistributes.
CHANNELS = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models" / "vgg.pth"


@pytest.fixture(scope="module")
def state() -> State:
    """Return random weights with torchvision's and lpips' names, which keep features at their size."""
    generator = torch.Generator().manual_seed(0)
    found: State = {}
    for name, shape in shapes().items():
        drawn = torch.randn(shape, generator=generator)
        if name.startswith("lin"):
            found[name] = drawn.abs()
        else:
            fan_in = shape[1] * 9 if name.endswith("weight") else 100
            found[name] = drawn * (2 / fan_in) ** 0.5
    return found


@pytest.fixture(scope="module")
def files(state: State, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return files like torchvision's, with a head that LPIPS does not use, and like that of lpips."""
    folder = tmp_path_factory.mktemp("published")
    vgg = {name: tensor for name, tensor in state.items() if name.startswith("features")}
    torch.save(vgg | {"classifier.0.weight": torch.zeros(3, 3)}, folder / "vgg16.pth")
    torch.save({name: tensor for name, tensor in state.items() if name.startswith("lin")}, folder / "vgg.pth")
    return folder / "vgg16.pth", folder / "vgg.pth"


@pytest.fixture(scope="module")
def images() -> tuple[Tensor, Tensor]:
    """Return two batches of images with values from -1 to 1."""
    x, y = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return x, y


def by_formula(state: State, images: tuple[Tensor, Tensor], pooling: str) -> Float64[np.ndarray, " batch"]:
    """Return sum_l mean_hw sum_c w_lc (u_lc(x) - u_lc(y))^2."""
    total = np.zeros(len(images[0]))
    for k, (a, b) in enumerate(zip(*(units(state, x.double().numpy(), pooling) for x in images), strict=True)):
        w = state[f"lin{k}.model.1.weight"].double().numpy().reshape(-1)
        total += np.einsum("c,nchw->n", w, (a - b) ** 2) / (a.shape[2] * a.shape[3])
    return total


def units(state: State, x: Float64[np.ndarray, " n 3 h w"], pooling: str) -> list[Float64[np.ndarray, " n c h w"]]:
    """Return the features before each pooling, divided by their length."""
    if pooling == "max":  # the package lpips gives images from -1 to 1 to a layer with these numbers
        shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    else:  # CM's PyTorch code maps images to [0, 1], which piq standardizes by ImageNet's numbers
        x = (x + 1) / 2
        shift, scale = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    h = (x - shift[:, None, None]) / scale[:, None, None]
    found, layer = [], 0
    for entry in VGG16:
        if entry is None:
            found.append(h / np.sqrt((h**2).sum(1, keepdims=True)))
            n, c, height, width = h.shape
            cells = h.reshape(n, c, height // 2, 2, width // 2, 2)
            h = cells.max((3, 5)) if pooling == "max" else cells.mean((3, 5))
            layer += 1
        else:
            w, b = (state[f"features.{layer}.{name}"].double().numpy() for name in ("weight", "bias"))
            assert len(w) == entry
            padded = np.pad(h, ((0, 0), (0, 0), (1, 1), (1, 1)))
            windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
            h = np.maximum(np.tensordot(windows, w, ([1, 4, 5], [1, 2, 3])).transpose(0, 3, 1, 2) + b[:, None, None], 0)
            layer += 2
    return found


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_the_file_of_the_command_is_the_published_distance(
    pooling: str,
    state: State,
    files: tuple[Path, Path],
    images: tuple[Tensor, Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "new" / "lpips.safetensors"
    assert main([*map(str, files), "--pooling", pooling, "--out", str(out)]) == 0
    assert f"VGG16 with {pooling} pooling to {out}" in capsys.readouterr().out
    expected = torch.from_numpy(by_formula(state, images, pooling))
    # A distance in training enlarges images to 224 pixels, which here are 32 already.
    monkeypatch.setattr(module, "LPIPS_SIZE", 32)
    found = distance_of(Method(distance="lpips", lpips=str(out)), 3072)(*images)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=0)
    exact = read_lpips(out)(images[0].double(), images[1].double())
    torch.testing.assert_close(exact, expected, rtol=1e-7, atol=0)  # the 1e-10 beside the length


def test_the_poolings_are_different_distances(state: State, images: tuple[Tensor, Tensor]) -> None:
    one, other = (float(Lpips(state, pooling)(*images)[0]) for pooling in ("max", "average"))
    assert abs(one / other - 1) > 0.01


def test_max_is_the_default(files: tuple[Path, Path], tmp_path: Path) -> None:
    assert main([*map(str, files), "--out", str(tmp_path / "a.safetensors")]) == 0
    assert read_lpips(tmp_path / "a.safetensors").pooling == "max"


def test_an_image_is_at_distance_0_of_itself_and_pairs_are_symmetric(
    state: State, images: tuple[Tensor, Tensor]
) -> None:
    x, y = images
    distance = Lpips(state, "max")
    assert distance(x, x).tolist() == [0.0, 0.0]
    torch.testing.assert_close(distance(x, y), distance(y, x))
    torch.testing.assert_close(distance(x, y)[1:], distance(x[1:], y[1:]), rtol=1e-5, atol=0)


def test_gradients_reach_the_images_and_not_the_weights_and_are_finite_where_all_features_are_0(
    state: State, images: tuple[Tensor, Tensor]
) -> None:
    dead = {name: -1e9 * torch.ones_like(t) if name == "features.0.bias" else t for name, t in state.items()}
    dead |= {name: torch.zeros_like(t) for name, t in state.items() if name.endswith("bias") and "s.0" not in name}
    for weights, finite in ((state, False), (dead, True)):
        x = images[0].clone().requires_grad_()
        distance = Lpips(weights, "max")
        assert list(distance.parameters()) == []
        (gradient,) = torch.autograd.grad(distance(x, images[1]).sum(), x)
        assert bool(gradient.isfinite().all())
        assert bool((gradient == 0).all()) is finite


def test_the_published_weights_of_the_channels_fit(files: tuple[Path, Path], tmp_path: Path) -> None:
    """The file of the package lpips, as torchmetrics redistributes it, and the state dict of its module"""
    found = published_weights([files[0], CHANNELS])
    published = torch.load(CHANNELS, map_location="cpu", weights_only=True)
    for k in range(5):
        assert torch.equal(found[f"lin{k}.model.1.weight"], published[f"lin{k}.model.1.weight"])


def test_a_state_dict_of_the_package_has_both(state: State, files: tuple[Path, Path], tmp_path: Path) -> None:
    """lpips.LPIPS(net="vgg") calls a convolution net.sliceK.N and has lins.K beside linK"""
    slices = {**dict.fromkeys((0, 2), 1), **dict.fromkeys((5, 7), 2), **dict.fromkeys((10, 12, 14), 3)}
    slices |= {**dict.fromkeys((17, 19, 21), 4), **dict.fromkeys((24, 26, 28), 5)}
    whole: State = {"scaling_layer.shift": torch.zeros(1, 3, 1, 1)}
    for name, tensor in state.items():
        head, _, rest = name.partition(".")
        layer = rest.partition(".")[0]
        whole[f"net.slice{slices[int(layer)]}.{rest}" if head == "features" else name] = tensor
        if head != "features":
            whole[f"lins.{head[3:]}.{rest}"] = tensor
    torch.save(whole, tmp_path / "lpips.pt")
    (tmp_path / ".b.safetensors.0123456789abcdef.tmp").touch()  # of a process that was killed while it wrote
    for file, paths in (("a", files), ("b", [tmp_path / "lpips.pt"])):
        assert main([*map(str, paths), "--out", str(tmp_path / f"{file}.safetensors")]) == 0
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert {one.name for one in tmp_path.iterdir()} == {"a.safetensors", "b.safetensors", "lpips.pt"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"features.28.bias": None},
            "FILE: expected features.28.bias, got no such tensor. Give the file of torchvision",
        ),
        (
            {"lin4.model.1.weight": None},
            "FILE: expected lin4.model.1.weight, got no such tensor. Give the file of lpips",
        ),
        ({"features.0.weight": torch.zeros(64, 3, 5, 5)}, "of shape [64, 3, 3, 3], got [64, 3, 5, 5] of torch.float32"),
        ({"lin0.model.1.weight": -torch.ones(1, 64, 1, 1)}, "expected weights >= 0 in lin0.model.1.weight"),
        ({"features.0.bias": torch.full((64,), torch.nan)}, "expected finite weights in features.0.bias"),
    ],
)
def test_weights_that_do_not_fit_are_one_line(
    change: dict[str, Tensor | None],
    says: str,
    state: State,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.save({name: t for name, t in (state | change).items() if t is not None}, tmp_path / "a.pt")
    assert main([str(tmp_path / "a.pt"), "--out", str(tmp_path / "b.safetensors")]) == 2
    assert says in rejection(capsys, "ict_ref.training.import_lpips")
    assert not (tmp_path / "b.safetensors").exists()


def test_other_files_and_places_are_one_line(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.pt").write_text("no tensors")
    torch.save([1], tmp_path / "list.pt")
    (tmp_path / "there.safetensors").write_text("mine")
    for words, says in (
        (["text.pt", "--out", "a.safetensors"], "FILE: "),
        (["list.pt", "--out", "a.safetensors"], "FILE: expected tensors by name, got list"),
        (["none.pt", "--out", "a.safetensors"], "cannot use "),
        (["list.pt", "--out", "a.pt"], "--out: expected a name that ends in .safetensors"),
        (["list.pt", "--out", "there.safetensors"], "--out: expected a new path"),
        (["list.pt", "--out", "a.safetensors", "--pooling", "min"], "--pooling: expected one of max, average, got min"),
    ):
        here = [str(tmp_path / word) if "." in word else word for word in words]
        assert main(here) == 2
        assert says in rejection(capsys, "ict_ref.training.import_lpips")
    assert (tmp_path / "there.safetensors").read_text() == "mine"


def test_a_damaged_file_and_one_of_a_later_version_are_rejected(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "lpips.safetensors"
    assert main([*map(str, files), "--out", str(out)]) == 0
    whole = out.read_bytes()
    out.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"lpips\.safetensors is damaged .*import_lpips"):
        distance_of(Method(distance="lpips", lpips=str(out)), 3072)
    (length,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + length])
    about = json.loads(header["__metadata__"]["ict_ref"])
    safetensors.torch.save_file(
        safetensors.torch.load(whole), out, metadata={"ict_ref": json.dumps(about | {"format": 9})}
    )
    with pytest.raises(ValueError, match="expected format 1 or lower, got 9"):
        distance_of(Method(distance="lpips", lpips=str(out)), 3072)
