import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.configs import same_run_variants, variants
from tests.support.runs import short_run

import ict_ref
from ict_ref.checkpoint.run_dir import load_config, open_run, read_run, refuse_unusable
from ict_ref.config import Config, Scm, Tuning, minimal
from ict_ref.config.identity import flat
from ict_ref.utils.atomic import temporary
from ict_ref.utils.file_format import LaterFormatError


def test_a_new_folder_gets_the_configuration_and_is_opened_again(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    with open_run(folder, minimal()):
        pass
    written = json.loads((folder / "config.json").read_text())
    assert written["config"] == json.loads(minimal().to_json())
    with open_run(folder, minimal()):
        pass


def test_another_configuration_is_rejected_and_the_option_named(tmp_path: Path) -> None:
    with open_run(tmp_path, minimal()):
        pass
    before = (tmp_path / "config.json").read_bytes()
    other = dataclasses.replace(minimal(), train=dataclasses.replace(minimal().train, batch_size=32))
    with (
        pytest.raises(ValueError, match=r"--train\.batch-size: expected 16 .*, got 32"),
        open_run(tmp_path, other),
    ):
        pass
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_run_that_was_killed_while_beginning_can_begin_again(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    for name in ("config.json.tmp", ".config.json.0123456789abcdef.tmp"):
        (tmp_path / name).write_text('{"con')
    with open_run(tmp_path, minimal()):
        pass
    assert json.loads((tmp_path / "config.json").read_text())["ict_ref"] == ict_ref.__version__


def test_a_folder_whose_config_json_is_lost_is_resumed_as_the_message_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--train.steps", "8", "--record.save-every", "4"]
    folder, again = short_run(tmp_path / "run", *options), tmp_path / "again"
    whole, half = (folder / f"checkpoint-0000000{step}.safetensors" for step in (8, 4))
    expected = whole.read_bytes()
    config = (folder / "config.json").read_bytes()
    for file in (
        whole,
        folder / "config.json",
        folder / "metrics.jsonl",
        folder / "samples.png",
        folder / "scores.json",
    ):
        file.unlink()
    with pytest.raises(AssertionError):
        short_run(folder, *options)
    assert "To resume from these checkpoints, copy here the config.json that" in capsys.readouterr().err
    assert half.exists()
    short_run(again, *options)
    assert (again / "config.json").read_bytes() == config
    shutil.copy(again / "config.json", folder)
    short_run(folder, *options)
    assert "resumed after step 4 of 8" in capsys.readouterr().out
    assert whole.read_bytes() == expected


def test_a_link_in_place_of_config_json_is_rejected_and_stays(tmp_path: Path) -> None:
    folder, kept = tmp_path / "run", tmp_path / "kept.json"
    folder.mkdir()
    (folder / "config.json").symlink_to(kept)
    message = r"config\.json: expected a regular file, got a symbolic link"
    with pytest.raises(ValueError, match=message), open_run(folder, minimal()):
        pass
    assert (folder / "config.json").is_symlink()
    assert not kept.exists()


@pytest.mark.parametrize("config", variants(), ids=lambda config: config.digest())
def test_a_difference_in_any_field_of_the_identity_is_rejected(tmp_path: Path, config: Config) -> None:
    with open_run(tmp_path, minimal()):
        pass
    with (
        pytest.raises(ValueError, match=r"^--\w+\.[\w-]+: expected .* as in the run of .*, got .*\. Choose"),
        open_run(tmp_path, config),
    ):
        pass


def test_an_unknown_field_is_rejected_and_a_missing_field_has_its_default(tmp_path: Path) -> None:
    with open_run(tmp_path, minimal()):
        pass
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    content["config"]["train"]["warm_up"] = 5
    path.write_text(json.dumps(content))
    with (
        pytest.raises(ValueError, match=r"config\.json: expected the options of version .*, got --train\.warm-up"),
        open_run(tmp_path, minimal()),
    ):
        pass
    del content["config"]["train"]["warm_up"], content["config"]["train"]["seed"]
    path.write_text(json.dumps(content))
    with open_run(tmp_path, minimal()):
        pass
    other = dataclasses.replace(minimal(), train=dataclasses.replace(minimal().train, seed=3))
    with pytest.raises(ValueError, match=r"--train\.seed: expected 0 as in .*, got 3"), open_run(tmp_path, other):
        pass


@pytest.mark.parametrize("name", ["identities", "files", "images", "environment"])
def test_an_entry_with_a_damaged_name_does_not_count_as_absent(name: str, tmp_path: Path) -> None:
    with open_run(tmp_path, minimal()):
        pass
    path = tmp_path / "config.json"
    damaged = path.read_text().replace(f'"{name}"', f'"{name[:-1]}`"')
    path.write_text(damaged)
    message = rf"config\.json: expected the entries of version \S+ of ict_ref, got {name[:-1]}`\. A later version .* or"
    with pytest.raises(LaterFormatError, match=message), open_run(tmp_path, minimal()):
        pass
    with pytest.raises(LaterFormatError, match=message):
        read_run(tmp_path)
    assert path.read_text() == damaged


def test_a_folder_with_other_files_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="not a run folder"), open_run(tmp_path, minimal()):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_place_of_the_folder_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("precious")
    with pytest.raises(ValueError, match="is a file"), open_run(tmp_path / "run", minimal()):
        pass


def test_a_folder_in_use_is_rejected(tmp_path: Path) -> None:
    with (
        open_run(tmp_path, minimal()),
        pytest.raises(ValueError, match="in use by another process"),
        open_run(tmp_path, minimal()),
    ):
        pass


def test_a_folder_is_found_usable_or_in_use_before_a_run(tmp_path: Path) -> None:
    with open_run(tmp_path, minimal()), pytest.raises(ValueError, match="in use by another process"):
        refuse_unusable(tmp_path, minimal())
    assert not (tmp_path / ".lock").exists()
    refuse_unusable(tmp_path, minimal())
    (tmp_path / ".lock").touch()  # of a run that was killed
    refuse_unusable(tmp_path, minimal())
    assert (tmp_path / ".lock").exists()


def test_a_run_in_another_environment_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_run(tmp_path, minimal()) as notes:
        assert notes == []
    stored = json.loads((tmp_path / "config.json").read_text())["environment"]
    assert (stored["torch"], stored["ict_ref"]) == (torch.__version__, ict_ref.__version__)
    assert stored["CPU capability"] == torch.backends.cpu.get_cpu_capability()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "SSE2")
    monkeypatch.setattr(torch, "__version__", "9.9.0")
    with open_run(tmp_path, minimal()) as notes:
        pass
    versions = f"torch 9.9.0 instead of {stored['torch']}"
    instructions = f"CPU capability SSE2 instead of {stored['CPU capability']}"
    assert notes == [f"resumes with {versions}, {instructions}; values may differ in their last digits"]
    with open_run(tmp_path, minimal()) as notes:
        assert notes == []


@pytest.mark.parametrize("name", ["ict_ref", "torch", "CPU capability", "device"])
def test_each_part_of_the_environment_is_compared(name: str, tmp_path: Path) -> None:
    with open_run(tmp_path, minimal()):
        pass
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    now, content["environment"][name] = content["environment"][name], "another"
    path.write_text(json.dumps(content))
    with open_run(tmp_path, minimal()) as notes:
        assert notes == [f"resumes with {name} {now} instead of another; values may differ in their last digits"]
    del content["environment"][name]
    path.write_text(json.dumps(content))
    with open_run(tmp_path, minimal()) as notes:
        assert notes == []


def test_what_a_killed_run_left_is_deleted_and_the_rest_stays(tmp_path: Path) -> None:
    with open_run(tmp_path, minimal()):
        (tmp_path / "samples").mkdir()
    names = ["config.json", "metrics.jsonl", "samples.png", "scores.json", "checkpoint-00000010.safetensors"]
    left = [temporary(tmp_path / name) for name in names] + [temporary(tmp_path / "samples" / "step-00000010.png")]
    inner = temporary(temporary(tmp_path / names[-1]))  # of safetensors
    inner.mkdir()
    others = [temporary(tmp_path / name) for name in ("curve.json", "mine")] + [tmp_path / "samples" / "mine"]
    for path in (*left, inner / "part", *others):
        path.touch()
    with open_run(tmp_path, minimal()):
        pass
    assert sorted(tmp_path.rglob("*")) == sorted([tmp_path / "config.json", tmp_path / "samples", *others])


def test_a_configuration_without_identities_is_rejected(tmp_path: Path) -> None:
    with open_run(tmp_path, minimal()):
        pass
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"identities": []}))
    with pytest.raises(ValueError, match="identities: expected one or more, got none"), open_run(tmp_path, minimal()):
        pass


def test_a_configuration_of_a_later_format_is_rejected(tmp_path: Path) -> None:
    with open_run(tmp_path, minimal()):
        pass
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(LaterFormatError), open_run(tmp_path, minimal()):
        pass


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"config": 3}'])
def test_a_damaged_configuration_is_rejected(tmp_path: Path, content: bytes) -> None:
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
    assert read_run(tmp_path).identities[0] == minimal().digest() == config.digest()


def test_a_run_that_is_resumed_unchanged_keeps_its_file_as_it_is(tmp_path: Path) -> None:
    with open_run(tmp_path, minimal()):
        pass
    before = (tmp_path / "config.json").stat()
    with open_run(tmp_path, minimal()):
        pass
    assert (tmp_path / "config.json").stat().st_ino == before.st_ino


OLD = Path(__file__).parents[1] / "fixtures" / "version_0_1" / "run" / "config.json"


NEW = {
    "machine.cuda_graphs",
    "data.partial",
    "record.milestone_stages",
    "record.ema_snapshots",
    "machine.deterministic",
    "machine.trust",
    "train.ema_sigmas",
    "train.init",
    "train.beta2",
    "method.trigflow",
    "record.wandb",
    "record.mlflow",
    *(f"scm.{field.name}" for field in dataclasses.fields(Scm)),
    *(f"tuning.{field.name}" for field in dataclasses.fields(Tuning)),
}
"""Options that version 0.1.0 did not have."""


def old_run(folder: Path) -> dict[str, Any]:
    """Write the configuration of version 0.1.0 into a folder and return its content."""
    (folder / "config.json").write_bytes(OLD.read_bytes())
    content: dict[str, Any] = json.loads(OLD.read_text())
    return content


def test_a_run_with_names_of_an_earlier_version_is_resumed_and_nothing_is_lost(tmp_path: Path) -> None:
    old = old_run(tmp_path)
    digests = read_run(tmp_path).identities
    config = load_config(tmp_path)
    assert config.train.noise_shards == old["config"]["train"]["lanes"] == 4  # word list: allowed
    with open_run(tmp_path, config):
        pass
    new = json.loads((tmp_path / "config.json").read_text())
    assert new["ict_ref"] == old["ict_ref"]
    assert new["config"] == json.loads(config.to_json())
    # The options that version 0.1.0 did not have come last in their group, with their defaults.
    values = flat(new["config"])
    assert values.keys() >= NEW
    kept = [value for name, value in values.items() if name not in NEW]
    # `train.precision` stands in the place of `train.dtype` and `train.autocast`.
    first = {name: value for name, value in flat(old["config"]).items() if name != "train.autocast"}
    assert kept == list(first.values())
    assert (new["format"], new["images"], new["identities"]) == (2, None, list(digests))
    assert read_run(tmp_path).identities == digests
    # Read again, the file is not written again.
    before = (tmp_path / "config.json").stat().st_ino
    with open_run(tmp_path, config):
        pass
    assert (tmp_path / "config.json").stat().st_ino == before


def test_another_number_of_shards_than_that_of_an_old_run_is_rejected(tmp_path: Path) -> None:
    old_run(tmp_path)
    config = load_config(tmp_path)
    other = dataclasses.replace(config, train=dataclasses.replace(config.train, noise_shards=2))
    with (
        pytest.raises(ValueError, match=r"--train\.noise-shards: expected 4 .*, got 2"),
        open_run(tmp_path, other),
    ):
        pass


def test_checkpoints_of_an_old_run_stay_its_own_when_thresholds_change(tmp_path: Path) -> None:
    # Version 0.1.0 bound checkpoints to a digest over acceptance thresholds and sampling too.
    old_run(tmp_path)
    digests, config = read_run(tmp_path).identities, load_config(tmp_path)
    for recall in (0.5, 0.6, None):
        changed = dataclasses.replace(config, acceptance=dataclasses.replace(config.acceptance, recall=recall))
        with open_run(tmp_path, changed):
            pass
        assert load_config(tmp_path).acceptance.recall == recall
        assert read_run(tmp_path).identities == digests
