"""SLURM jobs as far as they can be described without a SLURM; tests/slurm_cluster has the rest."""

from pathlib import Path

import pytest

from ict_ref.launch.__main__ import main
from ict_ref.launch.options import parse
from ict_ref.slurm.options import Job

SLURM = ["--slurm", "--config", "minimal"]


def profile(place: Path, text: str) -> str:
    """Return the file of a profile."""
    path = place / "profile.toml"
    path.write_text(text)
    return str(path)


def test_a_job_has_a_process_for_each_gpu() -> None:
    assert [job.processes for job in (Job(), Job(nodes=3), Job(nodes=2, gpus_per_node=8))] == [1, 3, 16]
    assert Job(nodes=2, gpus_per_node=8, processes_per_node=4).processes == 8


def test_options_go_before_a_profile_without_groups_and_a_profile_before_the_defaults(tmp_path: Path) -> None:
    path = profile(tmp_path, 'nodes = 4\npartition = "gpu"\nsetup = ["module load cuda", "ulimit -n 4096"]\n')
    job = parse([*SLURM, "--profile", path, "--job.nodes", "2"]).job
    assert job == Job(nodes=2, partition="gpu", setup=("module load cuda", "ulimit -n 4096"))


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
    assert "export PYTHONSAFEPATH=1\nset -e\nmodule load cuda\nulimit -n 4096\n" in shown
    assert "--kill-on-bad-exit=1 --cpus-per-task=6" in shown
    assert '"batch_size": 16' in shown
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_without_slurm_prints_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--config", "minimal", "--dry-run", "--train.seed", "7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert '    "seed": 7,' in lines
    assert [line.split() for line in lines[-4:-1]] == [
        ["option", "value", "from"],
        ["--train.seed", "7", "the", "command", "line"],
        [],
    ]
    assert lines[-1] == "ready"
    assert list(tmp_path.iterdir()) == []


def test_the_presets_are_listed_with_what_the_paper_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "preset"
    (row,) = [line.split() for line in lines if line.startswith("imagenet64_deep ")]
    assert row == [
        "imagenet64_deep",
        "imagenet64",
        "4,096",
        "800,000",
        "472,767,555",
        "8",
        "x",
        "8",
        "no",
        "3.25;",
        "2.77",
    ]
    (row,) = [line.split() for line in lines if line.startswith("digits ")]
    assert row == ["digits", "digits", "64", "1,600", "192,369", "none", "yes"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nodes = ", "profile.toml: expected a TOML file, got one with an error: Invalid value"),
        ("node = 2", "profile.toml: unknown option node in [job]; perhaps you meant nodes"),
        ("zebra = 2", "profile.toml: unknown option zebra in [job]; known options: nodes, processes_per_node"),
        ("[jobs]\nnodes = 2", "profile.toml: unknown group [jobs]; perhaps you meant job"),
        ("[zebra]\nnodes = 2", "profile.toml: unknown group [zebra]; known groups: job, data, machine, record, train"),
        ("[machine]\nnodes = 2", "profile.toml: unknown option nodes in [machine]; it belongs to [job]"),
        ("[train]\nsteps = 2", "unknown option steps in [train]; known options: precision, skip_nonfinite"),
        ('[data]\ncifar = "x"', "unknown option cifar in [data]; perhaps you meant cifar10"),
        ("[data]\ncifar10 = 3", "profile.toml: [data] cifar10: expected a string, got 3"),
        ('[machine]\naccumulate = "many"', "[machine] accumulate: expected an integer or one of auto, got many"),
        ('nodes = "two"', "profile.toml: [job] nodes: expected an integer, got 'two'"),
        ("nodes = true", "profile.toml: [job] nodes: expected an integer, got True"),
        ("partition = 3", "profile.toml: [job] partition: expected a string, got 3"),
        ('setup = "module load"', "profile.toml: [job] setup: expected a list, got 'module load'"),
        ("setup = [3]", "profile.toml: [job] setup[0]: expected a string, got 3"),
        ("nodes = 0", "--job.nodes: expected an integer >= 1, got 0 ([job] nodes = 0 in profile.toml)"),
        ("[machine]\nthreads = -1", "got -1 ([machine] threads = -1 in profile.toml)"),
        ("minutes = 2", "--job.minutes, got 120 ([job] minutes = 2 in profile.toml)"),
        ('sbatch = ["--"]', "--job.sbatch: expected options such as name=value, got '--'"),
        ('sbatch = [""]', "--job.sbatch: expected options such as name=value, got ''"),
        ('sbatch = ["nodes=2"]', "expected options that the launcher does not set, got nodes. Use --job.nodes."),
        ('sbatch = ["--parsable"]', "expected options that the launcher does not set, got parsable. The launcher"),
        ('sbatch = ["cpus_per_task=2"]', "got cpus-per-task. Use --job.cpus-per-process."),
        ('sbatch = ["t=1"]', "got t. Use --job.minutes."),
        ('partition = "a\\nb"', "--job.partition: expected printable characters other than %, got 'a\\nb'"),
        ("job = 2", "profile.toml: expected a table [job], got job = 2"),
        ("[[machine]]\nthreads = 1", "profile.toml: expected a table [machine], got machine = [{'threads': 1}]"),
        ('[machine]\nrecompute = "maybe"', "recompute: expected true or false or one of auto, got maybe"),
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
        (["--profile", "./nowhere.toml"], "or one of a100, cpu, got ./nowhere.toml, which does not exist"),
        (["--profile", "/"], "--profile: expected a TOML file or one of a100, cpu, got /, which is not a file"),
        (["--profile", ""], "--profile: expected a TOML file or one of a100, cpu, got an empty string"),
        (["--slurm", "--profile", "cpu", "--job.minutes", "0"], "--job.minutes: expected an integer >= 1, got 0\n"),
        (["--slurm", "--out", "a%j"], "a%j"),
        (["--slurm", "--out", "a\n#SBATCH --wrap=id"], r"a\n#SBATCH --wrap=id'. Choose"),
        (["--slurm", "--out", "a\x1b[2J"], r"a\x1b[2J'. Choose"),
        (["--slurm", "--out", "a\u202eb"], r"a\u202eb'. Choose"),
        (["--slurm", "--job.account", "a%u"], "--job.account: expected printable characters other than %, got 'a%u'"),
        (["--slurm", "--job.minutes", "1" + "0" * 20], "--job.minutes: expected an integer between 1 and 1000000"),
        (["--profile", "a10"], "--profile: expected a TOML file or one of a100, cpu, got a10; perhaps you meant a100"),
        (["--slurm", "--processes", "2"], "--processes: expected 0 with --slurm, got 2. Use --job.nodes"),
        (["--wait"], "--wait: expected --slurm too, got --wait alone. Add --slurm."),
        (["--job.nodes", "2"], "--job.nodes: expected --slurm too, got --job.nodes alone. Add --slurm."),
        (["--slurm", "--job.gpu-type", "a100"], "--job.gpu-type: expected GPUs, got a job without. Give --job.gpus"),
        (
            ["--slurm", "--machine.device", "cuda"],
            "--job.gpus-per-node: expected GPUs for the preset minimal",
        ),
        (["--slurm", "--job.node", "2"], "unknown option --job.node; perhaps you meant --job.nodes"),
        (["--slurm", "--job.nodes", "3"], "--train.noise-shards: expected a multiple of 3 (3 processes with 1 micro"),
        (["--slurm", "--method.rho", "-1"], "--method.rho: expected 0 < rho < infinity"),
        (["--slurm", "--data.name", "folder", "--data.path", "nowhere"], "got nowhere, which does not exist"),
        (["--machine.recompute", "--wait"], "--wait: expected --slurm too"),
        (
            ["--machine.recompute=maybe"],
            "--machine.recompute: expected one of auto, True, False, true, false",
        ),
        (["--machine.accumulate", "many"], "--machine.accumulate: expected an integer or auto, got many"),
        (["--slurm"], "--slurm: expected sbatch and srun on this machine, got no sbatch or srun. Submit on"),
    ],
)
def test_a_rejected_submission_is_one_line(
    options: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    assert main(["--config", "minimal", *options]) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert says in text
    assert list(tmp_path.iterdir()) == []
