"""Queries of a cluster: its record, its nodes and its jobs."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import TypedDict

from tests.slurm_cluster.cluster.conf import SYSTEM_PATH, Accounting, program
from tests.slurm_cluster.cluster.processes import birth, daemons, step_is_there


class Record(TypedDict):
    """The record of a cluster in its folder. The owner is a process: its number and its start time."""

    nodes: list[str]
    accounting: Accounting
    owner: tuple[int, int | None] | None


class Clients:
    """Queries of the cluster in a folder, from any process."""

    def __init__(self, base: Path) -> None:
        self.base = base.resolve()
        self.conf = self.base / "slurm.conf"
        self.log = self.base / "log"
        self.record = self.base / "cluster.json"

    @property
    def recorded(self) -> bool:
        """Whether a cluster was started in this folder; it may have stopped since."""
        return self.record.is_file()

    @property
    def nodes(self) -> list[str]:
        """The nodes' names."""
        return self._recorded()["nodes"]

    @property
    def accounting(self) -> Accounting:
        """The kind of accounting, which records finished jobs."""
        return self._recorded()["accounting"]

    @property
    def abandoned(self) -> bool:
        """Whether this is the cluster of a process that is gone."""
        owner = self._recorded()["owner"] if self.recorded else None
        return owner is not None and birth(owner[0]) != owner[1]

    def _recorded(self) -> Record:
        if not self.recorded:
            raise ValueError(f"no cluster is recorded in {self.base}")
        record: Record = json.loads(self.record.read_text())
        return record

    def env(self) -> dict[str, str]:
        """Return what a client needs in its environment: sbatch and srun, submitit, or a test's process."""
        variables = {"SLURM_CONF": str(self.conf)}
        if self.accounting == "squeue":
            variables["PATH"] = f"{self.base}/bin{os.pathsep}{os.environ['PATH']}"
        return variables

    def daemons(self) -> dict[str, int]:
        """Return the number of each daemon's process, by the daemon's name; those that are gone are missing."""
        return daemons(self.base)

    def expected_daemons(self) -> list[str]:
        """Return the names of the daemons that this cluster has when all are well."""
        accounting = ["mariadbd", "slurmdbd"] if self.accounting == "dbd" else []
        return ["munged", *accounting, "slurmctld", *(f"slurmd.{name}" for name in self.nodes)]

    def node_states(self) -> dict[str, str]:
        """Return each node's state as sinfo has it, for instance idle or down*; nothing if nobody answers."""
        answer = self.ask("sinfo", "-h", "-N", "-o", "%N %T")
        return dict(line.split() for line in answer.stdout.splitlines()) if answer.returncode == 0 else {}

    def job_state(self, job_id: int | str) -> tuple[str, str]:
        """Return the job's state and its reason, for instance ("PENDING", "BeginTime").

        Both are empty for a job that slurmctld does not know. It forgets one five minutes after its end, unless
        accounting is squeue.
        """
        answer = self.ask("squeue", "-h", "-t", "all", "-j", str(job_id), "-o", "%T|%r")
        if answer.returncode != 0 and "Invalid job id" not in answer.stdout:
            raise RuntimeError(f"squeue: {answer.stdout.strip()}")
        state, _, reason = answer.stdout.partition("\n")[0].partition("|")
        return (state, reason) if answer.returncode == 0 else ("", "")

    def start_now(self, job_id: int | str, patience: float = 60.0) -> None:
        """Start a requeued job, which SLURM lets wait for two minutes, once nothing of its last run is left.

        And not within the same second: a node counts in whole seconds, and refuses a job that was granted no later than
        the end of its last run was ordered. The job would fail at once ("Job credential revoked" in slurmctld's log).
        """
        until = time.monotonic() + patience
        while (state := self.job_state(job_id)) != ("PENDING", "BeginTime") or step_is_there(self.base, str(job_id)):
            if time.monotonic() > until:
                raise TimeoutError(f"job {job_id} was not requeued, or its last run has not ended; it is {state}")
            time.sleep(0.1)
        time.sleep(1.1 - time.time() % 1)
        answer = self.ask("scontrol", "update", f"jobid={job_id}", "starttime=now")
        if answer.returncode != 0:
            raise RuntimeError(f"scontrol: {answer.stdout.strip()}")

    def environment(self) -> dict[str, str]:
        """Return a clean environment: nothing of the caller's may change what daemons and questions mean."""
        home = os.environ.get("HOME", "/")
        return {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", "HOME": home, "SLURM_CONF": str(self.conf)}

    def ask(self, name: str, *options: str) -> "subprocess.CompletedProcess[str]":
        """Run one of SLURM's programs, and return what it said and its status."""
        return subprocess.run(
            [program(name), *options],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
