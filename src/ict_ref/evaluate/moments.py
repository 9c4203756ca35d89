"""Mean and covariance of batches of features in one pass in float64."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor


class Moments:
    """The mean and scatter of all features so far, updated by batches with the method of Chan, Golub & LeVeque (1979).

    Deviations from the mean keep the digits of a variance that is small compared to the mean; sums of squares do not.
    """

    def __init__(self, size: int, device: torch.device | str = "cpu") -> None:
        self.count = 0
        self.mean: Float64[Tensor, " d"] = torch.zeros(size, dtype=torch.float64, device=device)
        self._scatter: Float64[Tensor, " d d"] = torch.zeros(size, size, dtype=torch.float64, device=device)

    def add(self, features: Float[Tensor, " batch d"]) -> None:
        """Add a batch of features."""
        x = features.double()
        mean, total = x.mean(0), self.count + len(x)
        shift, centred = mean - self.mean, x - mean
        self._scatter.addmm_(centred.mT, centred)
        self._scatter.addr_(shift, shift, alpha=self.count * len(x) / total)
        self.mean += shift * (len(x) / total)
        self.count = total

    def merge(self, other: "Moments") -> None:
        """Add the features of other moments."""
        shift, total = other.mean - self.mean, self.count + other.count
        self._scatter += other._scatter
        self._scatter.addr_(shift, shift, alpha=self.count * other.count / total)
        self.mean += shift * (other.count / total)
        self.count = total

    def cpu(self) -> "Moments":
        """Return the moments on the CPU."""
        moved = Moments(0)
        moved.count, moved.mean, moved._scatter = self.count, self.mean.cpu(), self._scatter.cpu()
        return moved

    def covariance(self) -> Float64[Tensor, " d d"]:
        """Return the unbiased covariance.

        Raises:
            ValueError: There are fewer than two examples.
        """
        if self.count < 2:
            raise ValueError(f"covariance: expected at least 2 images, got {self.count}. Give more images.")
        return self._scatter / (self.count - 1)
