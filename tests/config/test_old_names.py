"""Names of earlier versions are read, on the command line and in stored configurations."""

import dataclasses
import json
from pathlib import Path

import pytest

from ict_ref.config import Config, digits
from ict_ref.config.identity import digest, digest_of_0_1_0, flat, identity
from ict_ref.config.old_names import (
    DEFAULTS,
    RENAMED,
    current_name,
    first_name,
    with_current_names,
    with_current_options,
)
from ict_ref.launch.options import parse

OLD = Path(__file__).parents[1] / "fixtures" / "version_0_1" / "run" / "config.json"


def stored() -> dict[str, dict[str, object]]:
    """Return the configuration that version 0.1.0 stored."""
    tree: dict[str, dict[str, object]] = json.loads(OLD.read_text())["config"]
    return tree


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--train.lanes", "4"], ["--train.noise-shards", "4"]),
        (["--train.lanes=4"], ["--train.noise-shards=4"]),
        (["--bars.recall", "0.1"], ["--acceptance.recall", "0.1"]),
        (["--bars.frechet-distance=a=b"], ["--acceptance.frechet-distance=a=b"]),
        (["--bars.frechet_distance", "1"], ["--acceptance.frechet-distance", "1"]),
        (["--train.steps", "8", "--out", "bars"], ["--train.steps", "8", "--out", "bars"]),
        (["--data.held_out=train.lanes", "bars.recall"], ["--data.held_out=train.lanes", "bars.recall"]),
        (["--train.dtype", "float64"], ["--train.precision", "float64"]),
        (["--train.dtype=float32", "--x"], ["--train.precision", "float32", "--x"]),
        (["--train.autocast", "none"], ["--train.precision", "float32"]),
        (["--train.autocast=bfloat16", "-h"], ["--train.precision", "bfloat16", "-h"]),
        (
            ["--train.dtype", "float32", "--train.steps", "8", "--train.autocast", "bfloat16"],
            ["--train.precision", "bfloat16", "--train.steps", "8"],
        ),
        (["--train.lanes-of-mine", "--barsoom.recall", "-h"], ["--train.lanes-of-mine", "--barsoom.recall", "-h"]),
    ],
)
def test_options_of_earlier_versions_are_rewritten_and_nothing_else(given: list[str], expected: list[str]) -> None:
    assert with_current_options(given) == expected
    assert with_current_options(expected) == expected


def test_a_stored_configuration_is_read_under_its_current_names() -> None:
    tree = stored()
    assert "lanes" in tree["train"]
    renamed = with_current_names(tree)
    config = Config.from_dict(renamed)
    assert config.train.noise_shards == tree["train"]["lanes"]
    assert dataclasses.asdict(config.acceptance) == tree["bars"]
    names = ["train.precision" if name in DEFAULTS else current_name(name) for name in flat(tree)]
    assert list(dict.fromkeys(names)) == list(flat(renamed))
    values = flat(tree)
    assert (values.pop("train.dtype"), values.pop("train.autocast")) == ("float32", "none")
    precision = flat(renamed)
    assert precision.pop("train.precision") == "float32"
    assert list(values.values()) == list(precision.values())
    assert with_current_names(renamed) == renamed


def test_an_unknown_name_of_a_stored_configuration_is_kept() -> None:
    tree = {"train": {"warm_up": 5}, "later": {}}
    assert with_current_names(tree) == tree


def test_every_current_name_exists_and_every_old_name_does_not() -> None:
    fields = flat(dataclasses.asdict(Config()))
    names = {*fields, *(name.partition(".")[0] for name in fields)}
    assert set(RENAMED.values()) <= names
    assert not set(RENAMED) & names


def test_a_name_and_its_first_name_are_inverse() -> None:
    for name in flat(dataclasses.asdict(Config())):
        assert current_name(first_name(name)) == name
    assert first_name("train.noise_shards") == "train.lanes"
    assert first_name("acceptance.recall") == "bars.recall"


def test_digests_do_not_depend_on_the_names_under_which_a_run_is_stored() -> None:
    tree = stored()
    renamed = with_current_names(tree)
    assert digest_of_0_1_0(tree) == digest_of_0_1_0(renamed)
    assert digest(identity(Config, renamed)) == Config.from_dict(renamed).digest()
    # The digests of version 0.1.0 and of the versions before these names.
    assert digest_of_0_1_0(dataclasses.asdict(digits())) == "c86323d6"
    assert digits().digest() == "d8253f80"
    # A run with a later option is not one of version 0.1.0.
    later = dataclasses.replace(digits(), train=dataclasses.replace(digits().train, ema_sigmas=(0.1,)))
    assert digest_of_0_1_0(dataclasses.asdict(later)) != "c86323d6"


@pytest.mark.parametrize(
    ("old", "precision"),
    [
        ({"dtype": "float32", "autocast": "none"}, "float32"),
        ({"dtype": "float64", "autocast": "none"}, "float64"),
        ({"dtype": "float32", "autocast": "bfloat16"}, "bfloat16"),
        ({"autocast": "bfloat16"}, "bfloat16"),
        ({"dtype": "float64"}, "float64"),
    ],
)
def test_dtype_and_autocast_are_read_as_the_precision_that_they_meant(old: dict[str, str], precision: str) -> None:
    tree = stored()
    train = {name: value for name, value in tree["train"].items() if name not in ("dtype", "autocast")}
    renamed = with_current_names({**tree, "train": {**train, **old}})
    config = Config.from_dict(renamed)
    assert config.train.precision == precision
    # The identity of a run does not change: version 0.1.0 hashed every field, by its own names and in its own order.
    whole = {**tree, "train": {name: {**tree["train"], **old}[name] for name in tree["train"]}}
    assert digest_of_0_1_0(with_current_names(whole)) == digest_of_0_1_0(whole)


@pytest.mark.parametrize(
    ("old", "got"),
    [
        ({"dtype": "float16"}, "float16 with autocast none"),
        ({"dtype": 5}, "5"),
        ({"autocast": "half"}, "half"),
        ({"autocast": None}, "None"),
        ({"dtype": "float64", "autocast": "bfloat16"}, "float64 with autocast bfloat16"),
    ],
)
def test_a_dtype_or_autocast_that_no_version_had_is_rejected(old: dict[str, object], got: str) -> None:
    with pytest.raises(ValueError, match=rf"^--train\.precision: expected one of float64, .*, got {got}"):
        Config.from_dict(with_current_names({"train": old}))


def test_the_launcher_takes_options_of_earlier_versions() -> None:
    launch = parse(["--config", "digits", "--train.lanes=8", "--bars.recall", "0.2", "--bars.accuracy", "None"])
    assert launch.config.train.noise_shards == 8
    assert (launch.config.acceptance.recall, launch.config.acceptance.accuracy) == (0.2, None)
