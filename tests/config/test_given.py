"""Configurations as the Python interface takes them."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ict_ref.config import Config, digits, minimal
from ict_ref.config.given import config_of


def test_a_preset_a_config_and_options() -> None:
    assert config_of("minimal") == (minimal(), "minimal")
    config = dataclasses.replace(minimal(), train=dataclasses.replace(minimal().train, steps=77))
    assert config_of(config) == (config, "")
    for options in ({"train.steps": 77}, {"train": {"steps": 77}}, {"train.steps": np.int64(77)}):
        assert config_of({"preset": "minimal", **options}) == (config, "minimal")


def test_values_have_the_types_of_their_options() -> None:
    given = {"train.ema_decay": (0.9, 0.5), "network.multipliers": [1, 1], "train.init": Path("a") / "b"}
    config, _ = config_of({"preset": "digits", **given, "method.huber_c": 0.5})
    assert config.train.ema_decay == (0.9, 0.5)
    assert config.network.multipliers == (1, 1)
    assert config.train.init == str(Path("a/b"))
    assert config.method.huber_c == 0.5
    assert config.train.steps == digits().train.steps


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("minimla", 'config: expected the name of a preset, alone or as "preset", got minimla. Perhaps minimal.'),
        ({"train.steps": 3}, 'config: expected the name of a preset, alone or as "preset", got None. Perhaps digits'),
        (
            {"preset": "minimal", "train.stepz": 3},
            "config: expected names of options, got train.stepz. Perhaps train.s",
        ),
        ({"preset": "minimal", "what": {"x": 3}}, "config: expected names of options, got what.x"),
        ({"preset": "minimal", "train.steps": "3"}, "--train.steps: expected an integer, got '3'"),
        ({"preset": "minimal", "train.steps": 0}, "--train.steps: expected an integer >= 1, got 0"),
        (3, "config: expected a Config, the name of a preset, or options such as .*, got int"),
        (Config, "config: expected a Config, the name of a preset, or options such as .*, got type"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_not_a_configuration_is_one_line(given: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{complaint}") as error:
        config_of(given)
    assert "\n" not in str(error.value)
