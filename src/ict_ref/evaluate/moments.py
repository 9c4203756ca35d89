"""Mean and covariance of features that come in batches: one pass, in float64, nothing kept but their sums."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor


class Moments:
    """The mean and the scatter of all features so far, joined batch by batch as Chan, Golub & LeVeque (1979) do.

    Sums of squares would lose the digits of a variance that is small beside the mean; deviations from it do not.
    """

    def __init__(self, size: int) -> None:
        self.count = 0
        self.mean: Float64[Tensor, " d"] = torch.zeros(size, dtype=torch.float64)
        self._scatter: Float64[Tensor, " d d"] = torch.zeros(size, size, dtype=torch.float64)

    def add(self, features: Float[Tensor, " batch d"]) -> None:
        """Take in more features."""
        x = features.double()
        mean, total = x.mean(0), self.count + len(x)
        shift, centred = mean - self.mean, x - mean
        self._scatter.addmm_(centred.mT, centred)
        self._scatter.addr_(shift, shift, alpha=self.count * len(x) / total)
        self.mean += shift * (len(x) / total)
        self.count = total

    def covariance(self) -> Float64[Tensor, " d d"]:
        """Return the unbiased covariance. Raises ValueError for fewer than two examples."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 images; got {self.count}; give more")
        return self._scatter / (self.count - 1)
