"""The memory of the host, as /proc and control groups state it."""

from pathlib import Path

import pytest

from ict_ref.utils.available_memory import available_bytes


def write(root: Path, **texts: str) -> None:
    """Write files below the root, by their paths with __ for /."""
    for name, text in texts.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the root of a host with 8000 kB available."""
    write(tmp_path, proc__meminfo="MemTotal:       16000 kB\nMemAvailable:    8000 kB\n")
    return tmp_path


def group(root: Path, path: str, names: tuple[str, str], limit: str, used: int) -> None:
    """Write the limit and the usage of a control group."""
    folder = root / "sys" / "fs" / "cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, str(used)), strict=True):
        (folder / name).write_text(f"{value}\n")


def test_without_a_limit_it_is_that_of_the_host(root: Path) -> None:
    assert available_bytes(root) == 8000 * 1024
    write(root, proc__self__cgroup="0::/user.slice\n")
    group(root, "user.slice", ("memory.max", "memory.current"), "max", 7)
    assert available_bytes(root) == 8000 * 1024


@pytest.mark.parametrize("limited", ["", "job_1", "job_1/step_0"])
def test_each_control_group_above_the_process_limits_it(root: Path, limited: str) -> None:
    write(root, proc__self__cgroup="0::/job_1/step_0\n")
    group(root, limited, ("memory.max", "memory.current"), "5000", 1000)
    assert available_bytes(root) == 4000


def test_version_1_of_control_groups_is_read_and_a_full_one_leaves_nothing(root: Path) -> None:
    write(root, proc__self__cgroup="3:cpu,cpuacct:/x\n2:memory:/job_1\n")
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    group(root, "memory", names, "9000", 1000)
    assert available_bytes(root) == 8000
    group(root, "memory/job_1", names, "3500", 4000)
    assert available_bytes(root) == 0


def test_without_proc_it_is_the_whole_memory(tmp_path: Path) -> None:
    assert available_bytes(tmp_path) > 1e8
