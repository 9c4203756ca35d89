"""What reading a published network takes, whatever its format: places, names, and a translation that misses nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, NoReturn, TypeAlias

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ict_ref.config import Network
from ict_ref.networks.embedding import at_least_float32
from ict_ref.networks.network_checkpoint import NetworkCheckpoint

State: TypeAlias = Mapping[str, Shaped[Tensor, "..."]]


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What a state dict does not tell of its network; None: what the format's released networks have."""

    size: int | None = None
    """Pixels a side: 64 for openai, 32 for score_sde; EDM's names have it."""
    time_scale: float | None = None
    """Factor on log(sigma) / 4: 1000 for openai, 1 for edm, 4 for score_sde."""
    head_channels: int = 64
    """Of openai's attention; 0: one head."""
    qkv: Literal["q-k-v", "head-first"] = "q-k-v"
    """Rows of openai's attention maps: (q, k, v; head; channel) in consistency_models, (head; q, k, v; channel) in
    guided-diffusion unless use_new_attention_order is set."""
    dropout: float = 0.0
    dropout_max_resolution: int = 16


class Place(NamedTuple):
    """A stage of a network, by its place."""

    ours: str
    half: Literal["encoder", "middle", "decoder"]
    level: int
    block: int | None
    """None: the block that leads to this level from its neighbour."""
    attends: bool


def places(options: Network, size: int) -> Iterator[Place]:
    """Yield the stages of our network in the order in which they act, without those of the ends."""
    levels, adm = range(len(options.multipliers)), options.architecture == "adm"
    attends = [size >> level in options.attention_resolutions for level in levels]
    index = 0
    for level in levels:
        for block in [None] * (level > 0) + list(range(options.blocks)):
            yield Place(f"encoder.{index}", "encoder", level, block, block is not None and attends[level])
            index += 1
    for block in range(2):
        yield Place(f"middle.{block}", "middle", levels[-1], block, block == 0)
    index = 0
    for level in reversed(levels):
        for block in [*range(options.blocks + 1)]:
            yield Place(
                f"decoder.{index}", "decoder", level, block, attends[level] and (adm or block == options.blocks)
            )
            index += 1
        if level > 0:
            yield Place(f"decoder.{index}", "decoder", level - 1, None, False)
            index += 1


def parts(
    place: Place, block: str, of_block: Mapping[str, str], attention: str, of_attention: Mapping[str, str]
) -> dict[str, str]:
    """Return the names of a stage's parts by ours."""
    names = {f"{place.ours}.block.{ours}": f"{block}.{theirs}" for ours, theirs in of_block.items()}
    if place.attends:
        names |= {f"{place.ours}.attention.{ours}": f"{attention}.{theirs}" for ours, theirs in of_attention.items()}
    return names


def translated(state: State, names: Mapping[str, str], weights: NetworkCheckpoint) -> NetworkCheckpoint:
    """Return the weights with the state under our names, each tensor in float32 or better."""
    left, ours = dict(state), {}
    missing, wrong = [], []
    for name, wanted in weights.empty_network().state_dict().items():
        part, _, leaf = name.rpartition(".")
        key = names.get(name) or f"{names[part]}.{leaf}"
        value = left.pop(key, None)
        if value is None:
            missing.append(key)
            continue
        # Maps of pixels are convolutions of one pixel elsewhere.
        while value.ndim > wanted.ndim and value.shape[-1] == 1:
            value = value[..., 0]
        if value.shape != wanted.shape or not value.is_floating_point():
            wrong.append(f"{key} {list(value.shape)} {value.dtype} for {list(wanted.shape)}")
            continue
        ours[name] = at_least_float32(value)
    problems = [
        f"{len(found)} {what} ({some(found)})"
        for found, what in ((missing, "missing"), (list(left), "unknown"), (wrong, "of another shape or kind"))
        if found
    ]
    if problems:
        refuse("the keys and shapes of this network", ", ".join(problems), "give the options that it was built with")
    return replace(weights, state=ours)


def network(unseen: ImportOptions, *, width: int, widths: list[int], **fields: object) -> Network:
    """Return the options of a network whose levels have these widths, multiples of the first one's."""
    if any(channels % width for channels in widths):
        refuse(f"levels of multiples of {width} channels", f"{widths}", "such multipliers are not read")
    return Network(
        width=width,
        multipliers=tuple(channels // width for channels in widths),
        groups=32,
        dropout=unseen.dropout,
        dropout_max_resolution=unseen.dropout_max_resolution,
        **fields,  # type: ignore[arg-type]
    )


def ncsnpp(
    unseen: ImportOptions,
    *,
    width: int,
    widths: list[int],
    blocks: int,
    attention: tuple[int, ...],
    frequencies: Float[Tensor, " half"],
    time_scale: float,
) -> Network:
    """Return the options of an NCSN++; its time_scale is this one unless another is given."""
    return network(
        unseen,
        architecture="ncsnpp",
        embedding="fourier",
        # What they were drawn with, as well as they tell.
        fourier_scale=float(f"{frequencies.double().square().mean().sqrt():.2g}"),
        width=width,
        widths=widths,
        blocks=blocks,
        attention_resolutions=attention,
        head_channels=0,
        time_scale=time_scale if unseen.time_scale is None else unseen.time_scale,
    )


def regrouped(rows: Shaped[Tensor, " rows *columns"], shape: tuple[int, ...]) -> Shaped[Tensor, " rows *columns"]:
    """Return the rows of a map in the order [q | k | v], each (head, channel), where axis 1 of `shape` is q, k, v."""
    try:
        numbers = torch.arange(len(rows)).reshape(shape)
    except RuntimeError:
        refuse("three rows for every channel of every head in qkv", f"{list(rows.shape)}", "give --head-channels")
    return rows[numbers.transpose(0, 1).reshape(-1)]


def shape(state: State, key: str) -> tuple[int, ...]:
    """Return the shape of the tensor of this key, which no such network lacks."""
    if key not in state:
        refuse(f"the key {key}", f"keys {some(list(state))}", "this is not a whole network of that format")
    return tuple(state[key].shape)


def some(names: list[str]) -> str:
    """Return the first three names."""
    return ", ".join([str(name) for name in names[:3]] + ["..."] * (len(names) > 3)) or "none"


def refuse(needs: str, got: str, do: str) -> NoReturn:
    """Raise the ValueError of a state dict that is not what it must be."""
    raise ValueError(f"needs {needs}; got {got}; {do}")
