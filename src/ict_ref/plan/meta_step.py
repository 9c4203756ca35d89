"""The student's and the teacher's pass of a training step on the meta device, where tensors have shapes but no values.

The operations are those of `training.loss.training_loss`, with two substitutions that make them those of a GPU:

- attention is a fused kernel, which saves its output and one number per query, but no attention matrix. Where a
  context allows unfused attention only, as for the derivative in continuous time, it stays unfused;
- in the 16-bit policies, convolutions and matrix products are in 16 bits and group normalisation is in float32, as in
  CUDA's lists for autocast (torch/aten/src/ATen/autocast_mode.h). Torch has no autocast for the meta device.
"""

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ict_ref.config import Config, Data, Machine, Record
from ict_ref.data.dataset import DIGITS_EVENT, DIGITS_NAMES, PUBLISHED
from ict_ref.data.prepared import read_about
from ict_ref.networks.blocks import ResidualBlock, SelfAttention
from ict_ref.networks.dropout import Masks
from ict_ref.networks.model import ConsistencyModel, build_model, recompute
from ict_ref.networks.precision import autocast_dtype, emulated_autocast
from ict_ref.training.discretization import discretization
from ict_ref.training.level_pairs import lower_sigmas
from ict_ref.training.loss import training_loss
from ict_ref.training.sampled_noise import SampledNoise
from ict_ref.utils.dtypes import torch_dtype

META = torch.device("meta")


@dataclasses.dataclass(frozen=True)
class MetaInputs:
    """The tensors of a microbatch."""

    x: Float[Tensor, " batch channels height width"]
    labels: Tensor | None
    noise: SampledNoise


def image_shape(data: Data) -> tuple[tuple[int, int, int], int]:
    """Return the shape (channels, height, width) of the images, and their number of classes.

    Raises:
        ValueError: `data.name` is folder, and `data.path` is not a prepared folder.
    """
    if data.name == "digits":
        return DIGITS_EVENT, len(DIGITS_NAMES)
    if data.name in PUBLISHED:
        shape, classes = PUBLISHED[data.name]
        return (shape[0], shape[1], shape[2]), classes
    if not data.path:
        raise ValueError("--data.path: expected a prepared folder for --data.name folder, got nothing")
    about = read_about(Path(data.path))
    return about.shape, about.classes


def counted_config(config: Config) -> Config:
    """Return a configuration with the fields that change shapes or operations; all others have fixed values.

    Kernels replace torch's operations on GPUs. With --machine.compile torch's own operations count, an upper bound of
    what the compiled network needs, as on a CPU.

    LPIPS and the denoiser that is distilled are files. They are left out: the squared l2 distance and a score without a
    network replace them.
    """
    method = config.method
    if method.distance == "lpips":
        method = dataclasses.replace(method, distance="squared_l2")
    if method.distils:
        without = "discrete" if method.objective == "distillation" else method.objective
        method = dataclasses.replace(method, objective=without, denoiser="")
    fewest = config.tuning.least_shard if method.objective == "tcm" else 1
    train = dataclasses.replace(config.train, batch_size=fewest, noise_shards=1, seed=0)
    given = config.machine
    on_cpu = given.device == "cpu" or given.compile is True
    machine = Machine(device="cpu" if on_cpu else "cuda", compile=False)
    return dataclasses.replace(config, method=method, train=train, machine=machine, record=Record())


def left_out(config: Config) -> tuple[str, ...]:
    """Return the networks of a step that are files and are not counted."""
    lpips = ("LPIPS",) if config.method.distance == "lpips" else ()
    return lpips + (("the denoiser",) if config.method.distils else ())


def meta_model(config: Config, *, recomputes: bool = False) -> ConsistencyModel:
    """Return the configured model on the meta device, as a GPU would compute it; it takes no memory."""
    event, classes = image_shape(config.data)
    with META:
        model = build_model(config, event=event, classes=classes)
    model.to(META)
    if recomputes:
        recompute(model)
    for module in model.modules():
        if isinstance(module, SelfAttention):
            _call_within(module, FusedAttention)
    if config.train.low_precision is not None:
        _emulate_autocast(model.network, torch_dtype(config.train.low_precision))
    return model


def meta_inputs(config: Config, model: ConsistencyModel, images: int) -> MetaInputs:
    """Return inputs of `images` images on the meta device."""
    event, _ = image_shape(config.data)
    dtype = torch_dtype(config.train.dtype)
    x, z = (torch.empty(images, *event, dtype=dtype, device=META) for _ in range(2))
    index = torch.empty(images, dtype=torch.int64, device=META)
    masks: Masks = tuple(
        torch.empty(images, *site[:3], dtype=torch.bool, device=META) for site in model.network.dropout_sites()
    )
    labels = torch.empty(images, dtype=torch.int64, device=META) if config.data.labels else None
    gridless = config.method.is_gridless
    sigma = torch.empty(images, dtype=torch.float64, device=META) if gridless else None
    return MetaInputs(x, labels, SampledNoise(index, z, masks, sigma, lower_sigmas(sigma, 0, config)))


def meta_loss(config: Config, model: ConsistencyModel, inputs: MetaInputs) -> Float[Tensor, ""]:
    """Return the loss of a microbatch, of which the backward pass is ready."""
    levels = discretization(0, config, META)
    losses = training_loss(
        model, inputs.x, inputs.labels, inputs.noise, levels, config.method, teacher=model, tuning=config.tuning,
        scm=config.scm,
    )  # fmt: skip
    return losses.mean()


class FusedAttention(TorchFunctionMode):
    """A context in which attention is the kernel that a GPU chooses; it has the saved tensors of all fused kernels."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace attention, unless only the unfused kernel is allowed."""
        if func is F.scaled_dot_product_attention and torch._C._get_mem_efficient_sdp_enabled():
            q, k, v = args
            return torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True)[0]
        return func(*args, **(kwargs or {}))


LOW_PRECISION = (F.conv2d, F.conv_transpose2d, F.linear)


class CudaAutocast(TorchFunctionMode):
    """A context with CUDA's autocast rules for the operations of both networks.

    A parameter that a pass has converted stays converted until the pass ends, as autocast's cache keeps it.
    """

    def __init__(self, dtype: torch.dtype, converted: list[Tensor]) -> None:
        super().__init__()
        self.dtype, self.converted = dtype, converted

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Convert the arguments of the operations on autocast's lists."""
        kwargs = kwargs or {}
        if autocast_dtype(META) is None:
            return func(*args, **kwargs)
        if func in LOW_PRECISION:
            args = tuple(self._converted(value, self.dtype) for value in args)
            kwargs = {name: self._converted(value, self.dtype) for name, value in kwargs.items()}
        elif func is F.group_norm:
            args = tuple(self._converted(value, torch.float32) for value in args)
        return func(*args, **kwargs)

    def __enter__(self) -> "CudaAutocast":
        self._flag = emulated_autocast(self.dtype)
        self._flag.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call] # torch does not annotate it
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._flag.__exit__(None, None, None)

    def _converted(self, value: Any, dtype: torch.dtype) -> Any:
        if not isinstance(value, Tensor) or value.dtype == dtype:
            return value
        result = value.to(dtype)
        if isinstance(value, nn.Parameter):
            self.converted.append(result)
        return result


def _emulate_autocast(network: nn.Module, dtype: torch.dtype) -> None:
    """Make the network's modules, except those that compute in full precision, convert as autocast does."""
    converted: list[Tensor] = []
    for module in network.modules():
        if isinstance(module, SelfAttention | ResidualBlock):
            _call_within(module, lambda: CudaAutocast(dtype, converted))

    def end_of_pass(*_: Any) -> None:
        converted.clear()

    network.register_forward_hook(end_of_pass)


def _call_within(module: nn.Module, *contexts: Callable[[], AbstractContextManager[Any]]) -> None:
    """Make every call of a module run in new contexts, also when the backward pass repeats it."""
    forward: Callable[..., Any] = module.forward

    def within(*args: Any, **kwargs: Any) -> Any:
        with ExitStack() as stack:
            for context in contexts:
                stack.enter_context(context())
            return forward(*args, **kwargs)

    module.forward = within
