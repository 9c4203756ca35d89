"""Clusters that belong to a process, in folders of /tmp, and what becomes of them when it is killed.

Such a process cannot stop its cluster any more, so the next one that starts a cluster does it first.
"""

import fcntl
import os
import tempfile
from pathlib import Path

from tests.slurm_cluster.cluster.daemons import Cluster

# Not where TMPDIR may be: a path of many bytes leaves none for the sockets' names.
PARENT = Path("/tmp")  # noqa: S108 (mkdtemp makes the folder)
PREFIX = "ict-slurm-"


def new() -> Cluster:
    """Return a cluster in a folder of its own, not started; to be started with an owner."""
    return Cluster(Path(tempfile.mkdtemp(prefix=PREFIX, dir=PARENT)))


def sweep() -> list[Path]:
    """Stop and remove this user's clusters whose processes are gone, and return their folders."""
    swept = []
    for base in sorted(PARENT.glob(f"{PREFIX}*")):
        try:
            if base.is_symlink() or base.stat().st_uid != os.getuid() or not Cluster(base).abandoned:
                continue
            with (base / "cluster.json").open() as record:
                fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)  # two processes may sweep at once
                Cluster(base).stop(remove=True)
        except (OSError, ValueError):  # another one sweeps this, or has
            continue
        swept.append(base)
    return swept
