"""A real SLURM of several nodes on this machine, to try jobs on: `python tests/slurm_cluster start DIR`.

  eval "$(python tests/slurm_cluster start DIR)"    # start, and point this shell at it
  sinfo; srun -N2 --gpus-per-node=8 printenv CUDA_VISIBLE_DEVICES
  python -m ict_ref.launch --slurm --config minimal --profile cpu --job.nodes 2 --wait
  python tests/slurm_cluster stop DIR --remove

Controller, nodes and, if installed, accounting are SLURM's own daemons, run by you (root or not) with all files in DIR
and on free ports of the loopback device; no file of the system is touched, and several clusters can run at once. The
nodes are 127.0.0.2, 127.0.0.3 ...; CPUs, memory and GPUs are what they claim, not what is there: the GPUs are names
that jobs find in CUDA_VISIBLE_DEVICES. Only you can submit.

On Debian: apt-get install --no-install-recommends slurmctld slurmd slurm-client munge
and for accounting (sacct): slurmdbd slurm-wlm-mysql-plugin mariadb-server-core
"""

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this file is run from any folder
from tests.slurm_cluster.cluster import Accounting, Cluster

SCRIPT = "tests/slurm_cluster"


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status: 2 for bad input, 1 for a cluster that does not do what it should."""
    options = parser().parse_args(arguments)
    cluster = Cluster(options.folder)
    try:
        if options.action != "start" and not cluster.recorded:
            raise ValueError(f"no cluster is recorded in {cluster.base}")
        return int(options.run(cluster, options))
    except (ValueError, OSError) as error:
        return say(2, str(error))
    except (RuntimeError, subprocess.SubprocessError) as error:
        return say(1, str(error))


def start(cluster: Cluster, options: argparse.Namespace) -> int:
    """Start a cluster, print what a shell has to export, and say what to do next."""
    began = time.monotonic()
    extra = "\n".join(options.extra)
    cluster.start(options.nodes, options.cpus, options.memory_mb, options.gpus, options.accounting, extra)
    seconds = time.monotonic() - began
    me, base = f"python {shlex.quote(sys.argv[0])}", cluster.base
    print(
        f"{options.nodes} nodes, each {options.cpus} CPUs, {options.memory_mb} MB and {options.gpus} GPUs by name; "
        f"accounting {cluster.accounting}; up in {seconds:.1f} s\n"
        f'a shell uses it after   eval "$({me} env {base})"\n'
        f"stop it by              {me} stop {base} --remove",
        file=sys.stderr,
    )
    return environment(cluster, options)


def environment(cluster: Cluster, _: argparse.Namespace) -> int:
    """Print what a shell has to export."""
    for name, value in cluster.env().items():
        print(f"export {name}={shlex.quote(value)}" if name != "PATH" else f'export PATH={cluster.base}/bin:"$PATH"')
    return 0


def status(cluster: Cluster, _: argparse.Namespace) -> int:
    """Print the daemons and the nodes' states; the status is 1 unless all daemons run."""
    running = cluster.daemons()
    states = cluster.node_states() if "slurmctld" in running else {}
    for daemon in cluster.expected_daemons():
        where = f"process {running[daemon]}" if daemon in running else "not running"
        print(f"{daemon:<20} {where:<16} {states.get(daemon.removeprefix('slurmd.'), '')}".rstrip())
    return 0 if set(cluster.expected_daemons()) <= set(running) else 1


def stop(cluster: Cluster, options: argparse.Namespace) -> int:
    """Stop a cluster, and say what could not be stopped."""
    began, log = time.monotonic(), "" if options.remove else f"; its logs are in {cluster.log}"
    if left := cluster.stop(options.remove):
        raise RuntimeError(f"these processes are still there: {', '.join(map(str, left))}")
    print(f"down in {time.monotonic() - began:.1f} s{log}", file=sys.stderr)
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the command's options."""
    description = argparse.RawDescriptionHelpFormatter
    whole = argparse.ArgumentParser(prog=f"python {SCRIPT}", description=__doc__, formatter_class=description)
    actions = whole.add_subparsers(dest="action", required=True, metavar="start | status | env | stop")
    for run in (start, status, environment, stop):
        name = "env" if run is environment else run.__name__
        text = (run.__doc__ or "").rstrip(".")
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("folder", metavar="DIR", type=Path, help="the cluster's folder; its path has to be short")
        action.set_defaults(run=run)
    begin, halt = actions.choices["start"], actions.choices["stop"]
    begin.add_argument("--nodes", type=int, default=3, help="how many nodes (default: %(default)s)")
    begin.add_argument("--cpus", type=int, default=4, help="CPUs of a node (default: %(default)s)")
    begin.add_argument("--memory-mb", type=int, default=8000, help="memory of a node (default: %(default)s)")
    begin.add_argument("--gpus", type=int, default=8, help="A100s of a node, by name only (default: %(default)s)")
    begin.add_argument(
        "--accounting",
        choices=get_args(Accounting),
        help="dbd: slurmdbd and MariaDB; squeue: a sacct that asks squeue; none: no sacct (default: dbd if installed)",
    )
    begin.add_argument(
        "--extra", action="append", default=[], metavar="LINE", help="a line more of slurm.conf; repeatable"
    )
    halt.add_argument("--remove", action="store_true", help="remove the folder too, logs and all")
    return whole


def say(code: int, message: str) -> int:
    """Print one line to standard error, and return the status."""
    print(f"{SCRIPT}: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
