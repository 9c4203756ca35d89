"""The lines that a user needs after preparation: an entry of the cluster file, and a command to paste."""

import json
import shlex
from pathlib import Path

from ict_ref.data.published import CIFAR10_TRAIN, IMAGENET_TRAIN, PublishedSplit
from ict_ref.prepare.sources import Source
from ict_ref.utils.regular_file import real_path

CLUSTER_FILE = "~/.config/ict_ref/cluster.toml"
LAUNCH = "python -m ict_ref.launch --config"
PRESETS = {CIFAR10_TRAIN.name: ("cifar10", (3, 32, 32)), IMAGENET_TRAIN.name: ("imagenet64", (3, 64, 64))}
"""Preset of each published set, which is also its entry in the cluster file, and the shape of the preset's images."""


def next_steps(source: Source, folder: Path) -> str:
    """Return the lines that use a prepared folder: to train on it, or to score a run by it."""
    place, known = real_path(folder), source.recognised()
    preset = _preset(source, known)
    test = source.split == "test" if known is None else known.split != "train"
    if test:
        line = f"{LAUNCH} {preset} --data.held-out" if preset else "--data.held-out"
        begin = "next: train, and score by these images:" if preset else "next: to score a run by these images, add:"
        return f"{begin}\n    {line} {shlex.quote(str(place))}"
    if preset is None:
        return f"next: train:\n    {_own_images(source, place)}"
    return (
        f"next: name the folder in your cluster file, {CLUSTER_FILE}:\n"
        f"    [data]\n    {preset} = {toml_string(str(place))}\n"
        f"and train:\n    {LAUNCH} {preset}{'' if known else ' --data.partial'}"
    )


def toml_string(text: str) -> str:
    r"""Return text as a basic string of TOML.

    >>> print(toml_string('a "b" \\ c'))
    "a \"b\" \\ c"
    """
    # TOML has the escapes of JSON, and also forbids the control character DEL.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _preset(source: Source, known: PublishedSplit | None) -> str | None:
    """Return the preset for a published set of the preset's size, or for a part of it."""
    if not source.published:
        return None
    preset, shape = PRESETS[(known or source.published[0]).name]
    return preset if source.shape == shape else None


def _own_images(source: Source, place: Path) -> str:
    """Return a command that trains a small network on images of any size, with or without classes."""
    options = ["--data.name", "folder", "--data.path", str(place)]
    if not source.classes:
        options += ["--data.no-labels", "--acceptance.accuracy", "None"]
    if source.shape[-1] % 2:
        options += ["--network.multipliers", "1"]  # the preset's network halves the images once
    return f"{LAUNCH} digits {shlex.join(options)}"
