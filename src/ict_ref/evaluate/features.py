"""Features of images: pixels, a classifier of the bundled digits, or an extractor of the user."""

import math
from typing import Any, Protocol, runtime_checkable

import safetensors.torch
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from ict_ref.data.dataset import to_float
from ict_ref.data.prepared import sha256
from ict_ref.evaluate import digits
from ict_ref.evaluate.extractors import load_extractor

Event = tuple[int, int, int]
Found = tuple[Float32[Tensor, " n d"], Float32[Tensor, " n classes"] | None]
# Largest number of features, whose covariance still fits in memory; Inception has 2048.
MOST = 4096


@runtime_checkable
class Features(Protocol):
    """A function from images to features, with its identity."""

    name: str
    sha256: str | None
    """SHA-256 of its file; None without a file."""
    how: str
    """Format of its input images."""

    def number(self, event: Event) -> int:
        """Return the number of features for images of this shape.

        Raises:
            ValueError: The function does not support this shape.
        """

    def __call__(self, pixels: UInt8[Tensor, " n channels height width"], *, classify: bool) -> Found:
        """Return the features and, with `classify`, the class probabilities of a classifier."""


def find_features(name: str, device: torch.device | str = "cpu") -> Features:
    """Return the built-in features of this name, or those of an extractor, on a device.

    Raises:
        ValueError: The name is unknown, or the extractor cannot be loaded.
        OSError: The file cannot be read.
    """
    if name == Pixels.name:
        return Pixels()
    return Digits(device) if name == Digits.name else Extractor(name, device)


class Pixels:
    """The pixels themselves."""

    name = "pixels"
    sha256: str | None = None
    how = "float32, 0 as -1 and 255 as 1"

    def number(self, event: Event) -> int:
        """Return the number of values of an image.

        Raises:
            ValueError: The image has more than MOST values.
        """
        return _not_too_many(self.name, math.prod(event))

    def __call__(self, pixels: UInt8[Tensor, " n channels height width"], *, classify: bool) -> Found:  # noqa: ARG002
        """Return the pixels, without class probabilities."""
        return to_float(pixels).reshape(len(pixels), -1), None


class Digits:
    """The hidden layer of a classifier of the bundled digits.

    Raises:
        ValueError: The bundled file is not the one of this version.
    """

    name = "digits"
    how = "float32, 0 as -1 and 255 as 1"

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.sha256: str | None = sha256(digits.FILE)
        if self.sha256 != digits.SHA256:
            raise ValueError(
                f"{digits.FILE}: expected SHA-256 {digits.SHA256}, got {self.sha256}. Install ict_ref again."
            )
        self._layers = safetensors.torch.load_file(digits.FILE, device=str(device))

    def number(self, event: Event) -> int:
        """Return the number of hidden units.

        Raises:
            ValueError: The images are not grey images of 8x8 pixels.
        """
        if event != digits.EVENT:
            raise ValueError(
                f"--features: expected grey images of 8x8 pixels for digits, got {_shape(event)}. Choose others."
            )
        return len(self._layers["hidden.bias"])

    def __call__(self, pixels: UInt8[Tensor, " n channels height width"], *, classify: bool) -> Found:
        """Return the hidden units and, with `classify`, the probabilities of the ten digits."""
        features, probabilities = digits.features_and_probabilities(self._layers, pixels)
        return features, probabilities if classify else None


class Extractor:
    """An extractor of the user: a TorchScript file, a program of torch.export or a callable of a Python module.

    An extractor with an argument return_features is called like NVIDIA's translation of Inception (Karras et al. 2020,
    metrics). Its input is uint8 images, 0 to 255, in three channels. return_features=True selects the features, and
    no_output_bias=True the softmax of IS if the extractor has this argument. Others are called with float32 images from
    -1 to 1, and return features, or features and probabilities.

    Raises:
        ValueError: The extractor does not exist or cannot be loaded.
    """

    def __init__(self, name: str, device: torch.device | str = "cpu") -> None:
        loaded = load_extractor(name, device)
        self.name, self._device, self._advice = name, device, loaded.advice
        self.sha256: str | None = None if loaded.file is None else sha256(loaded.file)
        self._function = loaded.function
        self._public = "return_features" in loaded.arguments
        self._classifies = "no_output_bias" in loaded.arguments
        if self._public:
            self.how = "uint8 images in 3 channels, return_features=True"
            self.how += "; IS: no_output_bias=True" if self._classifies else ""
        else:
            self.how = "float32 images from -1 to 1"

    def number(self, event: Event) -> int:
        """Return the number of features that the extractor returns for two images of this shape.

        Raises:
            ValueError: The extractor fails on these images or returns too many features.
        """
        varied = torch.arange(2 * math.prod(event)).to(torch.uint8).reshape(2, *event).to(self._device)
        features, _ = self(varied, classify=True)
        return _not_too_many(self.name, features.shape[1])

    @torch.no_grad()
    def __call__(self, pixels: UInt8[Tensor, " n channels height width"], *, classify: bool) -> Found:
        """Return the features and probabilities of the extractor.

        Raises:
            ValueError: The extractor fails, or its result is not valid features or probabilities.
        """
        try:
            features, probabilities = self._called(pixels, classify)
        except Exception as error:
            reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            images = f"{len(pixels)} images of {_shape(pixels.shape[1:])}"
            raise ValueError(f"--features: {self.name} failed on {images}: {reason[0]}. {self._advice}") from None
        n = len(pixels)
        if not (isinstance(features, Tensor) and features.is_floating_point() and features.shape[:1] == (n,)):
            raise ValueError(f"--features: {self.name}: expected floats [images, features], got {_kind(features)}")
        features = features.float().reshape(n, -1)
        if not bool(features.isfinite().all()):
            raise ValueError(f"--features: {self.name}: expected finite features, got a NaN or an infinity")
        return features, None if probabilities is None else self._checked(probabilities, n)

    def _called(self, pixels: UInt8[Tensor, " n channels height width"], classify: bool) -> tuple[Any, Any]:
        if self._public:
            coloured = pixels if pixels.shape[1] == 3 else pixels.expand(-1, 3, -1, -1)
            features = self._function(coloured, return_features=True)
            return features, self._function(coloured, no_output_bias=True) if classify and self._classifies else None
        found = self._function(to_float(pixels))
        features, probabilities = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
        return features, probabilities if classify else None

    def _checked(self, p: object, n: int) -> Float32[Tensor, " n classes"]:
        if not (isinstance(p, Tensor) and p.is_floating_point() and p.ndim == 2 and len(p) == n):
            raise ValueError(f"--features: {self.name}: expected probabilities [images, classes], got {_kind(p)}")
        total = p.double().sum(1)
        if not (bool((p >= 0).all()) and bool(((total - 1).abs() < 1e-3).all())):
            got = f"a sum of {float(total[0])}"
            raise ValueError(f"--features: {self.name}: expected probabilities with sum 1, got {got}")
        return (p.double() / total[:, None]).float()


def _not_too_many(name: str, number: int) -> int:
    if not 1 <= number <= MOST:
        raise ValueError(f"--features: expected 1 to {MOST} features, got {number} of {name}. Choose other features.")
    return number


def _shape(event: tuple[int, ...]) -> str:
    channels, height, width = event
    return f"{height}x{width} in {channels} channel{'s' * (channels > 1)}"


def _kind(value: object) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
