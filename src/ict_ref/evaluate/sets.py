"""Sets of images, by what the user calls them: in batches, as they are stored or as a model makes them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from tqdm import tqdm

from ict_ref.checkpoints import checksum
from ict_ref.data import digits
from ict_ref.formulas import multistep_sample
from ict_ref.pictures import read_pixels
from ict_ref.prepared import ABOUT, open_arrays
from ict_ref.sample import some_images, together
from ict_ref.trained import Trained

BATCH = 64
DIGITS = ("digits:train", "digits:held-out")
STORED = {"quantisation": "8 bits a channel, as stored"}
FILES = "{desc} {n_fmt}/{total_fmt} files |{bar:20}| {remaining} left"


@dataclass(frozen=True)
class ImageSet:
    """Images of one size, which are looked at once."""

    name: str
    count: int
    event: tuple[int, int, int]
    """Channels, height and width."""
    made: dict[str, Any]
    """How they were made, for the protocol."""
    batches: Callable[[], Iterator[UInt8[Tensor, " batch channels height width"]]]


@dataclass(frozen=True)
class Sampling:
    """How samples of a model are asked for."""

    count: int
    sigmas: tuple[float, ...]
    """Empty: the model's greatest alone."""
    labels: tuple[int, ...]
    """Empty: all, in turn."""
    seed: int
    clip: bool | None
    """None: as the run does."""


def stored(place: str) -> ImageSet:
    """Return the images of a folder, an .npz, a prepared folder, or of digits:train or digits:held-out.

    Raises ValueError, by the file's name, for what has none or is damaged.
    """
    if place in DIGITS:
        both = digits()
        return _in_memory(place, (both.train if place == "digits:train" else both.held_out).pixels)
    path = Path(place)
    if (path / ABOUT).is_file():
        about, array, _ = open_arrays(path)
        starts = range(0, about.count, BATCH)
        return ImageSet(
            place,
            about.count,
            about.shape,
            {"recipe": about.words, **STORED},
            lambda: (torch.from_numpy(array[start : start + BATCH].copy()) for start in starts),
        )
    if (path / "config.json").is_file():
        raise ValueError(f"{path} is a run's folder; --reference needs real images: a folder, an .npz, prepared data")
    return _in_memory(place, read_pixels(path, _shown))


def sampled(trained: Trained, asked: Sampling) -> ImageSet:
    """Return samples of a model, made when they are looked at. Raises ValueError for bad levels or labels."""
    if asked.count < 1:
        raise ValueError(f"--count needs 1 or more; got {asked.count}")
    levels = list(asked.sigmas) or [trained.method.sigma_max]
    # The sampler itself refuses them, before there is anything to sample.
    nothing = torch.zeros(len(levels), 0, 1)
    multistep_sample(lambda x, _: x, nothing, torch.tensor(levels).double(), sigma_min=trained.model.sigma_min)
    labels = trained.labels(asked.count, asked.labels)
    clip = trained.sample.clip if asked.clip is None else asked.clip

    def batches() -> Iterator[UInt8[Tensor, " batch channels height width"]]:
        for chosen in together(asked.count, trained.event):
            made = some_images(trained.model, labels, levels, chosen, event=trained.event, seed=asked.seed, clip=clip)
            yield from torch.split(made, BATCH)

    made = {
        "network_sha256": checksum("", trained.model.state_dict()),
        "seed": asked.seed,
        "sigmas": levels,
        "labels": list(asked.labels) or ("all, in turn" if trained.classes else None),
        "clipping": "each step's result to [-1, 1]" if clip else "of pixels alone, to 0 to 255",
        "quantisation": "to the nearest of 256",
    }
    return ImageSet(trained.name, asked.count, trained.event, made, batches)


def _in_memory(name: str, pixels: UInt8[Tensor, " n channels height width"]) -> ImageSet:
    count, channels, height, width = pixels.shape
    return ImageSet(name, count, (channels, height, width), STORED, lambda: iter(torch.split(pixels, BATCH)))


def _shown(files: list[Path]) -> Iterable[Path]:
    return tqdm(files, desc="reading", delay=2, leave=False, bar_format=FILES)
