"""Checks of a submission by the plan: memory and times on the GPUs of the job."""

import pytest

from ict_ref.launch.__main__ import main
from ict_ref.launch.job_plan import gpu_of_job, memory_line, predicted, too_short
from ict_ref.launch.options import parse
from ict_ref.plan.memory import memory
from ict_ref.slurm.options import Job

pytestmark = pytest.mark.usefixtures("unchecked")
LINE = ["--slurm", "--config", "imagenet64", "--profile", "a100", "--dry-run"]
SMALL = ["--slurm", "--config", "digits", "--profile", "a100", "--job.gpus-per-node", "2", "--dry-run"]


def lines(*words: str) -> list[str]:
    """Return the lines of a job whose times are too short."""
    return list(too_short(parse([*LINE, *words])))


def test_the_gpu_is_that_of_the_type_and_its_memory_that_which_is_stated() -> None:
    gpu, size = gpu_of_job(Job(gpus_per_node=8, gpu_type="a100", gpu_memory_gb=80))
    assert gpu is not None
    assert (gpu.bfloat16, size) == (312e12, 80 * 2**30)
    assert gpu_of_job(Job(gpus_per_node=8, gpu_type="a100"))[1] == 40 * 2**30
    assert gpu_of_job(Job(gpus_per_node=8, gpu_type="mystery")) == (None, 0)
    assert gpu_of_job(Job(gpu_type="a100", gpu_memory_gb=80)) == (None, 0)


@pytest.mark.slow
def test_the_presets_jobs_suit_a100s_of_80_and_of_40_gb() -> None:
    for preset in ("cifar10", "cifar10_deep", "imagenet64", "imagenet64_deep"):
        for size in (80, 40):
            launch = parse([*LINE, "--config", preset, "--job.gpu-memory-gb", str(size)])
            found = predicted(launch)
            assert found is not None
            fit, bytes_free = found
            batch, processes = launch.config.train.batch_size, launch.job.processes
            assert fit.images * fit.accumulate * processes == batch
            assert fit.memory == memory(
                launch.config, accumulate=fit.accumulate, recompute=fit.recompute, processes=processes
            )
            assert fit.memory.total <= 0.9 * bytes_free == 0.9 * size * 2**30
            assert list(too_short(launch)) == []


def test_given_numbers_are_checked_not_changed() -> None:
    wide = ["--network.width", "3072", "--job.gpu-memory-gb", "40", "--machine.accumulate", "1"]
    launch = parse([*SMALL, *wide, "--machine.no-recompute"])
    with pytest.raises(ValueError, match=r"^--machine.accumulate: expected an update of at most 36.0 GiB .* got \d+"):
        predicted(launch)


def test_times_are_those_of_a_slow_step_and_a_slow_file_system() -> None:
    # 883 GFLOP an image, 128 images a GPU, at a fifth of the peak: about 1.8 s in bfloat16.
    # A checkpoint has the student, its EMA and two moments: 16 bytes for each of 282 M parameters, 23 s at 0.2 GB/s.
    bfloat16 = ["--train.precision", "bfloat16"]
    assert lines(*bfloat16, "--job.signal-seconds", "85") == []
    (line,) = lines(*bfloat16, "--job.signal-seconds", "80")
    assert line == (
        "--job.signal-seconds: expected at least 85, for a step of up to 2 s and a checkpoint of up to 23 s after a "
        "signal that may be 60 s early, got 80"
    )
    (line,) = lines(*bfloat16, "--job.minutes", "2", "--job.signal-seconds", "100")
    assert line.startswith("--job.minutes: expected more than --job.signal-seconds with a step of up to 2 s and a ")


def test_an_unknown_gpu_is_not_planned_for() -> None:
    launch = parse([*LINE, "--job.gpu-type", "mystery", "--job.gpu-memory-gb", "0", "--job.signal-seconds", "1"])
    assert predicted(launch) is None
    assert list(too_short(launch)) == []
    assert memory_line(launch).startswith("memory: chosen when the run begins; give --job.gpu-type")


def test_what_cannot_fit_is_listed_with_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--network.width", "8192"]) == 0
    text = capsys.readouterr().out
    assert "\nmemory:" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("not ready: --machine.accumulate")]
    assert "expected an update of at most 72.0 GiB" in line
    assert "Use more GPUs (for a job --job.nodes)" in line


def test_what_fits_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SMALL) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("memory:")]
    assert line.startswith("memory: 1 microbatch of 32 images per process and update, activations kept: about 0.0")
    assert line.endswith(" of 80 GiB (--job.gpu-memory-gb)")
