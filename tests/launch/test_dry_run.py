"""`--dry-run`: the file that would be submitted, the source of each value, and what is not ready; without any data."""

import dataclasses
import json
from pathlib import Path

import pytest
from tests.support.datasets import prepared, random_images

from ict_ref.checkpoint.network_file import export
from ict_ref.config import minimal
from ict_ref.launch.__main__ import main
from ict_ref.launch.options import parse
from ict_ref.launch.submit import as_slurm_task, for_slurm
from ict_ref.networks.model import build_model
from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.slurm.submit import executor


def shown(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a dry run prints; its status is 0."""
    assert main([*words, "--dry-run"]) == 0
    streams = capsys.readouterr()
    assert streams.err == ""
    return streams.out


def test_the_line_as_typed_needs_neither_data_nor_slurm_nor_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    text = shown(["--slurm", "--config", "imagenet64"], capsys)
    for line in ("#SBATCH --nodes=4", "#SBATCH --gpus-per-node=8", "#SBATCH --cpus-per-task=8", "#SBATCH --time=1440"):
        assert f"{line}\n" in text
    config, _ = json.JSONDecoder().raw_decode(text)
    assert config["machine"]["device"] == "cuda"
    not_ready = [line for line in text.splitlines() if line.startswith("not ready: ")]
    assert [line.split(": ")[1] for line in not_ready] == ["--data.path", "--slurm"]
    assert 'write imagenet64 = "FOLDER" below [data] in ' in not_ready[0]
    assert list(tmp_path.iterdir()) == []


def test_each_value_that_differs_from_the_preset_has_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    images = prepared(tmp_path / "data" / "cifar10", random_images(40, 3, 32, 32), [k % 10 for k in range(40)])
    (tmp_path / "mine.toml").write_text(
        '[job]\npartition = "gpu"\nminutes = 600\n[machine]\ncompile = true\nthreads = 3\n'
    )
    monkeypatch.setenv("ICT_REF_DATA", str(images.parent))
    words = ["--slurm", "--config", "cifar10", "--profile", "mine.toml", "--machine.threads", "2", "--train.steps", "9"]
    text = shown(words, capsys)
    start = text.index("option ")
    rows = [line.split(maxsplit=2) for line in text[start : text.index("memory:")].splitlines()]
    checksum = parse(words).config.data.checksum
    assert [row for row in rows if row] == [
        ["option", "value", "from"],
        ["--data.path", str(images), "$ICT_REF_DATA"],
        ["--data.checksum", checksum, "the prepared folder"],
        ["--train.steps", "9", "the command line"],
        ["--machine.device", "cuda", "a job with GPUs"],
        ["--machine.threads", "2", "the command line"],
        ["--machine.compile", "True", "mine.toml"],
        ["--job.minutes", "600", "mine.toml"],
        ["--job.partition", "gpu", "mine.toml"],
    ]


def test_a_dry_run_prints_the_file_that_is_submitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--slurm", "--config", "minimal", "--out", str(tmp_path / "a run's folder"), "--job.setup", "echo $HOME"]
    text = shown(words, capsys)
    written = executor(as_slurm_task(for_slurm(parse(words)))).text()
    assert written.strip() in text
    folder = f"'{tmp_path}/a run'\"'\"'s folder/slurm/%j'"
    assert f"-m submitit.core._submit {folder}\n" in written
    assert "\nset -e\necho $HOME\n" in written


def test_what_no_submission_could_have_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--train.batch", "3"], ["--train.batch-size", "0"], ["--job.nodes", "0"], ["--profile", "nope"]):
        assert main(["--slurm", "--config", "imagenet64", "--dry-run", *words]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_submission_refuses_what_a_dry_run_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    (tmp_path / "taken").write_text("")
    words = ["--slurm", "--config", "minimal", "--job.nodes", "3", "--out", "taken", "--machine.device", "cuda"]
    text = shown(words, capsys)
    not_ready = [line.removeprefix("not ready: ") for line in text.splitlines() if line.startswith("not ready: ")]
    beginnings = [
        f"{tmp_path}/taken is a file",
        "--job.gpus-per-node: expected GPUs",
        "--train.noise-shards",
        "--slurm: expected",
    ]
    assert all(line.startswith(start) for line, start in zip(not_ready, beginnings, strict=True)), not_ready
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"ict_ref.launch: {not_ready[0]} (and 3 more; --dry-run lists them)"
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_dry_run_of_a_run_here_lists_what_the_run_would_reject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = shown(["--config", "minimal", "--processes", "3", "--out", "run"], capsys)
    assert "not ready: --train.noise-shards: expected a multiple of 3 (3 processes with 1" in text
    text = shown(["--config", "cifar10", "--out", "run"], capsys)
    not_ready = [line for line in text.splitlines() if line.startswith("not ready: ")]
    assert [line.split(": ")[1] for line in not_ready] == ["--data.path", "--machine.device"]
    assert list(tmp_path.iterdir()) == []


def test_files_that_the_run_would_reject_are_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights to start from, and a denoiser to distil; a run with a checkpoint does not need the weights again"""
    monkeypatch.chdir(tmp_path)
    state = build_model(minimal(), event=(1, 8, 8), classes=10).network.state_dict()
    given = NetworkCheckpoint(options=minimal().network, channels=1, size=8, classes=10, state=state)
    export(given, Path("good"))
    export(dataclasses.replace(given, sigma_data=1.0), Path("other"))
    Path("junk").write_bytes(b"junk")
    ect = ["--config", "minimal", "--method.objective", "ect", "--out", "run"]
    expected = "--train.init: expected a network file or a checkpoint"
    for words, start in (
        ([*ect, "--train.init", "nowhere"], f"{expected}, got nowhere."),
        ([*ect, "--train.init", "."], f"{expected}, got ."),
        ([*ect, "--train.init", "junk"], f"{expected}. junk is damaged"),
        ([*ect, "--train.init", "other"], "--method.sigma-data: expected 1.0 as in the weights of other, got 0.5"),
        ([*ect, "--train.init", "good", "--network.width", "16"], "--train.init: expected the tensors of this run's"),
        (
            ["--config", "minimal", "--method.objective", "distillation", "--method.denoiser", "nowhere"],
            "--method.denoiser: expected a file, got nowhere",
        ),
    ):
        lines = [line for line in shown(words, capsys).splitlines() if line.startswith("not ready: ")]
        assert len(lines) == 1
        assert lines[0].startswith(f"not ready: {start}")
    assert shown([*ect, "--train.init", "good"], capsys).endswith("\nready\n")
    distillation = ["--config", "minimal", "--method.objective", "distillation", "--method.denoiser", "good"]
    assert shown(distillation, capsys).endswith("\nready\n")
    Path("run").mkdir()
    Path("run/checkpoint-00000010.safetensors").touch()
    assert "not ready: --train.init" not in shown([*ect, "--train.init", "nowhere"], capsys)
