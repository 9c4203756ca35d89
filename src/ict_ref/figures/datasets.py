"""Data sets of small runs in place of CIFAR-10, and error measures in place of FID."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

from jaxtyping import Float64
from torch import Tensor

from ict_ref.config import Network, minimal
from ict_ref.data.dataset import Dataset, digits, to_float
from ict_ref.experiments.analytic_datasets import Mixture
from ict_ref.experiments.runs import EVALUATION_SEED, NETWORK, answer, noisy, rms
from ict_ref.formulas import frechet_distance
from ict_ref.networks.model import ConsistencyModel
from ict_ref.sample.images import images
from ict_ref.training.microbatches import Examples

# Values of iCT, Section 2, and of all presets.
SIGMA_MIN, SIGMA_MAX = 0.002, 80.0


@runtime_checkable
class FigureDataset(Protocol):
    """A data set with a suitable network and an error measure."""

    @property
    def name(self) -> str:
        """Return the name in captions."""

    @property
    def measure(self) -> str:
        """Return the name of the error on an axis."""

    @property
    def network(self) -> Network:
        """Return the network; comparisons set its noise embedding and dropout."""

    @property
    def examples(self) -> Examples:
        """Return the training examples."""

    def error(self, model: ConsistencyModel) -> float:
        """Return the error of the model; 0 is best."""


@dataclass(frozen=True)
class AnalyticDataset:
    """A data set with a known consistency function."""

    name: str
    examples: Mixture
    measure: str = f"rms error of f(x, {SIGMA_MAX:g})"
    network: Network = NETWORK

    def error(self, model: ConsistencyModel) -> float:
        """Return sqrt(E ||f(x, 80) - f*(x, 80)||_2^2), over a fixed sample of x ~ p_80."""
        return rms(answer(model, *noisy(self.examples, SIGMA_MAX)) - self._exact)

    @cached_property
    def _exact(self) -> Float64[Tensor, " n *event"]:
        x, _ = noisy(self.examples, SIGMA_MAX)
        return self.examples.exact(x, SIGMA_MAX, sigma_min=SIGMA_MIN)


@dataclass(frozen=True)
class Digits:
    """The digits of scikit-learn without labels, like CIFAR-10 in the paper."""

    name: str = "scikit-learn's 8x8 digits without labels"
    measure: str = "Frechet distance in pixels"
    network: Network = minimal().network

    @property
    def examples(self) -> Examples:
        """Return the training digits."""
        return self._digits.train

    def error(self, model: ConsistencyModel) -> float:
        """Return the Frechet distance in pixels from -1 to 1 between one-step samples and the held-out digits.

        Both sets have the same size, and the samples have the same noise in each call.
        """
        real = self._digits.held_out
        made = images(model, None, [SIGMA_MAX], count=len(real), event=real.event, seed=EVALUATION_SEED)
        a, b = (to_float(pixels).double().reshape(len(pixels), -1) for pixels in (made, real.pixels))
        return float(frechet_distance(a.mean(0), a.T.cov(), b.mean(0), b.T.cov()))

    @cached_property
    def _digits(self) -> Dataset:
        return digits()
