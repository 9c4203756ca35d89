"""SLURM jobs as far as they can be described without a SLURM; tests/slurm_cluster has the rest."""

from pathlib import Path

import pytest

from ict_ref.launch.__main__ import main
from ict_ref.launch.options import parse
from ict_ref.slurm.options import Job, load_profile

SLURM = ["--slurm", "--config", "minimal"]


def profile(place: Path, text: str) -> str:
    """Return the file of a profile."""
    path = place / "profile.toml"
    path.write_text(text)
    return str(path)


def test_a_job_has_a_process_for_each_gpu() -> None:
    assert [job.processes for job in (Job(), Job(nodes=3), Job(nodes=2, gpus_per_node=8))] == [1, 3, 16]
    assert Job(nodes=2, gpus_per_node=8, processes_per_node=4).processes == 8


def test_options_go_before_a_profile_and_a_profile_before_the_defaults(tmp_path: Path) -> None:
    path = profile(tmp_path, 'nodes = 4\npartition = "gpu"\nsetup = ["module load cuda", "ulimit -n 4096"]\n')
    job = parse([*SLURM, "--profile", path, "--job.nodes", "2"]).job
    assert job == Job(nodes=2, partition="gpu", setup=("module load cuda", "ulimit -n 4096"))


@pytest.mark.parametrize("name", ["a100", "cpu"])
def test_the_profiles_that_come_with_it_are_good(name: str, tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "slurm" / f"{name}.toml"
    assert load_profile(path).processes == {"a100": 8, "cpu": 1}[name]


def test_the_sbatch_file_has_all_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = [
        "--job.nodes", "2", "--job.gpus-per-node", "2", "--job.gpu-type", "a100", "--job.cpus-per-process", "6",
        "--job.memory-gb", "100", "--job.minutes", "90", "--job.signal-seconds", "200", "--job.partition", "gpu",
        "--job.account", "mine", "--job.qos", "long", "--job.constraint", "nvlink", "--job.setup", "module load cuda",
        "ulimit -n 4096", "--job.sbatch", "reservation=maintenance", "exclusive", "--dry-run",
    ]  # fmt: skip
    assert main([*SLURM, *options]) == 0
    shown = capsys.readouterr().out
    lines = [line.removeprefix("#SBATCH --") for line in shown.splitlines() if line.startswith("#SBATCH")]
    folder = parse(SLURM).folder()
    assert set(lines) >= {
        "nodes=2", "ntasks-per-node=2", "gpus-per-node=a100:2", "cpus-per-task=6", "mem=100GB", "time=90",
        "signal=USR2@200", "partition=gpu", "account=mine", "qos=long", "constraint=nvlink", "requeue", "exclusive",
        "reservation=maintenance", "open-mode=append", f"job-name={folder.name}",
        f"output={tmp_path / folder}/slurm/%j/%j_0_log.out",
    }  # fmt: skip
    assert "set -e\nmodule load cuda\nulimit -n 4096\n" in shown
    assert "--kill-on-bad-exit=1 --cpus-per-task=6" in shown
    assert '"batch_size": 16' in shown
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_without_slurm_prints_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--config", "minimal", "--dry-run", "--train.seed", "7"]) == 0
    assert '"seed": 7' in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_the_presets_are_listed_with_what_the_paper_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "preset"
    (row,) = [line.split() for line in lines if line.startswith("imagenet64_deep ")]
    assert row == ["imagenet64_deep", "imagenet64", "4,096", "800,000", "472,767,555", "3.25,", "2.77"]
    (row,) = [line.split() for line in lines if line.startswith("digits ")]
    assert row == ["digits", "digits", "64", "1,600", "192,369"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nodes = ", "--profile: expected a TOML file, got profile.toml"),
        ("node = 2", "profile.toml has an unknown field node; perhaps you meant nodes"),
        ("zebra = 2", "profile.toml has an unknown field zebra; known fields: nodes, processes_per_node"),
        ('nodes = "two"', "profile.toml: nodes: expected an integer, got 'two'"),
        ("nodes = true", "profile.toml: nodes: expected an integer, got True"),
        ("partition = 3", "profile.toml: partition: expected a string, got 3"),
        ('setup = "module load"', "profile.toml: setup: expected a list of strings, got 'module load'"),
        ("nodes = 0", "--job.nodes: expected an integer >= 1, got 0"),
        ('gpu_type = "a100"', "--job.gpu-type: expected a value only with --job.gpus-per-node, got a100"),
        ("minutes = 2", "--job.signal-seconds: expected fewer than the 120 seconds of --job.minutes, got 120"),
        ('sbatch = ["--"]', "--job.sbatch: expected options such as name=value, got --"),
    ],
)
def test_a_profile_that_is_wrong_is_one_line(
    text: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    profile(tmp_path, text)
    assert main([*SLURM, "--profile", "profile.toml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--profile", "nowhere.toml", "--slurm"], "cannot use nowhere.toml: No such file or directory"),
        (["--slurm", "--processes", "2"], "--processes: expected 0 with --slurm, got 2. Use --job.nodes"),
        (["--wait"], "--wait: expected --slurm too, got --wait alone. Add --slurm."),
        (["--job.nodes", "2"], "--job.*: expected --slurm too, got --job.* alone. Add --slurm."),
        (["--slurm", "--job.node", "2"], "unknown option --job.node; perhaps you meant --job.nodes"),
        (["--slurm", "--job.nodes", "3"], "--train.noise-shards: expected a multiple of 3 (3 processes with 1 micro"),
        (["--slurm", "--method.rho", "-1"], "--method.rho: expected 0 < rho < infinity"),
        (["--slurm", "--data.name", "folder", "--data.path", "nowhere"], "got nowhere, which does not exist"),
        (["--slurm"], "--slurm: expected sbatch and srun on this machine, got no sbatch or srun. Submit on"),
    ],
)
def test_a_rejected_submission_is_one_line(
    options: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    assert main(["--config", "minimal", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert list(tmp_path.iterdir()) == []
