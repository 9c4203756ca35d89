"""A real SLURM of several nodes on one machine, to try and to test jobs. Needs the standard library and SLURM itself.

`conf` says what is written before anything starts, `processes` which processes are a cluster's, `clients` what can be
asked of it, `daemons` starts and stops it, and `scratch` has those that belong to a process and end with it.
"""

from tests.slurm_cluster.cluster.conf import Accounting, best_accounting, missing
from tests.slurm_cluster.cluster.daemons import Cluster

__all__ = ["Accounting", "Cluster", "best_accounting", "missing"]
