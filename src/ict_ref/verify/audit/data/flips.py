"""Flips of images: none, or each image with probability 1/2, independently of all others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from ict_ref.verify.audit.data.epochs import SYMMETRIC, Epoch
from ict_ref.verify.audit.data.order import SLACK
from ict_ref.verify.checks.audited import not_checked, observation, verdict
from ict_ref.verify.checks.result import Result

SOURCE = "CM, Appendix C"
NAME = "data:flips"
MIRRORED, UPSIDE_DOWN = 1, 2
# Fewest images that flips can be seen of, and fewest pairs of a batch.
FEWEST, PAIRS = 40, 60


@dataclass(frozen=True)
class Sightings:
    """Images that were seen, each with its turn since a first look at it."""

    keys: Int64[np.ndarray, " n"]
    turns: Int64[np.ndarray, " n"]
    groups: Int64[np.ndarray, " n"]
    """Number of the batch, or of the pair of batches of both looks."""

    @property
    def mirrored(self) -> Bool[np.ndarray, " n"]:
        """Return which images are mirrored."""
        return self.turns & MIRRORED > 0


def flips(epochs: Sequence[Epoch], known: Epoch | None, expected: str | None) -> Result:
    """Return whether images are mirrored at random, with probability 1/2 and each alone."""
    seen = _of_known(epochs, known) if known is not None else _of_first(epochs)
    if len(seen.keys) < FEWEST:
        return not_checked(NAME, SOURCE, f"fewer than {FEWEST} images that are not symmetric were seen again")
    share = float(seen.mirrored.mean())
    if (seen.turns & UPSIDE_DOWN).any():
        upside_down = float((seen.turns & UPSIDE_DOWN > 0).mean())
        return verdict(NAME, SOURCE, f"{upside_down:.0%} of images are upside down", deviation="VerticalFlips")
    if share == 0:
        if expected == "half":
            return verdict(NAME, SOURCE, "images are never mirrored, should be in 50%", deviation="NoFlips")
        return observation(NAME, "images are not mirrored")
    if expected == "none":
        return verdict(NAME, SOURCE, f"{share:.0%} of images are mirrored, should be none", deviation="UnwantedFlips")
    return _random(seen, share, epochs, known)


def _random(seen: Sightings, share: float, epochs: Sequence[Epoch], known: Epoch | None) -> Result:
    """Return whether random flips are independent and have probability 1/2."""
    if known is not None and share == 1:
        return verdict(NAME, SOURCE, "all images are mirrored", deviation="AllMirrored")
    agree, pairs = _agreement(seen)
    if pairs >= PAIRS and agree == 1:
        return verdict(NAME, SOURCE, "all images of a batch are mirrored, or none of them", deviation="BatchFlips")
    if abs(share - 0.5) > SLACK * 0.5 / math.sqrt(len(seen.keys)):
        of = "images are mirrored" if known is not None else "images are mirrored when they are seen again"
        text = f"{share:.0%} of {of}, should be 50%"
        return verdict(NAME, SOURCE, text, deviation="FlipRate")
    if known is not None and len(epochs) > 1 and not _of_first(epochs).mirrored.any():
        text = "half of the images are mirrored, the same ones in each epoch"
        return verdict(NAME, SOURCE, text, deviation="FixedFlips")
    if pairs >= PAIRS and abs(agree - 0.5) > SLACK * 0.5 / math.sqrt(pairs):
        return verdict(NAME, SOURCE, f"neighbours of a batch have the same flip in {agree:.0%}, should be 50%")
    return observation(NAME, "images are mirrored with probability 1/2, each alone")


def _agreement(seen: Sightings) -> tuple[float, int]:
    """Return the share of neighbours of a batch with the same flip, and the number of such neighbours."""
    order = np.argsort(seen.groups, kind="stable")
    groups, mirrored = seen.groups[order], seen.mirrored[order]
    together = groups[1:] == groups[:-1]
    equal = (mirrored[1:] == mirrored[:-1])[together]
    return (float(equal.mean()) if len(equal) else 0.5), len(equal)


def _of_known(epochs: Sequence[Epoch], known: Epoch) -> Sightings:
    """Return the turns of images relative to the known ones."""
    turns = zip(known.keys.tolist(), known.turns.tolist(), strict=True)
    first = {key: turn for key, turn in turns if turn != SYMMETRIC}
    rows = [
        (key, turn ^ first[key], (number << 32) + batch)
        for number, epoch in enumerate(epochs)
        for key, turn, batch in zip(epoch.keys.tolist(), epoch.turns.tolist(), epoch.batches.tolist(), strict=True)
        if key in first and turn != SYMMETRIC
    ]
    return _sightings(rows)


def _of_first(epochs: Sequence[Epoch]) -> Sightings:
    """Return the turns of images relative to the last time that they were seen, in the epoch before."""
    last: dict[int, tuple[int, int]] = {}
    rows: list[tuple[int, int, int]] = []
    for number, epoch in enumerate(epochs):
        now: dict[int, tuple[int, int]] = {}
        columns = (epoch.keys.tolist(), epoch.turns.tolist(), epoch.batches.tolist())
        for key, turn, batch in zip(*columns, strict=True):
            if turn == SYMMETRIC or key in now:
                continue
            if key in last:
                before, group = last[key]
                rows.append((key, turn ^ before, (number << 52) + (group << 26) + batch))
            now[key] = (turn, batch)
        last |= now
    return _sightings(rows)


def _sightings(rows: list[tuple[int, int, int]]) -> Sightings:
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return Sightings(table[:, 0], table[:, 1], table[:, 2])
