"""Cluster files: where they are found, and what they change."""

from pathlib import Path

import pytest
from tests.support.datasets import prepared, random_images

from ict_ref.config import Machine, Record
from ict_ref.launch.__main__ import main
from ict_ref.launch.options import parse
from ict_ref.slurm.cluster_file import SHIPPED, folder, found, names
from ict_ref.slurm.options import Job

GROUPS = """\
[data]
imagenet64 = "im64"
[job]
partition = "gpu"
minutes = 600
setup = ["module load cuda"]
[machine]
compile = true
recompute = true
[record]
tensorboard = true
[train]
autocast = "bfloat16"
"""


def written(path: Path, text: str = GROUPS) -> Path:
    """Return a new file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_command_line_goes_before_the_file_and_the_file_before_the_preset(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.toml")
    words = ["--slurm", "--config", "imagenet64", "--profile", str(path), "--dry-run"]
    plain = parse(words)
    assert plain.job == Job(
        nodes=4, gpus_per_node=8, cpus_per_process=8, minutes=600, signal_seconds=300, partition="gpu",
        setup=("module load cuda",),
    )  # fmt: skip
    assert plain.config.machine == Machine(compile=True, recompute=True)
    assert plain.config.record == Record(tensorboard=True, milestone_stages=True)
    assert (plain.config.train.precision, plain.config.train.batch_size) == ("bfloat16", 4096)
    assert plain.config.data.path == str(tmp_path / "im64")
    typed = ["--job.nodes", "2", "--machine.no-compile", "--train.autocast", "none", "--machine.recompute", "auto"]
    changed = parse([*words, *typed, "--data.path", "there", "--job.setup"])
    assert (changed.job.nodes, changed.job.minutes, changed.job.setup) == (2, 600, ())
    assert changed.config.machine == Machine(compile=False)
    assert (changed.config.train.precision, changed.config.data.path) == ("float32", "there")


def test_the_file_applies_to_runs_without_slurm_except_its_job(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.toml", "[job]\nnodes = 3\n[machine]\nthreads = 2\n")
    launch = parse(["--config", "minimal", "--profile", str(path)])
    assert launch.config.machine.threads == 2
    assert not launch.slurm


def test_a_value_of_the_file_that_only_fits_with_a_typed_one_is_allowed(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.toml", "[job]\nminutes = 4\n")
    words = ["--slurm", "--config", "imagenet64", "--dry-run", "--profile", str(path)]
    with pytest.raises(ValueError, match=r"got 300 \(\[job\] minutes = 4 in "):
        parse(words)
    assert parse([*words, "--job.signal-seconds", "60"]).job.minutes == 4
    assert parse([*words, "--job.minutes", "600"]).job.minutes == 600
    path.write_text("[machine]\nthreads = -1\n")
    assert parse([*words, "--machine.threads", "2"]).config.machine.threads == 2


def test_it_is_found_by_option_then_variable_then_in_the_users_folder(
    tmp_path: Path, config_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert found(None) is None
    users = written(tmp_path / "config" / "ict_ref" / "cluster.toml")
    assert found(None) == users
    by_variable = written(tmp_path / "variable.toml")
    monkeypatch.setenv("ICT_REF_PROFILE", str(by_variable))
    assert found(None) == by_variable
    by_option = written(tmp_path / "option.toml")
    assert found(str(by_option)) == by_option
    assert found("none") is None
    monkeypatch.setenv("ICT_REF_PROFILE", "none")
    assert found(None) is None
    monkeypatch.setenv("ICT_REF_PROFILE", "nowhere")
    with pytest.raises(ValueError, match=r"^\$ICT_REF_PROFILE: expected a TOML file or one of a100, cluster, cpu, got"):
        found(None)
    monkeypatch.setenv("ICT_REF_PROFILE", "")
    assert found(None) == users


def test_a_name_is_that_of_a_file_of_the_user_or_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "a100")  # a path is written as a path: ./a100
    assert found("a100") == SHIPPED / "a100.toml"
    assert found("./a100") == Path("a100")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    mine = written(tmp_path / "config" / "ict_ref" / "a100.toml")
    assert found("a100") == mine
    written(tmp_path / "config" / "ict_ref" / "jupiter.toml")
    assert names() == ["a100", "cpu", "jupiter"]


def test_the_files_of_the_package_are_good() -> None:
    a100, cpu = (parse(["--slurm", "--config", "digits", "--profile", name]).job for name in ("a100", "cpu"))
    assert (a100.processes, a100.gpu_type, a100.gpu_memory_gb) == (8, "a100", 80)
    assert (cpu.processes, cpu.minutes) == (1, 60)


def test_the_folder_of_data_is_that_of_the_file_else_that_of_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folder(*words: str, preset: str = "imagenet64") -> str:
        return parse(["--config", preset, "--dry-run", *words]).config.data.path

    assert folder() == ""
    monkeypatch.setenv("ICT_REF_DATA", str(tmp_path / "data"))
    with pytest.raises(ValueError, match=r"^\$ICT_REF_DATA: expected a folder of prepared data sets, got "):
        folder()
    (tmp_path / "data" / "imagenet64").mkdir(parents=True)
    assert folder() == str(tmp_path / "data" / "imagenet64")
    assert folder(preset="imagenet64_ct") == str(tmp_path / "data" / "imagenet64")
    assert folder(preset="cifar10") == ""
    assert folder(preset="digits") == ""
    monkeypatch.setenv("ROOT", "/datasets")
    for text, expected in (('"im64"', str(tmp_path / "im64")), ('"$ROOT/im64"', "/datasets/im64")):
        path = written(tmp_path / "mine.toml", f"[data]\nimagenet64 = {text}\n")
        assert folder("--profile", str(path)) == expected
    path = written(tmp_path / "mine.toml", '[data]\ncifar10 = "~/cifar10"\n')
    assert folder("--profile", str(path), preset="cifar10") == str(Path.home() / "cifar10")
    assert folder("--profile", str(path), "--data.name", "cifar10", preset="digits") == str(Path.home() / "cifar10")
    assert folder("--profile", str(path), "--data.path", "x", preset="cifar10") == "x"


def test_a_run_without_slurm_finds_its_data_by_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepared(tmp_path / "ours", random_images(40, 1, 8, 8), [k % 10 for k in range(40)])
    written(tmp_path / "mine.toml", '[data]\nfolder = "ours"\n')
    command = ["--config", "minimal", "--data.name", "folder", "--train.steps", "8", "--profile", "mine.toml"]
    assert main(command) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "checkpoint-00000008.safetensors").exists()


def test_a_job_on_cpus_takes_neither_the_presets_gpus_nor_those_of_the_file() -> None:
    words = ["--slurm", "--config", "imagenet64", "--machine.device", "cpu", "--dry-run", "--profile", "a100"]
    job = parse(words).job
    assert (job.nodes, job.gpus_per_node, job.processes, job.minutes) == (1, 0, 1, 1440)
    assert parse([*words, "--job.gpus-per-node", "2"]).job.processes == 2


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("", "mine.toml: [data] imagenet64: expected a folder, got an empty string"),
        ("$NOT_SET/im64", "[data] imagenet64: expected variables that are set, got $NOT_SET in $NOT_SET/im64"),
        ("${NOT_SET}/im64", "expected variables that are set, got ${NOT_SET} in"),
        ("~nobody-of-this-name/im64", "expected ~ or ~ with a user of this machine, got ~nobody-of-this-name/im64"),
    ],
)
def test_a_folder_that_cannot_be_expanded_is_one_line(
    path: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "mine.toml", f'[data]\nimagenet64 = "{path}"\n')
    assert main(["--config", "imagenet64", "--dry-run", "--profile", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


def test_messages_about_data_name_the_file_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path / "mine.toml", '[data]\nimagenet64 = "nowhere"\n')
    for words, says in (
        (
            ["imagenet64"],
            f"got {tmp_path}/nowhere, which does not exist. Run python -m ict_ref.prepare. (named by {file})",
        ),
        (["cifar10"], f'write cifar10 = "FOLDER" below [data] in {file}, or keep it as $ICT_REF_DATA/cifar10.'),
    ):
        assert main(["--config", *words, "--profile", str(file)]) == 2
        assert capsys.readouterr().err.endswith(f"{says}\n")


def test_a_file_of_the_package_is_copied_before_it_is_changed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "cifar10", "--profile", "a100"]) == 2
    mine = f"{folder()}/a100.toml, a copy of {SHIPPED}/a100.toml"
    assert f'write cifar10 = "FOLDER" below [data] in {mine}, or keep it' in capsys.readouterr().err


def test_a_file_may_begin_with_a_byte_order_mark_and_have_other_line_ends(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbf[job]\r\nnodes = 3\r\n")
    assert parse(["--slurm", "--config", "digits", "--profile", str(tmp_path / "mine.toml")]).job.nodes == 3
