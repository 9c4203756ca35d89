import dataclasses
import json
from pathlib import Path

import pytest
from tests.support.configs import same_run_variants, variants

import ict_ref
from ict_ref.checkpoint.run_dir import open_run, stored_digests
from ict_ref.config import Config, minimal


def test_a_new_folder_gets_the_configuration_and_is_opened_again(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    with open_run(folder, minimal()):
        pass
    written = json.loads((folder / "config.json").read_text())
    assert written["config"] == json.loads(minimal().to_json())
    with open_run(folder, minimal()):
        pass


def test_the_run_of_another_configuration_is_refused_and_the_field_named(tmp_path: Path) -> None:
    with open_run(tmp_path, minimal()):
        pass
    before = (tmp_path / "config.json").read_bytes()
    other = dataclasses.replace(minimal(), train=dataclasses.replace(minimal().train, batch_size=32))
    with pytest.raises(ValueError, match=r"train\.batch_size is 16 there and 32 here"), open_run(tmp_path, other):
        pass
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_run_that_was_killed_while_beginning_can_begin_again(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / "config.json.tmp").write_text('{"con')
    with open_run(tmp_path, minimal()):
        pass
    assert json.loads((tmp_path / "config.json").read_text())["ict_ref"] == ict_ref.__version__


@pytest.mark.parametrize("config", variants(), ids=lambda config: config.digest())
def test_a_difference_in_any_field_is_refused(tmp_path: Path, config: Config) -> None:
    with open_run(tmp_path, minimal()):
        pass
    with (
        pytest.raises(ValueError, match=r"is the run of another configuration: \w+\.\w+ is"),
        open_run(tmp_path, config),
    ):
        pass


def test_a_field_that_is_not_known_is_refused_and_one_that_is_not_stored_has_its_default(tmp_path: Path) -> None:
    with open_run(tmp_path, minimal()):
        pass
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    content["config"]["train"]["warm_up"] = 5
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"train\.warm_up is 5 there and None here"), open_run(tmp_path, minimal()):
        pass
    del content["config"]["train"]["warm_up"], content["config"]["train"]["seed"]
    path.write_text(json.dumps(content))
    with open_run(tmp_path, minimal()):
        pass
    other = dataclasses.replace(minimal(), train=dataclasses.replace(minimal().train, seed=3))
    with pytest.raises(ValueError, match=r"train\.seed is 0 there and 3 here"), open_run(tmp_path, other):
        pass


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="not a run folder"), open_run(tmp_path, minimal()):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_folder_s_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("precious")
    with pytest.raises(ValueError, match="is a file"), open_run(tmp_path / "run", minimal()):
        pass


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    with (
        open_run(tmp_path, minimal()),
        pytest.raises(ValueError, match="in use by another process"),
        open_run(tmp_path, minimal()),
    ):
        pass


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"config": 3}'])
def test_a_damaged_configuration_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json is damaged"), open_run(tmp_path, minimal()):
        pass


@pytest.mark.parametrize("config", same_run_variants())
def test_a_run_is_resumed_with_any_other_field_changed_and_the_change_is_recorded(
    tmp_path: Path, config: Config
) -> None:
    with open_run(tmp_path, minimal()):
        pass
    with open_run(tmp_path, config):
        pass
    assert json.loads((tmp_path / "config.json").read_text())["config"] == json.loads(config.to_json())
    assert stored_digests(tmp_path)[0] == minimal().digest() == config.digest()


def test_a_run_that_is_resumed_unchanged_keeps_its_file_as_it_is(tmp_path: Path) -> None:
    with open_run(tmp_path, minimal()):
        pass
    before = (tmp_path / "config.json").stat()
    with open_run(tmp_path, minimal()):
        pass
    assert (tmp_path / "config.json").stat().st_ino == before.st_ino
