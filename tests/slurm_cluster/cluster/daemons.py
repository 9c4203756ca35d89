"""A cluster: start its daemons, lose one of its nodes, and stop it so that nothing is left."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Self

from tests.slurm_cluster.cluster.clients import Clients, Record
from tests.slurm_cluster.cluster.conf import (
    Accounting,
    Plan,
    best_accounting,
    first_sql,
    held_ports,
    program,
    refuse_bad_folder,
    write,
)
from tests.slurm_cluster.cluster.processes import MARK, STARTED, birth, end, mark, of_cluster, send

PATIENCE = 120.0  # seconds in which a cluster starts on a busy machine; it takes 0.3 to 5
GONE = 20  # looks, one after the other, at which a daemon is not there, until it has ended


class Cluster(Clients):
    """A SLURM whose files are all in one folder, whose nodes are addresses of this machine, and whose user you are.

    Any object with the same folder is the same cluster: `Cluster(base).stop()` stops what another process started.
    """

    def start(
        self,
        nodes: int = 3,
        cpus: int = 4,
        memory_mb: int = 8000,
        gpus: int = 8,
        accounting: Accounting | None = None,
        extra: str = "",
        owner: int | None = None,
    ) -> Self:
        """Start the daemons and return when all nodes are idle; if that fails, nothing but the logs is left.

        The folder must be empty, not there, or that of a cluster that has stopped. `accounting` is dbd where that is
        installed, else squeue. `extra` are more lines of slurm.conf. `owner` is the number of a process without which
        the cluster has no purpose; see `scratch.sweep`.
        """
        plan = Plan(nodes, cpus, memory_mb, gpus, accounting or best_accounting(), extra)
        refuse_bad_folder(self.base)
        self._claim()
        with held_ports(plan.listeners) as ports:
            try:
                self._write_record(plan, owner)
                write(self.base, plan, ports)
                self._start_daemons(plan, ports)
            except BaseException:
                self.stop()
                raise
        return self

    def _claim(self) -> None:
        """Refuse a folder in which something runs, or that has files of others; empty it otherwise."""
        if self.recorded:
            if of_cluster(self.base):
                raise ValueError(f"a cluster is recorded in {self.base} and runs; stop it first")
            shutil.rmtree(self.base)
        elif self.base.exists() and any(self.base.iterdir()):
            raise ValueError(f"{self.base} has files of something else; name a new folder")
        self.base.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _write_record(self, plan: Plan, owner: int | None) -> None:
        """Write what another process has to know, in one go."""
        who = None if owner is None else (owner, birth(owner))
        record: Record = {"nodes": plan.names, "accounting": plan.accounting, "owner": who}
        new = self.base / "cluster.json.new"
        new.write_text(json.dumps(record, indent=1) + "\n")
        new.replace(self.record)

    def _start_daemons(self, plan: Plan, ports: dict[str, int]) -> None:
        munge, deadline = self.base / "munge", time.monotonic() + PATIENCE
        self._spawn(
            "munged",
            "--foreground",
            "--force",  # else it refuses a socket in a folder that only its user can enter
            f"--socket={munge}/munge.socket",
            f"--key-file={munge}/munge.key",
            f"--pid-file={munge}/munged.pid",
            f"--log-file={self.log}/munged.log",
            f"--seed-file={munge}/munged.seed",
        )
        self._wait("munged", (munge / "munge.socket").exists, deadline)
        if plan.accounting == "dbd":
            self._start_accounting(ports, deadline)
        self._spawn("slurmctld", "-D", "-c", "-f", str(self.conf))
        self._wait("slurmctld", lambda: self.ask("scontrol", "ping").returncode == 0, deadline)
        for name in plan.names:
            self._spawn_node(name)
        for name in plan.names:
            self._wait_for_node(name, deadline)

    def _start_accounting(self, ports: dict[str, int], deadline: float) -> None:
        """Start MariaDB and slurmdbd, and register the cluster before it reports to them."""
        options = [
            "--no-defaults",
            f"--datadir={self.base}/db",
            f"--tmpdir={self.base}/db-tmp",  # a MariaDB that starts removes what others have there
            f"--log-error={self.log}/mariadbd.log",
            "--innodb-buffer-pool-size=64M",
            "--innodb-log-file-size=16M",
            "--innodb-flush-log-at-trx-commit=0",  # nothing here has to outlive the machine
            "--innodb-lock-wait-timeout=900",  # slurmdbd asks for it
            *(["--user=root"] if os.getuid() == 0 else []),
        ]
        command = [program("mariadbd"), *options, "--bootstrap"]
        made = subprocess.run(command, input=first_sql(), capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise RuntimeError(f"mariadbd made no database; its last words: {_last_line(made.stderr)}; {self._logs}")
        self._spawn(
            "mariadbd",
            *options,
            f"--port={ports['mariadbd']}",
            "--bind-address=127.0.0.1",
            f"--socket={self.base}/db.sock",
            f"--pid-file={self.base}/mariadbd.pid",
        )
        self._wait("mariadbd", lambda: _listens(ports["mariadbd"]), deadline)
        self._spawn("slurmdbd", "-D")
        self._wait("slurmdbd", lambda: _listens(ports["slurmdbd"]), deadline)

        def known() -> bool:
            added = self.ask("sacctmgr", "-i", "add", "cluster", "ict")
            return added.returncode == 0 or "already exists" in added.stdout

        self._wait("slurmdbd", known, deadline)

    def _spawn_node(self, name: str) -> None:
        self._spawn(f"slurmd.{name}", "-D", "-N", name, "-f", str(self.conf))

    def _wait_for_node(self, name: str, deadline: float) -> None:
        """Wait until the node takes jobs."""
        self._wait(f"slurmd.{name}", lambda: self.node_states().get(name) in ("idle", "mixed", "allocated"), deadline)

    def _spawn(self, name: str, *options: str) -> None:
        """Start a daemon that neither a closed terminal nor the end of this process ends."""
        environment = {**self.environment(), MARK: mark(self.base, name)}
        with (self.log / f"{name}.out").open("ab") as out:
            process = subprocess.Popen(
                [program(name.partition(".")[0]), *options],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment,
                cwd=self.base,
                start_new_session=True,
            )
        STARTED[process.pid] = process

    @property
    def _logs(self) -> str:
        return f"logs are in {self.log}"

    def _wait(self, daemon: str, ready: Callable[[], bool], deadline: float) -> None:
        """Wait for the daemon, or say its last words."""
        looks = 0
        while not ready():
            here = daemon in self.daemons()
            # While a program is being loaded, its process has no environment yet to be known by.
            looks = 0 if here else looks + 1
            if looks == GONE or time.monotonic() > deadline:
                words = _last_line((self.log / f"{daemon}.out").read_text(errors="replace"))
                what = "is not ready in time" if here else "has ended"
                raise RuntimeError(f"{daemon} {what}; its last words: {words}; {self._logs}")
            time.sleep(0.05)

    def crash_node(self, name: str) -> None:
        """Lose a node as if its power had failed: slurmd, steps and tasks are gone at once, without a word.

        All are stopped before any is killed. Else srun would hear of dead tasks and end the job as failed before
        slurmctld hears of the node. It hears of it here and now: by itself it would wait for `SlurmdTimeout`.
        """
        self._refuse_unknown(name)
        frozen: set[int] = set()
        while new := of_cluster(self.base, name) - frozen:
            for pid in new:
                send(pid, signal.SIGSTOP)
            frozen |= new
        self.ask("scontrol", "update", f"nodename={name}", "state=down", "reason=crash")
        end(lambda: of_cluster(self.base, name))

    def start_node(self, name: str) -> None:
        """Start a node again if it is lost, and return when it takes jobs."""
        self._refuse_unknown(name)
        if f"slurmd.{name}" not in self.daemons():
            self._spawn_node(name)
        self._wait_for_node(name, time.monotonic() + PATIENCE)

    def _refuse_unknown(self, name: str) -> None:
        if name not in self.nodes:
            raise ValueError(f"expected one of the nodes {', '.join(self.nodes)}, got {name}")

    def stop(self, remove: bool = False) -> list[int]:
        """Kill the daemons and all jobs, and return the processes that are still there: none, if all is well.

        Nothing is asked to end: no state here is worth saving. The logs stay, unless the folder is to be removed.
        """
        if not self.recorded:
            return []
        left = end(lambda: of_cluster(self.base))
        if not left and remove:
            shutil.rmtree(self.base)
        elif not left and (self.base / "db").exists():
            shutil.rmtree(self.base / "db")  # a hundred megabytes that nobody reads
        return left


def _last_line(text: str) -> str:
    """Return the last line that is not empty."""
    return next((line for line in reversed(text.split("\n")) if line.strip()), "none")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
