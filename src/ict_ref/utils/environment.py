"""Environment variables, each checked and named when it is read."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ict_ref.utils.command_line import expect
from ict_ref.utils.signals import RENDEZVOUS

DIGITS = re.compile(r"[+-]?\d{1,9}", re.ASCII)
# CUDA and SLURM write numbers, or UUIDs of GPUs and of their parts.
GPU = re.compile(r"\d{1,4}|(GPU|MIG)-[\w/-]+", re.ASCII)
HIDDEN = ("", "-1", "NoDevFiles")
"""Values of CUDA_VISIBLE_DEVICES that show no GPU; the last is SLURM's."""


def whole_number(
    name: str, default: int | None, least: int, most: int | None = None, environment: Mapping[str, str] = os.environ
) -> int:
    """Return the whole number in a variable; `default` if it is not set or empty, and no default makes it required.

    >>> whole_number("RANK", 0, 0, 3, {"RANK": "2"})
    2

    Raises:
        ValueError: The value is missing, not a whole number, or out of range. The message names the variable.
    """
    text = environment.get(name, "").strip()
    if not text and default is not None:
        return default
    span = f"from {least} to {most}" if most is not None else f">= {least}"
    is_number = DIGITS.fullmatch(text) is not None and int(text) >= least and (most is None or int(text) <= most)
    expect(is_number, f"${name}", f"an integer {span}", text or "nothing", "Correct or unset it.")
    return int(text)


@dataclass(frozen=True)
class GroupNumbers:
    """The place of this process among those of its command, as the environment describes it."""

    rank: int
    size: int
    local_rank: int
    is_member: bool
    """Whether a launcher started this process as one of a group, of which it may be the only one."""


def group_numbers(environment: Mapping[str, str] = os.environ) -> GroupNumbers:
    """Return the rank, the number of processes and the rank on this machine.

    WORLD_SIZE 1 alone does not make a group: cluster operators set it to the number of containers.

    >>> group_numbers({"WORLD_SIZE": "1", "RANK": "0"}).is_member
    False

    Raises:
        ValueError: A variable is not a number in its range, or is missing beside the others.
    """
    size = whole_number("WORLD_SIZE", 1, 1, environment=environment)
    several = size > 1
    rank = whole_number("RANK", None if several else 0, 0, size - 1, environment)
    local = whole_number("LOCAL_RANK", 0, 0, size - 1, environment)
    return GroupNumbers(rank, size, local, several or "LOCAL_RANK" in environment or RENDEZVOUS in environment)


def refuse_bad_threads(environment: Mapping[str, str] = os.environ) -> None:
    """Reject an OMP_NUM_THREADS that OpenMP would ignore with a warning of its own.

    Raises:
        ValueError: The value is not a positive number, or a list of such numbers.
    """
    text = environment.get("OMP_NUM_THREADS", "").strip()
    is_list = all(DIGITS.fullmatch(part.strip()) and int(part) >= 1 for part in text.split(",")) if text else True
    expect(is_list, "$OMP_NUM_THREADS", "an integer >= 1", text, "Correct or unset it.")


def shows_gpus(environment: Mapping[str, str] = os.environ) -> bool | None:
    """Return whether CUDA_VISIBLE_DEVICES names GPUs; None if it is not set.

    Raises:
        ValueError: It has other values than different numbers and UUIDs. CUDA hides GPUs for these without a word: all
            for one that is there twice, and those after -1.
    """
    text = environment.get("CUDA_VISIBLE_DEVICES")
    if text is None:
        return None
    if text.strip() in HIDDEN:
        return False
    parts = [part.strip() for part in text.split(",")]
    are_gpus = all(map(GPU.fullmatch, parts)) and len(set(parts)) == len(parts)
    expect(are_gpus, "$CUDA_VISIBLE_DEVICES", "different numbers or UUIDs of GPUs", text, "Correct or unset it.")
    return True
