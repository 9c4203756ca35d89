"""The tables of docs/plan.md and the presets' numbers of parameters: `nox -s plan` writes them.

tests/plan/test_page.py and tests/launch/test_presets_table.py fail where they are stale.
"""

import json
import sys
from pathlib import Path

import torch

from ict_ref.config import PRESETS, Config
from ict_ref.data.dataset import PUBLISHED
from ict_ref.launch.presets_table import PARAMETERS
from ict_ref.networks.model import build_network
from ict_ref.plan.preset_table import table
from ict_ref.utils.rng import stream

PAGE = Path(__file__).parents[1] / "docs" / "plan.md"
BEGIN, END = "<!-- plan: written by `nox -s plan` -->", "<!-- end of plan -->"


def written(page: str, tables: str) -> str:
    """Return the page with these tables."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{rest.split(END)[1]}"


def parameters(config: Config) -> int:
    """Return the number of parameters of the configured network."""
    (channels, size, _), classes = PUBLISHED.get(config.data.name, ((1, 8, 8), 10))
    with torch.device("meta"):
        network = build_network(
            config.network,
            channels=channels,
            size=size,
            classes=classes if config.data.labels else 0,
            generator=stream(0, "parameters"),
        )
    return sum(parameter.numel() for parameter in network.parameters())


if __name__ == "__main__":
    counts = {name: parameters(preset()) for name, preset in PRESETS.items()}
    PARAMETERS.write_text(json.dumps(counts, indent=2) + "\n")
    PAGE.write_text(written(PAGE.read_text(), table()))
    sys.stdout.write(f"{PAGE}: written\n")
