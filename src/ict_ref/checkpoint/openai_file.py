"""A consistency model as a file of openai's code: a state dict with the names of its UNetModel, of torch.save."""

import io
import shlex
from pathlib import Path

import torch

from ict_ref.checkpoint.network_file import refuse_infinite
from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.networks.published.openai import write_openai
from ict_ref.utils.command_line import expect

ADVICE = "Write --format network."


def content(checkpoint: NetworkCheckpoint) -> bytes:
    """Return the content of the file.

    Raises:
        ValueError: the network is a denoiser, has other coefficients than CM's, is not an ADM of openai's code, or has
            a value that is not finite.
    """
    is_denoiser = checkpoint.is_denoiser
    expect(not is_denoiser, "--format openai", "a consistency model", "a denoiser", ADVICE)
    given = checkpoint.coefficients
    expect(given == "cm", "--format openai", "CM's coefficients, which openai's code has", given, ADVICE)
    refuse_infinite(checkpoint)
    file = io.BytesIO()
    torch.save(write_openai(checkpoint), file)
    return file.getvalue()


def import_command(checkpoint: NetworkCheckpoint, file: Path) -> str:
    """Return the command that reads the file back, with the options that a state dict does not contain."""
    options = checkpoint.options
    given = {
        "size": checkpoint.size,
        "time-scale": options.time_scale,
        "head-channels": options.head_channels,
        "dropout": options.dropout,
        "dropout-max-resolution": options.dropout_max_resolution,
    }
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return shlex.join(["python", "-m", "ict_ref.import_checkpoint", str(file), "--out", file.stem, *words])
