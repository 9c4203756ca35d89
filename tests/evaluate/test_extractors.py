"""Extractors of the user: callables of a module, programs of torch.export, and their identity.

Oracle: the same modules as TorchScript, and NumPy.
"""

import hashlib
import os
import pickle
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.extractors import OfFloats, Pair, Public, saved
from torch import Tensor, nn

from ict_ref.evaluate.extractors import FORCED
from ict_ref.evaluate.features import find_features

MODULE = """
import torch

def rows(x):
    assert x.dtype == torch.float32
    return x.mean(3).flatten(1)

def both(x):
    return rows(x), rows(x).softmax(1)

def public(img, return_features=False, no_output_bias=False):
    assert img.dtype == torch.uint8 and img.shape[1] == 3
    features = img.float().mean(3).flatten(1)
    return features if return_features else features.softmax(1)

def failing(x):
    raise RuntimeError("no\\nweights")

def silent(x):
    raise AssertionError

network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.9))
number = 5

class Inner:
    rows = staticmethod(rows)
"""


def noise(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Return the name of a module in the working directory."""
    name = f"extractors_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def exported(network: nn.Module, path: Path, *, images: int = 4, dynamic: bool = True) -> Path:
    """Write a program for grey images of 8x8 pixels."""
    shapes = ({0: torch.export.Dim("images")},) if dynamic else None
    program = torch.export.export(network, (torch.zeros(images, 1, 8, 8),), dynamic_shapes=shapes)
    torch.export.save(program, path)
    return path


def test_a_callable_gets_floats_from_minus_1_to_1(module: str) -> None:
    found, pixels = find_features(f"{module}:rows"), noise(3, 1, 8, 8)
    features, probabilities = found(pixels, classify=True)
    np.testing.assert_allclose(features.numpy(), (pixels.numpy() / 127.5 - 1).mean(3).reshape(3, 8), atol=1e-6)
    assert probabilities is None
    assert (found.name, found.how) == (f"{module}:rows", "float32 images from -1 to 1")
    assert found.sha256 == hashlib.sha256(Path(f"{module}.py").read_bytes()).hexdigest()
    nested, _ = find_features(f"{module}:Inner.rows")(pixels, classify=False)
    assert torch.equal(nested, features)


def test_a_callable_may_return_probabilities_or_be_called_like_inception(module: str) -> None:
    pixels = noise(3, 1, 8, 8)
    for name in ("both", "public"):
        features, probabilities = find_features(f"{module}:{name}")(pixels, classify=True)
        assert probabilities is not None
        power = np.exp(features.double().numpy() - features.double().numpy().max(1, keepdims=True))
        np.testing.assert_allclose(probabilities.numpy(), power / power.sum(1, keepdims=True), atol=1e-5)
    assert features.shape == (3, 24)
    assert float(features.max()) > 1  # of bytes


def test_a_module_is_in_evaluation_mode(module: str) -> None:
    pixels = noise(3, 1, 8, 8)
    features, _ = find_features(f"{module}:network")(pixels, classify=False)
    np.testing.assert_allclose(features.numpy(), pixels.numpy().reshape(3, 64) / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize(
    ("attribute", "complaint"),
    [
        ("failing", r"failed on 2 images of 8x8 in 1 channel: weights\. It gets float32 images"),
        ("silent", r"failed on 2 images of 8x8 in 1 channel: AssertionError\. It gets float32 images"),
        ("number", "expected a callable, got .*:number, which is int"),
        ("Inner", "expected a callable, got the class .*:Inner. Give an instance of it"),
        ("nothing", "as module:callable, got AttributeError: module '.*' has no attribute 'nothing'. Run the command"),
    ],
)
def test_a_callable_that_cannot_be_used_is_one_line(attribute: str, complaint: str, module: str) -> None:
    with pytest.raises(ValueError, match=f"--features: .*{complaint}") as caught:
        find_features(f"{module}:{attribute}").number((1, 8, 8))
    assert "\n" not in str(caught.value)


def test_a_module_that_does_not_exist_or_fails_is_one_line(module: str) -> None:
    with pytest.raises(ValueError, match=r"got ModuleNotFoundError: No module named 'nowhere'. Run the command in its"):
        find_features("nowhere:rows")
    Path(f"broken_{module}.py").write_text("1 / 0")
    with pytest.raises(ValueError, match="got ZeroDivisionError: division by zero"):
        find_features(f"broken_{module}:rows")


def test_a_program_of_torch_export_is_what_torchscript_is(tmp_path: Path) -> None:
    pixels = noise(6, 1, 8, 8)
    for network in (OfFloats(), Pair()):
        file = exported(network, tmp_path / f"{type(network).__name__}.pt2")
        program, script = find_features(str(file)), find_features(str(saved(network, tmp_path)))
        features, probabilities = program(pixels, classify=True)
        wanted, classes = script(pixels, classify=True)
        torch.testing.assert_close(features, wanted)
        assert (probabilities is None) == (classes is None) == isinstance(network, OfFloats)
        if classes is not None:
            torch.testing.assert_close(probabilities, classes)
        assert program.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
        assert program.number((1, 8, 8)) == 8


def test_a_program_for_other_images_is_one_line(tmp_path: Path) -> None:
    found = find_features(str(exported(OfFloats(), tmp_path / "fixed.pt2", dynamic=False)))
    assert found(noise(4, 1, 8, 8), classify=False)[0].shape == (4, 8)
    with pytest.raises(ValueError, match=r"failed on 2 images of 8x8 in 1 channel: .*Export it with a dynamic number"):
        found.number((1, 8, 8))


class Malicious:
    """Executes a command when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.place),)


class Weighted(nn.Module):
    """Has a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return three features."""
        features: Tensor = self.linear(x.flatten(1))
        return features


def test_no_pickle_in_a_program_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, done = exported(Weighted(), tmp_path / "good.pt2"), tmp_path / "done"
    assert find_features(str(good)).number((1, 8, 8)) == 3
    # An archive of torch.save with the command in its pickle, in place of the sample inputs.
    torch.save(Malicious(done), tmp_path / "bad.pt")
    bad = tmp_path / "bad.pt2"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w") as target:
        for name in source.namelist():
            inputs = name.endswith("sample_inputs/model.pt")
            target.writestr(name, (tmp_path / "bad.pt").read_bytes() if inputs else source.read(name))
    with pytest.raises(ValueError, match=r"expected a torch.export program, got another or damaged file"):
        find_features(str(bad))
    assert not done.exists()
    assert FORCED not in os.environ
    monkeypatch.setenv(FORCED, "0")
    with pytest.raises(ValueError, match=r"expected a torch.export program"):
        find_features(str(bad))
    assert os.environ[FORCED] == "0"
    pickle.loads(pickle.dumps(Malicious(done)))  # noqa: S301 (to see that it would have)
    assert done.exists()


def test_a_damaged_program_is_one_line(tmp_path: Path) -> None:
    good = exported(Weighted(), tmp_path / "good.pt2")
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(tmp_path / "bad.pt2", "w") as target:
        for name in source.namelist():
            target.writestr(name, b"{}" if name.endswith("model.json") else source.read(name))
    with pytest.raises(ValueError, match=r"got another or damaged file .*bad.pt2 .*Write it with torch.export.save"):
        find_features(str(tmp_path / "bad.pt2"))
    (tmp_path / "cut.pt2").write_bytes(good.read_bytes()[:-50])
    with pytest.raises(ValueError, match="got another or damaged file"):
        find_features(str(tmp_path / "cut.pt2"))


def largest_member(path: Path, *, within: str) -> range:
    """Return the bytes of the largest member with this text in its name."""
    with zipfile.ZipFile(path) as archive:
        member = max((one for one in archive.infolist() if within in one.filename), key=lambda one: one.file_size)
        start = path.read_bytes().index(archive.read(member))
    return range(start, start + member.file_size)


def with_flip(path: Path, place: int, bit: int = 2) -> Path:
    """Return a copy of the file with one bit flipped."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    (path.parent / "flipped").write_bytes(content)
    return path.parent / "flipped"


def test_a_bit_flip_in_the_weights_of_an_extractor_is_found(tmp_path: Path) -> None:
    program, script = exported(Weighted(), tmp_path / "good.pt2"), Path(saved(Public(), tmp_path))
    for path, name, reason in (
        (script, "data/", "flipped: expected a whole archive, got a damaged file .*CRC-32.*Download it again"),
        (program, "weight", "expected a torch.export program, got another or damaged file"),
    ):
        find_features(str(path))
        tensors = largest_member(path, within=name)
        for place in (tensors.start + 1, tensors.stop - 2):
            with pytest.raises(ValueError, match=reason):
                find_features(str(with_flip(path, place)))


def test_a_bit_flip_anywhere_in_torchscript_is_found_or_without_effect(tmp_path: Path) -> None:
    path, images = Path(saved(Public(), tmp_path)), noise(3, 3, 8, 8)
    expected, refused = find_features(str(path))(images, classify=True)[0], 0
    choose = random.Random(0)  # noqa: S311 (places)
    for _ in range(150):
        flipped = with_flip(path, choose.randrange(path.stat().st_size), choose.randrange(8))
        try:
            found = find_features(str(flipped))(images, classify=True)[0]
        except ValueError:
            refused += 1
        else:
            np.testing.assert_array_equal(found, expected)
    assert refused > 75


def test_torchscript_is_called_as_before(tmp_path: Path) -> None:
    features, probabilities = find_features(str(saved(Public(), tmp_path)))(noise(3, 3, 8, 8), classify=True)
    assert features.shape == (3, 5)
    assert probabilities is not None
