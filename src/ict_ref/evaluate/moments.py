"""Mean and covariance of batches of features in one pass in float64."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor


class Moments:
    """The mean and scatter of all features so far, updated by batches with the method of Chan, Golub & LeVeque (1979).

    Deviations from the mean keep the digits of a variance that is small compared to the mean; sums of squares do not.
    """

    def __init__(self, size: int) -> None:
        self.count = 0
        self.mean: Float64[Tensor, " d"] = torch.zeros(size, dtype=torch.float64)
        self._scatter: Float64[Tensor, " d d"] = torch.zeros(size, size, dtype=torch.float64)

    def add(self, features: Float[Tensor, " batch d"]) -> None:
        """Add a batch of features."""
        x = features.double()
        mean, total = x.mean(0), self.count + len(x)
        shift, centred = mean - self.mean, x - mean
        self._scatter.addmm_(centred.mT, centred)
        self._scatter.addr_(shift, shift, alpha=self.count * len(x) / total)
        self.mean += shift * (len(x) / total)
        self.count = total

    def covariance(self) -> Float64[Tensor, " d d"]:
        """Return the unbiased covariance.

        Raises:
            ValueError: There are fewer than two examples.
        """
        if self.count < 2:
            raise ValueError(f"covariance: expected at least 2 images, got {self.count}. Give more images.")
        return self._scatter / (self.count - 1)
