"""The training loss for a loop of the user's own: `ict_ref.loss`."""

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from ict_ref.config import Config
from ict_ref.config.given import ConfigLike, config_of
from ict_ref.data.dataset import to_float
from ict_ref.networks.model import ConsistencyModel, TrigFlowModel, parameterized
from ict_ref.networks.own import OwnNetwork
from ict_ref.networks.unet import UNet
from ict_ref.training.discretization import discretization
from ict_ref.training.level_pairs import lower_sigmas
from ict_ref.training.loss import training_loss
from ict_ref.training.sampled_noise import SampledNoise, sample_intervals_and_noise, sample_masks, sample_sigmas
from ict_ref.utils.command_line import expect
from ict_ref.utils.dtypes import torch_dtype


def loss(
    network: nn.Module,
    x: Shaped[Tensor, " batch channels height width"],
    step: int,
    config: ConfigLike,
    *,
    labels: Int64[Tensor, " batch"] | None = None,
    teacher: nn.Module | None = None,
    log_weight: nn.Module | None = None,
) -> Float[Tensor, " batch"]:
    """Return the training loss of each image of the batch of a step, whose mean is differentiated.

    `network` is F, called with as many of (x, c_noise, labels, masks) as it takes. `x` holds `train.batch_size` images,
    uint8 or floats from -1 to 1. Noise levels, noise and dropout masks are those that `train` samples at this step,
    counted from 0, with the seed of the configuration. `teacher` is the averaged network of CT (`method.mu0`), or
    the frozen one of TCM; in iCT the network is its own teacher. `log_weight` is the network w(t) of sCM, called with
    one time for each image, which is trained together with `network`.

    >>> class Plain(nn.Conv2d):
    ...     def forward(self, x, c_noise):
    ...         return super().forward(x)
    >>> images = torch.zeros(16, 1, 8, 8)
    >>> loss(Plain(1, 1, kernel_size=3, padding=1), images, step=0, config="minimal").shape
    torch.Size([16])

    Raises:
        ValueError: the number of images is not `train.batch_size`, the step is outside of the run, a teacher or the
            network w(t) is missing, or a denoiser is distilled, which needs `train`.
    """
    chosen, _ = config_of(config)
    size, steps = chosen.train.batch_size, chosen.train.steps
    expect(len(x) == size, "x", f"{size} images (--train.batch-size)", len(x))
    expect(0 <= step < steps, "step", f"0 <= step < {steps} (--train.steps)", step)
    objective, mu0 = chosen.method.objective, chosen.method.mu0
    distils = chosen.method.distils
    expect(not distils, "--method.objective", "an objective without a score", f"{objective} with one", "Use train.")
    why = "the frozen network" if objective == "tcm" else f"the averaged network, because --method.mu0 is {mu0}"
    expect(not chosen.method.has_teacher or teacher is not None, "teacher", why, "nothing")
    dtype = torch_dtype(chosen.train.dtype)
    images = (to_float(x) if x.dtype == torch.uint8 else x).to(dtype)
    student = _model(network, chosen)
    if isinstance(student, TrigFlowModel):
        student.weighting = _weighting(log_weight, chosen)
    return training_loss(
        student, images, labels, _sampled(student, images, step, chosen), discretization(step, chosen, x.device),
        chosen.method, teacher=None if teacher is None else _model(teacher, chosen), tuning=chosen.tuning,
        scm=chosen.scm, step=step,
    )  # fmt: skip


def _weighting(log_weight: nn.Module | None, config: Config) -> nn.Module | None:
    """Return the network w(t) of sCM, None where the configuration has none.

    Raises:
        ValueError: the network is missing.
    """
    wanted = config.method.objective == "scm" and config.scm.adaptive_weighting
    advice = "Give scm.adaptive_weighting False for w = 0."
    expect(not wanted or log_weight is not None, "log_weight", "the network w(t) of sCM, Eq. (8)", "nothing", advice)
    return log_weight if wanted else None


def _model(network: nn.Module, config: Config) -> ConsistencyModel:
    """Return the consistency function of a network, which shares its parameters."""
    low = config.train.low_precision
    free_form = network if isinstance(network, UNet | OwnNetwork) else OwnNetwork(network)
    model = parameterized(free_form, config.method)
    model.autocast = None if low is None else torch_dtype(low)
    return model


def _sampled(
    model: ConsistencyModel, x: Float[Tensor, " batch channels height width"], step: int, config: Config
) -> SampledNoise:
    """Return the random numbers of all noise shards of a step, on the device of the images."""
    shards, device = range(config.train.noise_shards), x.device
    index, z = sample_intervals_and_noise(step, shards, config, event=tuple(x.shape[1:]))
    masks = sample_masks(step, shards, config, model.network.dropout_sites(), device)
    sigma = sample_sigmas(step, shards, config)
    both = (sigma, lower_sigmas(sigma, step, config))
    levels = (None if one is None else one.to(device) for one in both)
    return SampledNoise(index.to(device), z.to(device), masks, *levels)
