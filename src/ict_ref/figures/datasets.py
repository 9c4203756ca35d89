"""What small runs learn in place of CIFAR-10, and how good they are in place of FID."""

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

# iCT, Section 2, and all presets.
SIGMA_MIN, SIGMA_MAX = 0.002, 80.0


@runtime_checkable
class FigureDataset(Protocol):
    """What is learned, a network that is large enough for it, and how good a model of it is."""

    @property
    def name(self) -> str:
        """Return what a caption calls it."""

    @property
    def measure(self) -> str:
        """Return what an axis calls the error."""

    @property
    def network(self) -> Network:
        """Return the network; its noise embedding and its dropout are for others to set."""

    @property
    def examples(self) -> Examples:
        """Return what training sees."""

    def error(self, model: ConsistencyModel) -> float:
        """Return how far the model is from the answer; 0 is best."""


@dataclass(frozen=True)
class AnalyticDataset:
    """Data whose consistency function is known."""

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
    """scikit-learn's digits without their labels, as the paper's CIFAR-10 is without."""

    name: str = "scikit-learn's 8x8 digits without labels"
    measure: str = "Frechet distance in pixels"
    network: Network = minimal().network

    @property
    def examples(self) -> Examples:
        """Return the digits that are not held out."""
        return self._digits.train

    def error(self, model: ConsistencyModel) -> float:
        """Return the Frechet distance, in pixels from -1 to 1, of one-step samples to the held-out digits.

        They are as many as these, and of the same noise each time.
        """
        real = self._digits.held_out
        made = images(model, None, [SIGMA_MAX], count=len(real), event=real.event, seed=EVALUATION_SEED)
        a, b = (to_float(pixels).double().reshape(len(pixels), -1) for pixels in (made, real.pixels))
        return float(frechet_distance(a.mean(0), a.T.cov(), b.mean(0), b.T.cov()))

    @cached_property
    def _digits(self) -> Dataset:
        return digits()
