"""Helpers for all formats of published networks: options, names of tensors, and a complete translation."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NoReturn, TypeAlias

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ict_ref.config import Network
from ict_ref.networks.embedding import at_least_float32
from ict_ref.networks.layout import BlockSpec
from ict_ref.networks.network_checkpoint import NetworkCheckpoint

State: TypeAlias = Mapping[str, Shaped[Tensor, "..."]]
GROUPS = 32
"""Groups of each group normalisation of all formats."""
STAGES = 4
"""Number of resolution stages of openai's networks for 64 pixels and of score_sde's for 32 pixels."""
QKV = re.compile(r"\.qkv\.(weight|bias)$")
"""Pattern of the keys of the maps of queries, keys and values."""


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """The options of a network that its state dict does not show; None: those of the format's released networks."""

    size: int | None = None
    """Side of the images in pixels: 64 for openai, 32 for score_sde. EDM's names contain it."""
    time_scale: float | None = None
    """Factor on log(sigma) / 4: 1000 for openai, 1 for edm, 4 for score_sde."""
    head_channels: int = 64
    """Channels per attention head, for openai; 0: one head."""
    qkv: Literal["q-k-v", "head-first"] = "q-k-v"
    """Rows of openai's attention maps: (q, k, v; head; channel) in consistency_models; (head; q, k, v; channel) in
    guided-diffusion unless use_new_attention_order is set."""
    dropout: float = 0.0
    dropout_max_resolution: int = 16


def parts(
    spec: BlockSpec, block: str, of_block: Mapping[str, str], attention: str, of_attention: Mapping[str, str]
) -> dict[str, str]:
    """Return their names of the tensors of a block, by our names."""
    names = {f"{spec.name}.block.{ours}": f"{block}.{theirs}" for ours, theirs in of_block.items()}
    if spec.attends:
        names |= {f"{spec.name}.attention.{ours}": f"{attention}.{theirs}" for ours, theirs in of_attention.items()}
    return names


def translated(state: State, names: Mapping[str, str], weights: NetworkCheckpoint) -> NetworkCheckpoint:
    """Return the checkpoint with the state under our names, each tensor in float32 or better.

    Raises:
        ValueError: a key is missing, unknown, or of another shape.
    """
    left, ours = dict(state), {}
    missing, wrong = [], []
    for name, wanted in weights.empty_network().state_dict().items():
        key = renamed(name, names)
        if key not in left:
            missing.append(key)
            continue
        value = _without_kernel(left.pop(key), wanted.ndim)
        if value.shape == wanted.shape and value.is_floating_point():
            ours[name] = at_least_float32(value)
        else:
            wrong.append(f"{key} {list(value.shape)} {value.dtype} for {list(wanted.shape)}")
    problems = {"missing": missing, "unknown": list(left), "of another shape or kind": wrong}
    got = ", ".join(f"{len(found)} {problem} ({some(found)})" for problem, found in problems.items() if found)
    if got:
        only_unknown = not missing and not wrong
        advice = "Save the state dict without them." if only_unknown else "Give the options it was built with."
        refuse("the keys and shapes of this network", got, advice)
    return replace(weights, state=ours)


def renamed(name: str, names: Mapping[str, str]) -> str:
    """Return the name of a tensor in other code, by the names of tensors or of their modules there."""
    part, _, leaf = name.rpartition(".")
    return names.get(name) or f"{names[part]}.{leaf}"


def _without_kernel(value: Shaped[Tensor, "..."], ndim: int) -> Shaped[Tensor, "..."]:
    """Return the weight of a 1x1 convolution, which other code has where ours has a linear map, in `ndim` axes."""
    while value.ndim > ndim and value.shape[-1] == 1:
        value = value[..., 0]
    return value


def network(import_options: ImportOptions, *, width: int, widths: list[int], **fields: object) -> Network:
    """Return the options of a network whose stages have these widths, which are multiples of `width`.

    Raises:
        ValueError: a stage's width is not a multiple of `width`.
    """
    if any(channels % width for channels in widths):
        refuse(f"stages with multiples of {width} channels", f"{widths}", "Such networks cannot be imported.")
    return Network(
        width=width,
        multipliers=tuple(channels // width for channels in widths),
        groups=GROUPS,
        dropout=import_options.dropout,
        dropout_max_resolution=import_options.dropout_max_resolution,
        **fields,  # type: ignore[arg-type]
    )


def ncsnpp(
    import_options: ImportOptions,
    *,
    width: int,
    widths: list[int],
    blocks: int,
    attention: tuple[int, ...],
    frequencies: Float[Tensor, " half"],
    time_scale: float,
) -> Network:
    """Return the options of an NCSN++, with this time_scale unless the import options give one."""
    return network(
        import_options,
        architecture="ncsnpp",
        embedding="fourier",
        # An estimate of the scale that they were sampled with.
        fourier_scale=float(f"{frequencies.double().square().mean().sqrt():.2g}"),
        width=width,
        widths=widths,
        blocks=blocks,
        attention_resolutions=attention,
        head_channels=0,
        time_scale=time_scale if import_options.time_scale is None else import_options.time_scale,
    )


def regrouped(rows: Shaped[Tensor, " rows *columns"], shape: tuple[int, ...]) -> Shaped[Tensor, " rows *columns"]:
    """Return the rows of a map in the order [q | k | v], each (head, channel), where axis 1 of `shape` is q, k, v.

    Raises:
        ValueError: the rows cannot be arranged in this shape.
    """
    try:
        numbers = torch.arange(len(rows)).reshape(shape)
    except RuntimeError:
        refuse("three rows for each channel of each head in qkv", f"{list(rows.shape)}", "Give --head-channels.")
    return rows[numbers.transpose(0, 1).reshape(-1)]


def side(import_options: ImportOptions, stages: int, released: int) -> int:
    """Return the side of the images: the given one, or for networks of four stages that of the released networks.

    Raises:
        ValueError: the side is not given, and the network has another number of stages.
    """
    if import_options.size is None and stages != STAGES:
        expected = f"the side of the images for a network of {stages} stages ({released}-pixel networks have {STAGES})"
        raise ValueError(f"--size: expected {expected}, got nothing. Give --size.")
    return released if import_options.size is None else import_options.size


def shape(state: State, key: str) -> tuple[int, ...]:
    """Return the shape of the tensor under a key that each such network has.

    Raises:
        ValueError: the key is missing.
    """
    if key not in state:
        refuse(f"the key {key}", f"keys {some(list(state))}", "Give a complete network, or another --format.")
    return tuple(state[key].shape)


def some(names: list[str]) -> str:
    """Return the first three names."""
    return ", ".join([str(name) for name in names[:3]] + ["..."] * (len(names) > 3)) or "none"


def refuse(expected: str, got: str, advice: str) -> NoReturn:
    """Reject a state dict.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"state dict: expected {expected}, got {got}. {advice}")
