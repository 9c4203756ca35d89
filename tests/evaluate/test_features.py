"""Features of pixels, of the digits' classifier, and of TorchScript files, none of which executes anything else."""

import hashlib
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.extractors import FeaturesAlone, Logits, NotFinite, OfFloats, OneNumber, Pair, Picky, Public, saved
from torch import Tensor, nn

from ict_ref.data.dataset import digits
from ict_ref.evaluate import digits as of_digits
from ict_ref.evaluate.features import find_features

BOTH = digits()
GREY, COLOUR = (1, 8, 8), (3, 8, 8)


def noise(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def test_pixels_are_features_from_minus_1_to_1() -> None:
    pixels = noise(5, 3, 4, 6)
    features, probabilities = find_features("pixels")(pixels, classify=True)
    np.testing.assert_allclose(features.numpy(), pixels.numpy().reshape(5, 72) / 127.5 - 1, atol=1e-7)
    assert probabilities is None
    assert find_features("pixels").number((3, 4, 6)) == 72
    assert find_features("pixels").sha256 is None


def test_pixels_of_large_images_are_too_many() -> None:
    assert find_features("pixels").number((1, 64, 64)) == 4096
    with pytest.raises(ValueError, match="expected 1 to 4096 features, got 12288 of pixels"):
        find_features("pixels").number((3, 64, 64))


def test_the_digits_features_are_those_of_the_file_by_hand() -> None:
    features, probabilities = find_features("digits")(BOTH.train.pixels[:50], classify=True)
    assert probabilities is not None
    content = of_digits.FILE.read_bytes()
    # safetensors: the header's length, the header, and then the tensors in float32.
    length = int.from_bytes(content[:8], "little")
    header = eval(content[8 : 8 + length])  # noqa: S307 - our own file
    layers = {}
    for name, entry in header.items():
        start, stop = (8 + length + offset for offset in entry["data_offsets"])
        layers[name] = np.frombuffer(content[start:stop], np.float32).reshape(entry["shape"]).astype(np.float64)
    x = BOTH.train.pixels[:50].numpy().reshape(50, 64) / 127.5 - 1
    hidden = np.maximum(x @ layers["hidden.weight"] + layers["hidden.bias"], 0)
    power = np.exp(hidden @ layers["output.weight"] + layers["output.bias"])
    np.testing.assert_allclose(features.numpy(), hidden, atol=1e-5)
    np.testing.assert_allclose(probabilities.numpy(), power / power.sum(1, keepdims=True), atol=1e-5)
    assert find_features("digits").sha256 == hashlib.sha256(content).hexdigest()
    assert find_features("digits")(BOTH.train.pixels[:2], classify=False)[1] is None
    assert find_features("digits").number(GREY) == 64


def test_the_digits_classifier_is_what_its_recipe_teaches_but_for_rounding() -> None:
    taught = of_digits.taught()
    for images in (BOTH.train, BOTH.held_out):
        _, here = find_features("digits")(images.pixels, classify=True)
        _, again = of_digits.features_and_probabilities(taught, images.pixels)
        assert here is not None
        assert torch.equal(here.argmax(1), images.labels)
        # Two threads round otherwise than one, and 238 steps of L-BFGS make 0.02 of it at most, 0.0002 on average.
        assert float((here - again).abs().mean()) < 2e-3


@pytest.mark.parametrize("event", [(3, 8, 8), (1, 16, 16)])
def test_the_digits_classifier_sees_digits_alone(event: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="expected grey images of 8x8 pixels for digits, got"):
        find_features("digits").number(event)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_like_inception_is_called_as_public_code_calls_it(tmp_path: Path, channels: int) -> None:
    found, pixels = find_features(str(saved(Public(), tmp_path))), noise(6, channels, 8, 8)
    features, probabilities = found(pixels, classify=True)
    assert probabilities is not None
    module, x = Public(), pixels.numpy().astype(np.float64)
    pooled = (x if channels == 3 else np.repeat(x, 3, axis=1)).reshape(6, 3, 2, 4, 2, 4).mean((3, 5)).reshape(6, 12)
    expected = np.abs(pooled @ module.features.detach().numpy())
    power = np.exp(expected @ module.classes.detach().numpy())
    np.testing.assert_allclose(features.numpy(), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(probabilities.numpy(), power / power.sum(1, keepdims=True), atol=1e-4)
    assert found(pixels, classify=False)[1] is None
    assert found.number((channels, 8, 8)) == 5
    assert found.sha256 == hashlib.sha256((tmp_path / "Public.pt").read_bytes()).hexdigest()
    assert "return_features=True" in found.how
    assert "no_output_bias=True" in found.how


def test_a_file_with_features_alone_has_no_probabilities(tmp_path: Path) -> None:
    found, pixels = find_features(str(saved(FeaturesAlone(), tmp_path))), noise(4, 3, 8, 8)
    features, probabilities = found(pixels, classify=True)
    assert probabilities is None
    np.testing.assert_allclose(features.numpy(), pixels.numpy().mean(3).reshape(4, 24), rtol=1e-6)


def test_any_other_file_is_given_floats_from_minus_1_to_1(tmp_path: Path) -> None:
    found, pixels = find_features(str(saved(OfFloats(), tmp_path))), noise(4, 1, 8, 8)
    features, probabilities = found(pixels, classify=True)
    assert probabilities is None
    np.testing.assert_allclose(features.numpy(), (pixels.numpy() / 127.5 - 1).mean(3).reshape(4, 8), atol=1e-6)


def test_a_file_may_return_probabilities_beside_features(tmp_path: Path) -> None:
    found, pixels = find_features(str(saved(Pair(), tmp_path))), noise(4, 1, 8, 8)
    features, probabilities = found(pixels, classify=True)
    assert probabilities is not None
    power = np.exp(features.numpy())
    np.testing.assert_allclose(probabilities.numpy(), power / power.sum(1, keepdims=True), atol=1e-6)
    assert found(pixels, classify=False)[1] is None


@pytest.mark.parametrize(
    ("module", "complaint"),
    [
        (Logits(), "expected probabilities with sum 1, got a sum"),
        (NotFinite(), "expected finite features"),
        (OneNumber(), r"expected floats \[images, features\], got torch.float32 \[\]"),
        (Picky(), "failed on 2 images of 8x8 in 3 channels: .*mat1 and mat2"),
    ],
)
def test_a_module_that_has_no_features_is_refused(tmp_path: Path, module: nn.Module, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        find_features(str(saved(module, tmp_path))).number(COLOUR)
    assert "\n" not in str(caught.value)


class Malicious:
    """Executes a command when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.place),)


def test_a_pickle_is_refused_and_not_executed(tmp_path: Path) -> None:
    bad, done = pickle.dumps(Malicious(tmp_path / "done")), tmp_path / "done"
    plain, archive = tmp_path / "plain.pt", tmp_path / "archive.pt"
    plain.write_bytes(bad)
    torch.save(Malicious(done), archive)
    files = [plain, archive]
    good = saved(OfFloats(), tmp_path)
    for member in ("data.pkl", "constants.pkl"):
        files.append(tmp_path / f"{member}.pt")
        with zipfile.ZipFile(good) as source, zipfile.ZipFile(files[-1], "w") as target:
            for name in source.namelist():
                target.writestr(name, bad if name.endswith(member) else source.read(name))
    for file in files:
        with pytest.raises(
            ValueError, match=f"expected TorchScript, got another or damaged file {file}. Pickles are not"
        ):
            find_features(str(file))
        assert not done.exists()
    pickle.loads(bad)  # noqa: S301 - to see that it would have
    assert done.exists()


def test_a_file_that_is_cut_off_or_empty_or_not_there_is_refused(tmp_path: Path) -> None:
    whole = saved(OfFloats(), tmp_path).read_bytes()
    for content in (b"", whole[:-100], b"no zip"):
        (tmp_path / "cut.pt").write_bytes(content)
        with pytest.raises(ValueError, match="got another or damaged file"):
            find_features(str(tmp_path / "cut.pt"))
    with pytest.raises(ValueError, match=r"a torch.export program or a TorchScript file, got .*, which does not exist"):
        find_features(str(tmp_path / "nowhere.pt"))


def test_a_changed_bundled_file_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(of_digits.FILE.read_bytes())
    assert hashlib.sha256(content).hexdigest() == of_digits.SHA256
    content[-1] ^= 1
    (tmp_path / "digits.safetensors").write_bytes(content)
    monkeypatch.setattr(of_digits, "FILE", tmp_path / "digits.safetensors")
    with pytest.raises(ValueError, match=rf"expected SHA-256 {of_digits.SHA256}, got .*Install ict_ref again"):
        find_features("digits")
