"""The parameterization that makes any network F a consistency function, and the embeddings of the noise level.

iCT prints only c_skip(sigma_min) = 1 and c_out(sigma_min) = 0, Eq. (2); the functions are those of the consistency
models paper. Constants are rounded to the dtype of sigma before use, so that the boundary condition holds exactly in
every dtype.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ict_ref.formulas import _domain
from ict_ref.formulas._axes import per_example


def boundary_parameterization(
    network: Callable[[Float[Tensor, " batch *event"], Float[Tensor, " batch"]], Float[Tensor, " batch *event"]],
    x: Float[Tensor, " batch *event"],
    sigma: Float[Tensor, " batch"],
    *,
    sigma_min: float = 0.002,
    sigma_data: float = 0.5,
) -> Float[Tensor, " batch *event"]:
    """Return f(x, sigma) = c_skip(sigma) x + c_out(sigma) F(c_in(sigma) x, c_noise(sigma)), F being `network`.

    Source: iCT, Section 2, Eq. (2); CM, Appendix C.

    At sigma_min the result is x, bit for bit (except that -0 becomes 0), for all finite values of F: the condition is
    built in, not learned. The paper writes F(x, sigma). CM and EDM scale x by c_in and replace sigma by c_noise.

    Raises: ValueError if sigma is not one positive, finite value per example, or if sigma_min or sigma_data is not
    positive.

    >>> x = torch.tensor([[1.0], [2.0]])
    >>> f = lambda x, c: x + c[:, None]
    >>> boundary_parameterization(f, x, torch.tensor([0.002, 80.0]))[0]
    tensor([1.])
    """
    _domain.one_per_example("iCT Eq. (2)", x=x, sigma=sigma)
    skip = per_example(c_skip(sigma, sigma_min=sigma_min, sigma_data=sigma_data), x)
    out = per_example(c_out(sigma, sigma_min=sigma_min, sigma_data=sigma_data), x)
    scaled = per_example(c_in(sigma, sigma_data=sigma_data), x) * x
    return skip * x + out * network(scaled, c_noise(sigma))


def c_skip(
    sigma: Float[Tensor, "*shape"],
    *,
    sigma_min: float = 0.002,
    sigma_data: float = 0.5,
) -> Float[Tensor, "*shape"]:
    """Return c_skip(sigma) = sigma_data^2 / ((sigma - sigma_min)^2 + sigma_data^2).

    Source: iCT, Section 2, below Eq. (2); CM, Appendix C.

    It is exactly 1 at sigma_min. With sigma instead of sigma - sigma_min it would be EDM's, which is 1 at noise level
    0.

    Raises: ValueError if sigma, sigma_min or sigma_data is not positive and finite.
    """
    _check(sigma, sigma_min, sigma_data)
    gap = sigma - sigma.new_full((), sigma_min)
    # sigma_data^2 / (gap^2 + sigma_data^2), divided by sigma_data^2, so that squares cannot underflow to 0 / 0.
    return 1 / (1 + (gap / sigma_data) ** 2)


def c_out(
    sigma: Float[Tensor, "*shape"],
    *,
    sigma_min: float = 0.002,
    sigma_data: float = 0.5,
) -> Float[Tensor, "*shape"]:
    """Return c_out(sigma) = sigma_data (sigma - sigma_min) / sqrt(sigma_data^2 + sigma^2).

    Source: iCT, Section 2, below Eq. (2); CM, Appendix C.

    It is exactly 0 at sigma_min and approaches sigma_data far above it. The root contains sigma itself, not sigma -
    sigma_min. iCT prints only the values of c_skip and c_out at sigma_min.

    Raises: ValueError if sigma, sigma_min or sigma_data is not positive and finite.
    """
    _check(sigma, sigma_min, sigma_data)
    gap = sigma - sigma.new_full((), sigma_min)
    return sigma_data * (gap / torch.hypot(sigma.new_full((), sigma_data), sigma))


def c_in(sigma: Float[Tensor, "*shape"], *, sigma_data: float = 0.5) -> Float[Tensor, "*shape"]:
    """Return c_in(sigma) = 1 / sqrt(sigma^2 + sigma_data^2).

    Source: EDM, Table 1, which CM, Appendix C takes over; neither it nor iCT print it.

    It scales the network's input to variance 1 where the data have variance sigma_data^2. It is not 1 / (sigma^2 +
    sigma_data^2).

    Raises: ValueError if sigma or sigma_data is not positive and finite.
    """
    _check(sigma, None, sigma_data)
    return 1 / torch.hypot(sigma, sigma.new_full((), sigma_data))


def c_noise(sigma: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return c_noise(sigma) = log(sigma) / 4, the network's input for the noise level.

    Source: EDM, Table 1, which CM, Appendix C takes over; neither it nor iCT print it.

    The logarithm is natural. A factor such as 1000 in front belongs to the network's embedding, not here.

    Raises: ValueError if sigma is not positive and finite.
    """
    _domain.levels(sigma, "CM Appendix C")
    return sigma.log() / 4


def fourier_embedding(
    c_noise: Float[Tensor, " batch"],
    frequencies: Float[Tensor, " half"],
) -> Float[Tensor, " batch 2*half"]:
    """Return [sin(2 pi c w_1), ..., sin(2 pi c w_h), cos(2 pi c w_1), ..., cos(2 pi c w_h)].

    Source: iCT, Section 3.1, Figure 1a; Tancik et al. 2020.

    Sines come first. `frequencies` are w ~ N(0, scale^2), drawn once and never trained; iCT's scale is 0.02, CM's is
    16. c is `c_noise`, that is c_noise(sigma).

    Raises: ValueError if an argument has not exactly one axis, or contains a NaN or an infinity.
    """
    _one_axis("c_noise", c_noise)
    _one_axis("frequencies", frequencies)
    angles = 2 * math.pi * c_noise[:, None] * frequencies
    _domain.finite("c_noise frequencies", angles, "iCT Section 3.1")
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def positional_embedding(
    c_noise: Float[Tensor, " batch"],
    width: int,
    *,
    max_period: float = 10000.0,
) -> Float[Tensor, " batch {width}"]:
    """Return [cos(c f_1), ..., cos(c f_h), sin(c f_1), ..., sin(c f_h)], f_k = max_period^(-(k-1)/h), h = width / 2.

    Source: iCT, Section 3.1, Figure 1a; CM, public ImageNet code.

    Cosines come first; the exponent is divided by h, not h - 1. c is `c_noise`, log(sigma) / 4. Only with this input is
    the embedding as insensitive to the noise level as Fourier features of scale 0.02, which Section 3.1 states. CM's
    public ImageNet code embeds 1000 log(sigma) / 4.

    Raises: ValueError unless width is even and at least 2, max_period > 0, and c_noise has one axis of finite values.
    """
    _one_axis("c_noise", c_noise)
    if width < 2 or width % 2:
        _domain.refuse("an even width >= 2 (iCT Section 3.1)", f"width = {width}", "give as many cosines as sines")
    _domain.positive("max_period", max_period, "iCT Section 3.1")
    half = width // 2
    frequencies = torch.exp(
        -math.log(max_period) / half * torch.arange(half, dtype=c_noise.dtype, device=c_noise.device)
    )
    angles = c_noise[:, None] * frequencies
    _domain.finite("c_noise max_period^(-(k-1)/h)", angles, "iCT Section 3.1")
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _one_axis(symbol: str, tensor: Float[Tensor, "..."]) -> None:
    _domain.finite(symbol, tensor, "iCT Section 3.1")
    if tensor.ndim != 1:
        _domain.refuse(
            f"{symbol} along one axis (iCT Section 3.1)", f"{symbol} {list(tensor.shape)}", f"give {symbol} of one axis"
        )


def _check(sigma: Float[Tensor, "*shape"], sigma_min: float | None, sigma_data: float) -> None:
    _domain.levels(sigma, "CM Appendix C")
    _domain.positive("sigma_data", sigma_data, "CM Appendix C")
    if sigma_min is not None:
        _domain.positive("sigma_min", sigma_min, "iCT Section 2")
