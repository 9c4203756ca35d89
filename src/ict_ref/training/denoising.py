"""EDM's weights and loss for the training of a denoiser D(x, sigma).

EDM is Karras et al. 2022, arXiv:2206.00364. `ict_ref.formulas` does not contain these functions: it holds the formulas
of consistency models, which implementations under test have.
"""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from ict_ref.formulas import c_in, squared_l2

Denoise = Callable[[Float[Tensor, " batch *event"], Float[Tensor, " batch"]], Float[Tensor, " batch *event"]]


def denoising_weights(sigma: Float[Tensor, " batch"], *, sigma_data: float = 0.5) -> Float[Tensor, " batch"]:
    """Return lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2.

    Source: EDM, Table 1. It is 1 / c_out(sigma)^2 for EDM's c_out(sigma) = sigma sigma_data c_in(sigma), so the loss of
    the network F has the weight 1 at every level.

    Raises:
        ValueError: sigma or sigma_data is not positive and finite.
    """
    return (sigma * sigma_data * c_in(sigma, sigma_data=sigma_data)) ** -2


def denoising_loss(
    denoiser: Denoise,
    x: Float[Tensor, " batch *event"],
    z: Float[Tensor, " batch *event"],
    sigma: Float[Tensor, " batch"],
    *,
    sigma_data: float = 0.5,
) -> Float[Tensor, " batch"]:
    """Return lambda(sigma) ||D(x + sigma z, sigma) - x||^2 of each example.

    Source: EDM, Eqs. (2) and (8), with the weights of Table 1. `x` holds clean examples. The square is summed over the
    values of an example. Its minimum over all functions D is the expected clean example, given the noisy one.

    Raises:
        ValueError: sigma or sigma_data is not positive and finite.
    """
    noisy = x + sigma.reshape(-1, *[1] * (x.ndim - 1)) * z
    return denoising_weights(sigma, sigma_data=sigma_data) * squared_l2(denoiser(noisy, sigma), x)
