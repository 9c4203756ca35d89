"""A consistency model as a folder from which diffusers' ConsistencyModelPipeline.from_pretrained loads it, and back."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from ict_ref.checkpoint.network_file import refuse_infinite, refuse_out_of_range
from ict_ref.checkpoint.safetensors_io import read_tensors
from ict_ref.config import Network, stored_group
from ict_ref.networks.embedding import at_least_float32
from ict_ref.networks.network_checkpoint import NetworkCheckpoint, OwnNetworkCheckpoint
from ict_ref.utils.command_line import expect
from ict_ref.utils.json_file import entry, read_json, shown
from ict_ref.utils.version import __version__

CODE = Path(__file__).with_name("ict_unet.py")
DIFFUSERS = "0.42.1"
"""The version of diffusers with which the folders are tested."""
PIPELINE, UNET = "ConsistencyModelPipeline", "ConsistencyUNet"
INDEX, SCHEDULER, CONFIG = "model_index.json", "scheduler/scheduler_config.json", "unet/config.json"
WEIGHTS, PREFIX = "unet/diffusion_pytorch_model.safetensors", "free_form."
LEVELS = ("sigma_min", "sigma_max", "sigma_data", "rho")
"""Entries of the scheduler that are fields of the network checkpoint."""

CARD = """\
---
library_name: diffusers
pipeline_tag: unconditional-image-generation
tags: [consistency-models, ict_ref]
---

# {name}

A consistency model, trained by improved consistency training (iCT, arXiv:2310.14189) with ict_ref {version}.
{origin}

```python
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("{name}", trust_remote_code=True)
images = pipeline(batch_size=4, num_inference_steps=1{labels}).images
```

`unet/ict_unet.py` is a program, which this line runs; it needs the packages ict_ref and diffusers.
Two steps are `timesteps=[K, 0]` in place of `num_inference_steps=1`. K counts the {levels} noise levels down from
sigma_max = {sigma_max:g}: the larger K, the less noise has the second step.

| | |
|---|---|
{table}
{scores}"""


def files(checkpoint: NetworkCheckpoint, name: str, scores: Mapping[str, Any] | None = None) -> dict[str, bytes]:
    """Return the content of each file of the folder, by its relative path.

    `scores` is the content of a run's scores.json, for the model card.

    Raises:
        ValueError: the network is a denoiser, has other coefficients than CM's, is one of the user's own, or has a
            value that is not finite.
    """
    use = "Write --format network."
    expect(not checkpoint.is_denoiser, "--format diffusers", "a consistency model", "a denoiser", use)
    given = checkpoint.coefficients
    expect(given == "cm", "--format diffusers", "CM's coefficients, which diffusers' scheduler has", given, use)
    own = isinstance(checkpoint, OwnNetworkCheckpoint)
    expect(not own, "--format diffusers", "a network that is built from options", "one of the user's own")
    refuse_infinite(checkpoint)
    tensors = {f"{PREFIX}{key}": value.detach().cpu().contiguous() for key, value in checkpoint.state.items()}
    described = {
        INDEX: {
            "_class_name": PIPELINE,
            "_diffusers_version": DIFFUSERS,
            "scheduler": ["diffusers", "CMStochasticIterativeScheduler"],
            "unet": [CODE.stem, UNET],
        },
        SCHEDULER: _scheduler(checkpoint),
        CONFIG: {
            "_class_name": UNET,
            "_diffusers_version": DIFFUSERS,
            "network": dataclasses.asdict(checkpoint.options),
            "sample_size": checkpoint.size,
            "in_channels": checkpoint.channels,
            "out_channels": checkpoint.channels,
            "num_class_embeds": checkpoint.classes or None,
            "class_names": checkpoint.class_names,
            "source": checkpoint.source,
            "sigma_min": checkpoint.sigma_min,
        },
    }
    return {
        **{path: f"{json.dumps(content, indent=2)}\n".encode() for path, content in described.items()},
        WEIGHTS: safetensors.torch.save(tensors, {"format": "pt"}),
        f"unet/{CODE.name}": CODE.read_bytes(),
        "README.md": _card(checkpoint, name, scores).encode(),
    }


def read(folder: Path) -> NetworkCheckpoint:
    """Return the network in a folder of `files`, also after diffusers has loaded it and saved it again.

    The code in the folder is not executed. Tensors in 16 bits become float32.

    Raises:
        ValueError: the folder is of another origin, or a file is damaged, missing or of another version.
        OSError: a file cannot be read.
    """
    _refuse_other_origin(folder)
    wanted = (CONFIG, SCHEDULER, WEIGHTS)
    lacking = " and ".join(name for name in wanted if not (folder / name).exists())
    expect(not lacking, str(folder), f"a folder with {', '.join(wanted)}", f"one without {lacking}", "Export it again.")
    unet, levels = read_json(folder / CONFIG), read_json(folder / SCHEDULER)
    _, tensors = read_tensors(folder / WEIGHTS, 1, "Restore it from a copy.")
    state = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    try:
        checkpoint = _described(unet, levels, state)
        other = checkpoint.other_tensor()
    except (TypeError, RuntimeError, OverflowError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{folder} does not describe a network of this version of ict_ref ({reason})") from None
    weights = str(folder / WEIGHTS)
    expect(other is None, weights, f"the tensors of the network in {CONFIG}", f"others: {other}", "Export it again.")
    unusable = checkpoint.unusable_tensor()
    expect(unusable is None, weights, "tensors of finite floats", unusable, "Export it again.")
    return dataclasses.replace(checkpoint, state={name: at_least_float32(value) for name, value in state.items()})


def _refuse_other_origin(folder: Path) -> None:
    """Reject a folder that `files` did not describe.

    Raises:
        ValueError: the folder is of another origin. The message says what it has.
    """
    expected, advice = "a folder of export_checkpoint --format diffusers", "Import the file of the network's own code."
    names = sorted(path.name for path in folder.iterdir())
    there = ", ".join([shown(name) for name in names[:3]] + ["..."] * (len(names) > 3)) or "nothing"
    expect(INDEX in names, str(folder), expected, f"a folder without {INDEX} (it has {there})", advice)
    index = read_json(folder / INDEX)
    pipeline, unet = index.get("_class_name"), index.get("unet")
    expect(pipeline == PIPELINE, str(folder), expected, f"the pipeline {shown(pipeline)}", advice)
    # diffusers writes the whole name of the module when it saves the pipeline.
    module, name = (str(one) for one in unet) if isinstance(unet, list) and len(unet) == 2 else ("", unet)
    ours = module.rpartition(".")[2] == CODE.stem and name == UNET
    expect(ours, str(folder), expected, f"a {PIPELINE} with the network {shown(name)} of {shown(module)}", advice)


def _described(
    unet: Mapping[str, Any], levels: Mapping[str, Any], state: Mapping[str, Float[Tensor, "..."]]
) -> NetworkCheckpoint:
    """Return the network that the configurations of the network and of the scheduler describe.

    Raises:
        ValueError: an entry is missing, has another type or is out of range.
        TypeError: an option does not exist in this version.
    """
    within, of_levels = f"{CONFIG}: ", f"{SCHEDULER}: "
    noise: dict[str, Any] = {name: float(entry(levels, name, float, of_levels)) for name in LEVELS}
    exact = entry(unet, "sigma_min", float | None, within) if "sigma_min" in unet else None
    if exact is not None and _in_float32(exact) == noise["sigma_min"]:
        noise["sigma_min"] = float(exact)
    checkpoint = NetworkCheckpoint(
        options=stored_group(Network, entry(unet, "network", Mapping[str, Any], within), "network"),
        channels=entry(unet, "in_channels", int, within),
        size=entry(unet, "sample_size", int, within),
        classes=entry(unet, "num_class_embeds", int | None, within) or 0,
        state=state,
        s1=entry(levels, "num_train_timesteps", int, of_levels, 2) - 1,
        clip=entry(levels, "clip_denoised", bool, of_levels),
        class_names=entry(unet, "class_names", tuple[str, ...] | None, within) if "class_names" in unet else None,
        source=entry(unet, "source", str, within) if "source" in unet else "",
        **noise,
    )
    refuse_out_of_range(checkpoint)
    return checkpoint


def _in_float32(value: float) -> float:
    """Return the float32 number that is nearest to the value."""
    return torch.tensor(value, dtype=torch.float32).item()


def _scheduler(checkpoint: NetworkCheckpoint) -> dict[str, Any]:
    """Return the configuration of the scheduler.

    The scheduler adds noise of variance t^2 - sigma_min^2 to the last sample of several steps, where t is sigma_min in
    float32. The variance is 0 for a sigma_min that float32 has, and (6e-7)^2 for 0.002.
    """
    return {
        "_class_name": "CMStochasticIterativeScheduler",
        "_diffusers_version": DIFFUSERS,
        "num_train_timesteps": checkpoint.s1 + 1,
        **{name: getattr(checkpoint, name) for name in LEVELS},
        "sigma_min": _in_float32(checkpoint.sigma_min),
        "s_noise": 1.0,
        "clip_denoised": checkpoint.clip,
    }


def _card(checkpoint: NetworkCheckpoint, name: str, scores: Mapping[str, Any] | None) -> str:
    rows = {
        "images": f"{checkpoint.channels} x {checkpoint.size} x {checkpoint.size}",
        "classes": checkpoint.classes or "none",
        **{f"network.{key}": value for key, value in dataclasses.asdict(checkpoint.options).items()},
    }
    return CARD.format(
        name=name,
        version=__version__,
        origin=f"Training images: {checkpoint.source or 'not recorded'}.",
        labels=", class_labels=[0, 1, 2, 3]" if checkpoint.classes else "",
        levels=checkpoint.s1 + 1,
        sigma_max=checkpoint.sigma_max,
        table="\n".join(f"| {key} | {value} |" for key, value in rows.items()),
        scores="" if scores is None else _scored(scores),
    )


def _scored(scores: Mapping[str, Any]) -> str:
    """Return the section of the card with the scores of the run."""
    names = list(dict.fromkeys(name for row in scores["scores"] for name in row if name != "name"))
    head = ["samples", *(name.replace("_", " ") for name in names)]
    rows = [
        [str(row["name"]), *(f"{row[name]:.4g}" if name in row else "" for name in names)] for row in scores["scores"]
    ]
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(["", f"## Scores after {scores['step']} updates", "", f"{scores['protocol']}.", "", *lines, ""])
