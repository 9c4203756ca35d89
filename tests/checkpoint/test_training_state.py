import dataclasses
import hashlib
import json
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from tests.support.runs import config, copied, images, never, newest, recorded, same, unchecked

from ict_ref.checkpoint.training_state import (
    Checkpoint,
    ForeignCheckpointError,
    checkpoints,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from ict_ref.launch.__main__ import main
from ict_ref.training.loop import fit, resume
from ict_ref.training.trainer import Trainer
from ict_ref.utils.atomic import set_aside

NAME = "checkpoint-00000003.safetensors"


def saved(folder: Path) -> Path:
    """Save a checkpoint of step 3 and return its file."""
    tensors = {"student/w": torch.arange(6.0).reshape(2, 3), "optimizer/step/w": torch.tensor(3.0)}
    return save_checkpoint(folder, Checkpoint(3, tensors, "abc"))


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    saved(tmp_path)
    checkpoint = load_checkpoint(tmp_path / NAME)
    assert checkpoint.step == 3
    assert torch.equal(checkpoint.tensors["student/w"], torch.arange(6.0).reshape(2, 3))
    assert torch.equal(checkpoint.tensors["optimizer/step/w"], torch.tensor(3.0))


def test_equal_checkpoints_are_equal_files(tmp_path: Path) -> None:
    contents = {saved(tmp_path).read_bytes() for _ in range(5)}
    assert len(contents) == 1


@pytest.mark.parametrize(
    "about",
    [
        "",
        "[]",
        "{}",
        '{"step": "x", "config": "", "skipped": 0, "sha256": ""}',
        '{"step": 3, "skipped": 0, "sha256": ""}',
        '{"step": 3, "config": "", "sha256": ""}',
        '{"step": 3}',
    ],
)
def test_a_checkpoint_without_step_or_checksum_is_rejected(tmp_path: Path, about: str) -> None:
    safetensors.torch.save_file({"w": torch.ones(1)}, tmp_path / NAME, {"ict_ref": about})
    with pytest.raises(ValueError, match="not a checkpoint of ict_ref"):
        load_checkpoint(tmp_path / NAME)


def test_a_folder_without_checkpoints_has_no_newest_one(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) == (None, {})


@pytest.mark.parametrize("length", [0, 5, 200, -1])
def test_a_truncated_checkpoint_is_rejected(tmp_path: Path, length: int) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"checkpoint-00000003\.safetensors is damaged"):
        load_checkpoint(tmp_path / NAME)


def test_every_changed_byte_of_the_numbers_is_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path)
    content = path.read_bytes()
    for position in range(len(content) - 28, len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(ValueError, match="damaged"):
            load_checkpoint(tmp_path / NAME)


def test_a_folder_in_place_of_the_checkpoint_is_rejected(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(ValueError, match="is not a file"):
        load_checkpoint(tmp_path / NAME)


def test_safetensors_of_another_program_are_rejected(tmp_path: Path) -> None:
    safetensors.torch.save_file({"w": torch.ones(1)}, tmp_path / NAME)
    with pytest.raises(ValueError, match="not a checkpoint of ict_ref"):
        load_checkpoint(tmp_path / NAME)


def test_a_pickle_is_rejected_without_being_executed(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / NAME)
    with pytest.raises(ValueError, match="damaged"):
        load_checkpoint(tmp_path / NAME)


def forged(tensors: dict[str, torch.Tensor], **about: object) -> bytes:
    """Return a checkpoint file with the checksum of the one that `saved` saves, and something else changed."""
    original = {"student/w": torch.arange(6.0).reshape(2, 3), "optimizer/step/w": torch.tensor(3.0)}
    with (
        tempfile.TemporaryDirectory() as folder,
        safetensors.safe_open(saved(Path(folder)), framework="pt") as file,
    ):
        metadata = json.loads(file.metadata()["ict_ref"])
    return safetensors.torch.save(original | tensors, {"ict_ref": json.dumps(metadata | about)})


def test_the_checksum_covers_step_names_shapes_and_dtypes(tmp_path: Path) -> None:
    numbers = torch.arange(6.0)
    path = tmp_path / NAME
    path.write_bytes(forged({}))
    assert load_checkpoint(tmp_path / NAME).step == 3
    for content in (
        forged({}, step=4),
        forged({}, config="abd"),
        forged({}, skipped=1),
        forged({"student/w": numbers.reshape(3, 2)}),
        forged({"student/w": numbers.reshape(2, 3).view(torch.int32)}),
        forged({"student/v": numbers}),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="its checksum differs"):
            load_checkpoint(tmp_path / NAME)
    renamed = safetensors.torch.load(forged({}))
    renamed["student/v"] = renamed.pop("student/w")
    metadata = json.dumps({"step": 3, "config": "abc", "skipped": 0, "sha256": hashlib.sha256(b"").hexdigest()})
    path.write_bytes(safetensors.torch.save(renamed, {"ict_ref": metadata}))
    with pytest.raises(ValueError, match="its checksum differs"):
        load_checkpoint(tmp_path / NAME)


def numbered(folder: Path, *steps: int, keep: int = 100, milestone_every: int = 0) -> list[int]:
    """Save checkpoints of these steps and return the steps whose checkpoints are kept."""
    for step in steps:
        save_checkpoint(
            folder,
            Checkpoint(step, {"w": torch.full((2,), float(step))}, "abc"),
            keep=keep,
            milestones=range(0, 100, milestone_every) if milestone_every else (),
        )
    return list(checkpoints(folder))


def test_the_newest_are_kept(tmp_path: Path) -> None:
    assert numbered(tmp_path, 1, 2, 3, 5, 8, keep=2) == [8, 5]


def test_milestones_are_kept_for_good(tmp_path: Path) -> None:
    assert numbered(tmp_path, *range(1, 13), keep=2, milestone_every=5) == [12, 11, 10, 5]


@pytest.mark.parametrize("damage", ["head", "cut", "empty", "another file"])
def test_a_checkpoint_that_may_be_a_damaged_milestone_is_renamed(damage: str, tmp_path: Path) -> None:
    numbered(tmp_path, 5, milestone_every=5)
    file = checkpoints(tmp_path)[5]
    whole = file.read_bytes()
    other = safetensors.torch.save({"w": torch.zeros(2)})
    content = {"head": b"\xff" + whole[1:], "cut": whole[:20], "empty": b"", "another file": other}[damage]
    file.write_bytes(content)
    assert numbered(tmp_path, 6, 7, 8, keep=2) == [8, 7]
    assert file.with_name(f"{file.name}.damaged").read_bytes() == content


def test_files_that_are_not_checkpoints_are_not_deleted(tmp_path: Path) -> None:
    others = ["checkpoint-1.safetensors", "checkpoint-00000001.safetensors.damaged", "thesis.safetensors"]
    for name in others:
        (tmp_path / name).write_text("precious")
    assert numbered(tmp_path, 1, 2, 3, keep=1) == [3]
    assert all((tmp_path / name).read_text() == "precious" for name in others)


def test_a_checkpoint_has_the_permissions_of_any_file(tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "any", saved(tmp_path))]
    assert modes[0] == modes[1]


def test_damaged_checkpoints_are_named_and_the_one_before_them_is_used(tmp_path: Path) -> None:
    numbered(tmp_path, 1, 2, 3, 4)
    files = checkpoints(tmp_path)
    files[4].write_bytes(files[4].read_bytes()[:-3])
    files[3].write_bytes(b"")
    found, refused = newest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 2
    assert list(refused) == [files[4], files[3]]
    assert all("is damaged" in error for error in refused.values())


def test_a_checkpoint_of_another_run_is_not_used(tmp_path: Path) -> None:
    numbered(tmp_path, 1, 2)

    def accept(checkpoint: Checkpoint) -> None:
        if checkpoint.step == 2:
            raise ValueError("foreign")

    found, refused = newest_checkpoint(tmp_path, accept)
    assert found is not None
    assert found.step == 1
    assert list(refused.values()) == ["foreign"]


def test_a_run_without_a_good_checkpoint_does_not_begin_again(tmp_path: Path) -> None:
    numbered(tmp_path, 1, 2)
    for path in checkpoints(tmp_path).values():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"checkpoint-00000002\.safetensors is damaged"):
        newest_checkpoint(tmp_path)
    assert newest_checkpoint(tmp_path / "elsewhere") == (None, {})


def test_nothing_is_written_over_a_file_that_is_set_aside(tmp_path: Path) -> None:
    for content in ("first", "second", "third"):
        (tmp_path / NAME).write_text(content)
        set_aside(tmp_path / NAME)
    kept = [tmp_path / f"{NAME}.damaged{number}" for number in ("", "-2", "-3")]
    assert [path.read_text() for path in kept] == ["first", "second", "third"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Return the end of a run that nothing has happened to."""
    trainer = Trainer(config(), images())
    with unchecked():
        assert fit(trainer, tmp_path_factory.mktemp("whole"), never)
    return trainer.checkpoint()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("damage", ["truncated", "changed", "nan", "negative", "integers", "later"])
def test_a_run_with_a_damaged_last_checkpoint_resumes_from_the_one_before_to_the_same_end(
    tmp_path: Path, damage: str, whole: Checkpoint
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    cut = Trainer(config(), images())
    assert not fit(cut, folder, lambda: cut.step >= 25)
    last = checkpoints(folder)[25]
    if damage in ("nan", "negative", "integers", "later"):
        last.write_bytes(impossible(tmp_path, load_checkpoint(last), damage).read_bytes())
    else:
        content = last.read_bytes()
        last.write_bytes(content[:-9] if damage == "truncated" else content[:-9] + b"x" + content[-8:])
    bad = last.read_bytes()
    again = Trainer(config(), images())
    (line,) = resume(again, folder)
    assert again.step == 20
    assert "checkpoint-00000025.safetensors.damaged" in line
    assert fit(again, folder, never)
    assert (folder / "checkpoint-00000025.safetensors.damaged").read_bytes() == bad
    assert same(again.checkpoint(), whole)


def impossible(folder: Path, checkpoint: Checkpoint, damage: str) -> Path:
    """Save a checkpoint with a right checksum and values that no run has, and return its file."""
    tensors = dict(checkpoint.tensors)
    name = next(
        name for name in tensors if name.startswith("optimizer/exp_avg_sq/" if damage == "negative" else "student/")
    )
    changed = {
        "nan": tensors[name] * torch.nan,
        "negative": -1 - tensors[name],
        "integers": tensors[name].to(torch.int8),
    }
    tensors[name] = changed.get(damage, tensors[name])
    changed_step = dataclasses.replace(
        checkpoint, tensors=tensors, step=10**6 if damage == "later" else checkpoint.step
    )
    return save_checkpoint(folder, changed_step)


def test_a_checkpoint_of_another_run_is_refused_by_name_and_stays(tmp_path: Path) -> None:
    cut, other = Trainer(config(), images()), Trainer(config(seed=1), images())
    for trainer, step in ((cut, 5), (other, 25)):
        trainer.step = trainer.guard.skipped = step
        save_checkpoint(tmp_path, copied(trainer), keep=2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    reason = (
        r"checkpoint-00000025\.safetensors: the checkpoint is of another configuration\. Move it away, and the same"
    )
    with pytest.raises(ForeignCheckpointError, match=reason):
        resume(Trainer(config(), images()), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("skipped", [-1, 4])
def test_a_checkpoint_with_an_impossible_count_is_rejected(skipped: int, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, Checkpoint(3, {"w": torch.ones(2)}, "abc", skipped))
    with pytest.raises(ValueError, match="step, skipped steps or checksum is missing or wrong"):
        load_checkpoint(tmp_path / NAME)


def test_checkpoints_that_a_killed_run_would_have_deleted_are_deleted(tmp_path: Path) -> None:
    trainer = Trainer(recorded(keep=2, log_every=1000), images())
    for step in (1, 2, 3, 4):
        trainer.step = trainer.guard.skipped = step
        save_checkpoint(tmp_path, copied(trainer), keep=9)
    assert resume(Trainer(recorded(keep=2, log_every=1000), images()), tmp_path) == []
    assert list(checkpoints(tmp_path)) == [4, 3]


def test_a_crash_while_a_checkpoint_is_written_loses_nothing_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(recorded(save_every=5, keep=1), images())
    assert not fit(trainer, tmp_path, lambda: trainer.step >= 5)
    sync = os.fsync
    # The disk fills up while the tenth step is written: the metrics are there, the checkpoint is not.
    monkeypatch.setattr("os.fsync", lambda number: full() if stat.S_ISREG(os.fstat(number).st_mode) else sync(number))
    with pytest.raises(OSError, match="No space left"):
        fit(trainer, tmp_path, never)
    monkeypatch.undo()
    assert list(checkpoints(tmp_path)) == [5]
    assert not list(tmp_path.glob("*.tmp"))
    checkpoint = newest(tmp_path)
    assert checkpoint is not None
    assert checkpoint.step == 5


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system with room for two checkpoints of the minimal run."""
    mount = shutil.which("mount")
    place = tmp_path / "disk"
    place.mkdir()
    command = [str(mount), "-t", "tmpfs", "-o", "size=1900k", "tmpfs", str(place)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system here")
    yield place
    subprocess.run(["umount", str(place)], check=True)  # noqa: S607


@pytest.mark.usefixtures("unchecked")
def test_a_full_disk_loses_nothing_older_and_the_run_resumes_when_there_is_space(
    small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--config", "minimal", "--out"]
    assert main([*command, str(small_disk / "run")]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "ict_ref.launch: cannot use" in line
    assert line.endswith("checkpoint-00000030.safetensors: No space left on device")
    assert list(checkpoints(small_disk / "run")) == [20, 10]
    assert not list((small_disk / "run").glob("*.tmp"))
    assert main([*command, str(small_disk / "run"), "--record.keep", "1"]) == 0
    assert main([*command, str(tmp_path / "whole")]) == 0
    name = "checkpoint-00000040.safetensors"
    assert (small_disk / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def full() -> None:
    raise OSError(28, "No space left on device")
