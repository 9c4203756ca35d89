"""Collective operations of two real processes, and of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ict_ref.distributed.process_group import ProcessGroup, refuse_shared_gpus

# The second process is a copy of the first, so that torch is imported once.
PROGRAM = """
import dataclasses, json, os, sys
import torch
from ict_ref.config import Machine
from ict_ref.distributed.process_group import _gathered, joined

place = sys.argv[1]
rank = int(os.fork() == 0)
os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "ICT_REF_RENDEZVOUS": f"file://{place}/meet"}
with joined(Machine(device="cpu")) as group:
    mean = torch.tensor([1.0, 10.0]) * (1 + 2 * rank)
    first, second = torch.full((2,), 7 + rank), torch.tensor(0.5 - rank)
    group.share_([first, second])
    results = {
        "rank": group.rank, "size": group.size, "first": group.first, "device": str(group.device),
        "mean": group.mean_(mean).tolist(), "in place": mean.tolist(),
        "any": [group.any(False), group.any(rank == 1), group.any(True)],
        "least": [group.least(3 + rank), group.least(-rank)],
        "shared": [first.tolist(), second.item()],
        "gathered": _gathered((1 << 62) + rank, 2),
    }
    group.stop_if_requested()
    try:
        dataclasses.replace(group, stop=lambda: 12 if rank == 1 else None).stop_if_requested()
    except KeyboardInterrupt as stop:
        results["stopped by"] = int(stop.args[0])
results["left"] = not torch.distributed.is_initialized()
with open(f"{place}/{rank}.json", "w") as file:
    json.dump(results, file)
if rank == 1:
    os._exit(0)
os.wait()
"""


def test_two_processes_average_combine_and_share(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env={**os.environ})
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == {
            "rank": rank, "size": 2, "first": rank == 0, "device": "cpu",
            "mean": [2.0, 20.0], "in place": [2.0, 20.0],
            "any": [False, True, True],
            "least": [3, -1],
            "shared": [[7, 7], 0.5],
            "gathered": [1 << 62, (1 << 62) + 1],
            "stopped by": [15, 12][rank],
            "left": True,
        }  # fmt: skip


def test_one_process_combines_nothing() -> None:
    group = ProcessGroup()
    assert (group.rank, group.size, group.first, str(group.device)) == (0, 1, True, "cpu")
    assert (group.least(5), group.any(True), group.any(False)) == (5, True, False)
    assert not ProcessGroup(rank=1, size=2).first
    group.stop_if_requested()
    with pytest.raises(KeyboardInterrupt, match="10"):
        ProcessGroup(stop=lambda: 10).stop_if_requested()


@pytest.mark.parametrize(("size", "accumulate"), [(1, 8), (2, 4), (8, 1), (3, 1)])
def test_a_microbatch_has_at_least_one_noise_shard(size: int, accumulate: int) -> None:
    with pytest.raises(ValueError, match=rf"^--train\.noise-shards: expected a multiple of {size * accumulate} "):
        ProcessGroup(size=size).microbatches(4, accumulate)


def test_the_noise_shards_of_each_process_are_consecutive() -> None:
    assert [ProcessGroup(rank, 2).microbatches(12, 3) for rank in (0, 1)] == [
        [range(2), range(2, 4), range(4, 6)],
        [range(6, 8), range(8, 10), range(10, 12)],
    ]


def test_the_first_two_processes_on_one_gpu_are_named() -> None:
    with pytest.raises(ValueError, match="for processes 0 and 1"):
        refuse_shared_gpus([4, 4, 4], "--machine.device")
