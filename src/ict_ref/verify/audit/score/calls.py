"""Calls of a score under audit: the sets that it is given, its value, and what an extractor saw."""

import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float64, Shaped
from torch import Tensor, nn
from torch.nn import functional

from ict_ref.verify.audit.options import ScoreOptions
from ict_ref.verify.audit.score.values import Features, Value, moments
from ict_ref.verify.target.load import TargetError

WIDTH = 6
"""Number of features."""
FORMS = {2: "features", 3: "images", 4: "moments"}


class Extractor(nn.Module):
    """A small network with six features per image, which records its inputs and its features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        numbers = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(4 * channels, WIDTH, generator=numbers) / 64, requires_grad=False)
        self.inputs: list[Shaped[Tensor, ...]] = []
        self.features: list[Float64[Tensor, "_n _d"]] = []
        self.was_training = False

    def forward(self, x: Shaped[Tensor, "..."], *_others: object, **_named: object) -> Tensor:
        """Return the features of images [B, C, H, W] of any type and range."""
        self.was_training |= self.training
        pooled = functional.adaptive_avg_pool2d(x.detach().double(), 2).flatten(1)
        features = (pooled @ self.weight.double().to(pooled.device)).float()
        self.inputs.append(x.detach().cpu().clone())
        self.features.append(features.double().cpu())
        return features


@dataclass(frozen=True)
class Seen:
    """The value of a call, and the features that it depends on."""

    value: Value
    a: Features
    b: Features
    is_complex: bool = False
    extractor: Extractor | None = None
    sizes: tuple[int, int] = (0, 0)
    """Number of images of each set that the extractor got."""


@dataclass
class Caller:
    """A score and the form of its arguments."""

    target: Callable[..., object]
    options: ScoreOptions
    form: str = field(init=False)
    real_first: bool = field(init=False)

    def __post_init__(self) -> None:
        names = _parameters(self.target)
        self.form = self.options.takes
        if self.form == "auto":
            if len(names) not in FORMS:
                text = f"2, 3 or 4 arguments without a default, got {len(names)}. Set --takes, or adapt it."
                raise TargetError(f"TARGET: expected {text}")
            self.form = FORMS[len(names)]
        if self.form == "moments" and self.options.metric != "fid":
            raise TargetError(f"TARGET: expected features or images for --metric {self.options.metric}, got moments.")
        self.real_first = bool(names) and any(word in names[0].lower() for word in ("real", "ref"))

    def __call__(self, a: Shaped[Tensor, "..."], b: Shaped[Tensor, "..."]) -> Seen:
        """Return the value of the score for a generated and a real set."""
        ordered = [b, a] if self.real_first else [a, b]
        if self.form == "images":
            return self._of_images(a, b, ordered)
        features = [self._array(one) for one in ordered]
        if self.form == "moments":
            of_sets = [moments(one.double()) for one in ordered]
            features = [self._array(part) for one in of_sets for part in (one.mean, one.cov)]
        value, is_complex = self._value(features)
        return Seen(value, a.double(), b.double(), is_complex)

    def _of_images(
        self, a: Shaped[Tensor, "..."], b: Shaped[Tensor, "..."], ordered: list[Shaped[Tensor, "..."]]
    ) -> Seen:
        extractor = Extractor(a.shape[1]).eval()
        value, is_complex = self._value([*map(self._array, ordered), extractor])
        if not extractor.features:
            raise TargetError("TARGET: expected score(images, images, extractor), got no call of the extractor.")
        first, second = _split(torch.cat(extractor.features), extractor, len(ordered[0]), len(a) + len(b))
        of_a, of_b = (second, first) if self.real_first else (first, second)
        return Seen(value, of_a, of_b, is_complex, extractor, (len(of_a), len(of_b)))

    def _array(self, x: Shaped[Tensor, "..."]) -> object:
        return x.numpy() if self.options.arrays == "numpy" else x.clone()

    def _value(self, arguments: list[object]) -> tuple[Value, bool]:
        """Return the value for some arguments, and whether it is complex.

        Raises:
            TargetError: The score raised an exception, or returned something else than numbers.
        """
        try:
            with torch.random.fork_rng(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                value = self.target(*arguments)
            numbers = _numbers(value, 2 if self.options.metric == "precision-recall" else 1)
        except TargetError:
            raise
        except (Exception, SystemExit) as error:
            text = " ".join(str(error).split())[:200] or "no message"
            form = f"score({self.form} of two sets{', extractor' if self.form == 'images' else ''})"
            raise TargetError(f"TARGET: expected {form}, got {type(error).__name__}: {text}. Adapt it.") from error
        return tuple(number.real for number in numbers), any(isinstance(one, complex) for one in numbers)


def _parameters(target: Callable[..., object]) -> list[str]:
    """Return the names of the arguments without a default."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return []
    return [one.name for one in parameters if one.kind in kinds and one.default is inspect.Parameter.empty]


def _numbers(value: object, count: int) -> list[float | complex]:
    """Return the numbers in the value of a score.

    Raises:
        TargetError: There are fewer.
    """
    if isinstance(value, Mapping):
        value = list(value.values())
    many = isinstance(value, tuple | list) or count > 1
    listed = list(np.atleast_1d(np.asarray(value, dtype=object))) if many else [value]
    if len(listed) < count:
        raise TargetError(f"TARGET: expected {count} numbers, got {len(listed)}. Return (precision, recall).")
    found: list[float | complex] = []
    for one in listed[:count]:
        number = one.item() if hasattr(one, "item") else one
        if not isinstance(number, float | int | complex):
            raise TargetError(f"TARGET: expected a number, got {type(number).__name__}. Return the score alone.")
        found.append(number if isinstance(number, complex) else float(number))
    return found


def _split(features: Features, extractor: Extractor, count: int, total: int) -> tuple[Features, Features]:
    """Return the features of the first and of the second set, whose images have other mean values."""
    means = torch.cat([one.double().flatten(1).mean(1) for one in extractor.inputs])
    middle = float(means.min() + means.max()) / 2
    # The brightness shows an interleaved order; the first image is of the first set.
    is_first = (means > middle) == bool(means[0] > middle)
    if int(is_first.sum()) != count and len(means) == total:
        is_first = torch.arange(len(means)) < count
    return features[is_first], features[~is_first]


def sets(options: ScoreOptions, form: str, counts: tuple[int, int], seed: int) -> list[Shaped[Tensor, "..."]]:
    """Return a generated and a real set: features, or images of two brightnesses."""
    numbers = torch.Generator().manual_seed((options.seed << 8) + seed)
    if form == "images":
        return [_images(options, count, low, numbers) for count, low in zip(counts, (0, 1), strict=True)]
    found: list[Shaped[Tensor, ...]] = []
    for count, shift in zip(counts, (0.0, 0.35), strict=True):
        mix = torch.randn(WIDTH, WIDTH, generator=numbers) / math.sqrt(WIDTH) + torch.eye(WIDTH) / 2
        found.append(torch.randn(count, WIDTH, generator=numbers) @ mix + shift)
    return found


def _images(options: ScoreOptions, count: int, is_real: int, numbers: torch.Generator) -> Shaped[Tensor, "..."]:
    """Return dark generated images, or bright real ones. Generated floats are from -0.15 to 1.15 of the range."""
    shape = tuple(map(int, options.shape.split(",")))
    smooth = torch.rand(count, shape[0], 2, 2, generator=numbers)
    scale = torch.rand(count, *shape, generator=numbers)
    large = functional.interpolate(smooth, shape[1:])
    level = 255 * (0.3 * large + 0.7 * scale) * 0.6 + 102 * is_real
    if options.pixels == "uint8":
        return level.to(torch.uint8)
    if is_real:
        # Parts of a level that are lost by rounding to the nearest, and by rounding down.
        part = (level.floor() + 0.05 + 0.4 * torch.rand(count, *shape, generator=numbers)) / 255
    else:
        part = 1.3 * (level / 255 / 0.6) ** 1.5 - 0.15
    return part if options.pixels == "0,1" else 2 * part - 1
