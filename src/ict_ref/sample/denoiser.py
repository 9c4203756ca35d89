"""Images from a denoiser: Heun's method on the probability flow ODE (EDM, Algorithm 1)."""

from itertools import pairwise

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from ict_ref.config import Config
from ict_ref.data.dataset import to_uint8
from ict_ref.formulas import heun_step, sigma_grid
from ict_ref.networks.model import ConsistencyModel
from ict_ref.networks.precision import computing_in
from ict_ref.sample.images import noise, one_and_two_steps, together

LEVELS = 18
"""Number of noise levels of the ODE, as for EDM's CIFAR-10 (EDM, Table 1)."""


def images_of_run(
    model: ConsistencyModel,
    labels: Int64[Tensor, " n"] | None,
    config: Config,
    *,
    count: int,
    event: tuple[int, ...],
) -> dict[str, UInt8[Tensor, " {count} *event"]]:
    """Return images of a run's model by title: of a denoiser by its ODE, else in one step and in two steps."""
    if config.method.objective != "denoising":
        return one_and_two_steps(model, labels, config, count=count, event=event)
    chosen = together(count, event)
    made = [ode_images(model, labels, config, batch, event=event) for batch in chosen]
    return {f"{LEVELS} levels of the ODE": torch.cat(made)}


@torch.no_grad()
def ode_images(
    denoiser: ConsistencyModel,
    labels: Int64[Tensor, " n"] | None,
    config: Config,
    chosen: range,
    *,
    event: tuple[int, ...],
) -> UInt8[Tensor, " some *event"]:
    """Return the chosen images as one batch, rounded to 8 bits, from the same noise as in `some_images`.

    `labels` has an entry for every image. The last step goes to noise level 0: it is the value of the denoiser.
    """
    method = config.method
    dtype, device = next(denoiser.parameters()).dtype, next(denoiser.parameters()).device
    of_these = None if labels is None else labels[chosen.start : chosen.stop].to(device)
    levels = sigma_grid(LEVELS, sigma_min=method.sigma_min, sigma_max=method.sigma_max, rho=method.rho)
    # One level per image, descending.
    sigmas = levels.flip(0).to(device, dtype)[:, None].expand(-1, len(chosen))

    def score(x: Float[Tensor, " some *event"], sigma: Float[Tensor, " some"]) -> Float[Tensor, " some *event"]:
        clean: Tensor = denoiser(x, sigma, of_these)
        return (clean - x) / sigma.reshape(-1, *[1] * (x.ndim - 1)) ** 2

    with computing_in("float32"):
        x = noise(config.train.seed, chosen, event).to(device, dtype) * method.sigma_max
        for high, low in pairwise(sigmas):
            x = heun_step(x, high, low, score)
        x = denoiser(x, sigmas[-1], of_these)
    return to_uint8(x.clamp(-1, 1) if config.sample.clip else x).cpu()
