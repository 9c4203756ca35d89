"""The table of presets: `python -m ict_ref.launch --list`."""

import json
import subprocess
import sys

import pytest
from tools.plan_table import parameters

from ict_ref.config import PRESETS
from ict_ref.launch.__main__ import main
from ict_ref.launch.presets_table import PARAMETERS, table


@pytest.mark.parametrize("name", PRESETS)
def test_the_stored_number_of_parameters_is_that_of_the_network(name: str) -> None:
    assert json.loads(PARAMETERS.read_text())[name] == parameters(PRESETS[name]())


def test_the_numbers_of_the_authors_networks_are_shown() -> None:
    rows = {line.split()[0]: line for line in table().splitlines()[1:]}
    assert list(rows) == list(PRESETS)
    # The authors' PyTorch code has as many parameters in its ImageNet-64 network with classes.
    assert "295,899,267" in rows["imagenet64_ct"]


def test_arguments_beside_list_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--config", "nope"]) == 2
    assert (
        capsys.readouterr().err == "ict_ref.launch: --list: expected no other arguments, got --config. Leave it out.\n"
    )


def test_the_list_and_the_help_do_not_import_torch() -> None:
    for option in ("--list", "--help"):
        program = f"""import sys
from ict_ref.launch.__main__ import main
try: main([{option!r}])
except SystemExit: pass
sys.exit("torch" in sys.modules)"""
        assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0, option
