"""Parts of a cluster: the programs it needs, its plan, and the files that its daemons read."""

import contextlib
import dataclasses
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

# dbd: slurmdbd and MariaDB, hence the real sacct. squeue: a sacct that asks squeue, enough for submitit. none: neither.
Accounting = Literal["dbd", "squeue", "none"]

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "sinfo", "squeue")
PROGRAMS_DBD = ("slurmdbd", "mariadbd", "sacct", "sacctmgr")
PACKAGES = "slurmctld slurmd slurm-client munge"
PACKAGES_DBD = "slurmdbd slurm-wlm-mysql-plugin mariadb-server-core"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # daemons are not on every user's PATH
# What makes an empty MariaDB one that has users and rights.
SQL = ("mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql")
SQL_FOLDERS = (Path("/usr/share/mysql"), Path("/usr/share/mariadb"))

MAX_NODES = 100  # 127.0.0.2 to 127.0.0.101
# A Unix socket's path has at most 107 bytes; the longest here is that of a job's step on the last node.
LONGEST_SOCKET = "/spool/127.0.0.101/127.0.0.101_67108863.4294967291"
MAX_FOLDER = 107 - len(LONGEST_SOCKET)

SACCT = """\
#!/bin/sh
# sacct for a cluster without accounting: what submitit asks for, answered by squeue.
# slurmctld forgets no job here (MinJobAge=0).
ids=
while [ $# -gt 0 ]; do
  case "$1 $2" in
    "-j "*) ids="$ids${ids:+,}$2"; shift 2 ;;
    "-o JobID,State,NodeList") shift 2 ;;
    "--parsable2"*) shift ;;
    *) echo "sacct: this cluster has no accounting; only -o JobID,State,NodeList --parsable2 -j ID is answered" >&2
       exit 1 ;;
  esac
done
echo "JobID|State|NodeList"
exec squeue --noheader --states=all ${ids:+--jobs="$ids"} --format='%i|%T|%N'
"""


def which(name: str) -> str | None:
    """Return where the program is: on the PATH, or where daemons are."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), SYSTEM_PATH]))


def program(name: str) -> str:
    """Return where the program is, or refuse."""
    path = which(name)
    if path is None:
        raise ValueError(f"not installed: {name}")
    return path


def missing(accounting: Accounting) -> list[str]:
    """Return the names of what is needed and not installed."""
    programs = PROGRAMS + (PROGRAMS_DBD if accounting == "dbd" else ())
    names = [name for name in programs if which(name) is None]
    return [*names, SQL[0]] if accounting == "dbd" and sql_folder() is None else names


def best_accounting() -> Accounting:
    """Return dbd where it is installed, else squeue."""
    return "squeue" if set(missing("dbd")) - set(missing("squeue")) else "dbd"


def sql_folder() -> Path | None:
    """Return where MariaDB keeps what makes a new database."""
    return next((folder for folder in SQL_FOLDERS if (folder / SQL[0]).is_file()), None)


@dataclasses.dataclass(frozen=True)
class Plan:
    """How many nodes of which size, and what knows of finished jobs."""

    nodes: int
    cpus: int
    memory_mb: int
    gpus: int
    accounting: Accounting
    extra: str = ""

    def __post_init__(self) -> None:
        """Refuse a plan that no cluster can have."""
        for name, least in {"nodes": 1, "cpus": 1, "memory_mb": 1, "gpus": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected an integer >= {least}, got {getattr(self, name)}")
        if self.nodes > MAX_NODES:
            raise ValueError(f"nodes: expected an integer <= {MAX_NODES}, got {self.nodes}")
        if self.accounting not in get_args(Accounting):
            raise ValueError(f"accounting: expected one of {', '.join(get_args(Accounting))}, got {self.accounting}")
        if names := missing(self.accounting):
            packages = f"{PACKAGES} {PACKAGES_DBD}" if self.accounting == "dbd" else PACKAGES
            install = f"on Debian: apt-get install --no-install-recommends {packages}"
            raise ValueError(f"not installed: {', '.join(names)}; {install}")

    @property
    def names(self) -> list[str]:
        """The nodes' names are loopback addresses: SLURM takes them, and they resolve without an entry anywhere."""
        return [f"127.0.0.{number + 2}" for number in range(self.nodes)]

    @property
    def listeners(self) -> list[str]:
        """The daemons that need a port."""
        return ["slurmctld", "slurmdbd", "mariadbd", *self.names]


def refuse_bad_folder(base: Path) -> None:
    """Refuse a folder that the daemons could not have."""
    if len(os.fsencode(base)) > MAX_FOLDER:
        raise ValueError(f"{base} is too long for sockets below it; needs a path of at most {MAX_FOLDER} bytes")
    if re.fullmatch(r"[\w./+-]+", str(base), re.ASCII) is None:
        raise ValueError(f"{base} cannot stand in slurm.conf; needs a path of letters, digits and . _ + - only")


@contextlib.contextmanager
def held_ports(names: list[str]) -> Iterator[dict[str, int]]:
    """Yield a free port for each name, and keep others from them meanwhile.

    A port that is bound here with SO_REUSEADDR can be listened on by a daemon, which sets it too, but is given to
    nobody who asks for any free port: another cluster that starts now, or an outgoing connection.
    """
    with contextlib.ExitStack() as stack:
        ports = {}
        for name in names:
            held = stack.enter_context(socket.socket())
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", 0))
            ports[name] = held.getsockname()[1]
        yield ports


def write(base: Path, plan: Plan, ports: dict[str, int]) -> None:
    """Write the files and folders of a cluster that has not started yet."""
    for folder in ("munge", "state", "log", "dev", "bin", "db", "db-tmp", *(f"spool/{name}" for name in plan.names)):
        (base / folder).mkdir(parents=True)
    _secret(base / "munge" / "munge.key", secrets.token_bytes(1024))
    (base / "slurm.conf").write_text(slurm_conf(base, plan, ports))
    if plan.gpus:
        for number in range(plan.gpus):  # slurmd wants devices; a link to one will do, and needs no rights
            (base / "dev" / f"gpu{number}").symlink_to(os.devnull)
        (base / "gres.conf").write_text(f"AutoDetect=off\nName=gpu Type=a100 File={base}/dev/gpu[0-{plan.gpus - 1}]\n")
    if plan.accounting == "dbd":
        _secret(base / "slurmdbd.conf", slurmdbd_conf(base, ports).encode())
    if plan.accounting == "squeue":
        (base / "bin" / "sacct").write_text(SACCT)
        (base / "bin" / "sacct").chmod(0o755)
    if _slurm_version() >= (24, 5):  # since 24.5 slurmd starts without cgroups only with this setting
        (base / "cgroup.conf").write_text("CgroupPlugin=disabled\n")


def slurm_conf(base: Path, plan: Plan, ports: dict[str, int]) -> str:
    """Return slurm.conf: no cgroups, no system files, everybody is the calling user."""
    user = pwd.getpwuid(os.getuid()).pw_name
    accounting = "AccountingStorageType=accounting_storage/none\n"
    if plan.accounting == "dbd":
        accounting = (
            "AccountingStorageType=accounting_storage/slurmdbd\n"
            "AccountingStorageHost=127.0.0.1\n"
            f"AccountingStoragePort={ports['slurmdbd']}\n"
            f"AccountingStoragePass={base}/munge/munge.socket\n"  # with munge this is its socket
        )
    gres = f"Gres=gpu:a100:{plan.gpus} " if plan.gpus else ""
    size = f"CPUs={plan.cpus} RealMemory={plan.memory_mb} {gres}State=UNKNOWN"
    nodes = "".join(
        f"NodeName={name} NodeHostname=localhost NodeAddr={name} Port={ports[name]} {size}\n" for name in plan.names
    )
    # FirstJobId: a job's number must not come again in another cluster, where submitit would take the results of one
    # for the other's. SlurmdTimeout: long, so that a busy machine loses no node. config_overrides: believe CPUs= and
    # RealMemory=. MinJobAge: how many seconds a finished job is remembered; 0 is for ever.
    return f"""\
ClusterName=ict
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports["slurmctld"]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={base}/munge/munge.socket
CredType=cred/munge
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool/%n
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd.%n.pid
SlurmctldLogFile={base}/log/slurmctld.log
SlurmdLogFile={base}/log/slurmd.%n.log
MailProg=/bin/true
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
{accounting}JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
PropagateResourceLimits=NONE
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=2
ReturnToService=2
FirstJobId={secrets.randbelow(60_000_000) + 1}
JobRequeue=1
KillWait=1
SlurmdTimeout=120
SlurmctldTimeout=10
MessageTimeout=10
MinJobAge={0 if plan.accounting == "squeue" else 300}
EpilogMsgTime=0
{"GresTypes=gpu" if plan.gpus else ""}
{nodes}PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefMemPerNode={min(1000, plan.memory_mb)} State=UP
{plan.extra}
"""


def slurmdbd_conf(base: Path, ports: dict[str, int]) -> str:
    """Return slurmdbd.conf."""
    return f"""\
AuthType=auth/munge
AuthInfo=socket={base}/munge/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={ports["slurmdbd"]}
SlurmUser={pwd.getpwuid(os.getuid()).pw_name}
LogFile={base}/log/slurmdbd.log
PidFile={base}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports["mariadbd"]}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct
"""


def first_sql() -> str:
    """Return the SQL of a new database: its own tables, and the right of slurmdbd to use its database."""
    folder = sql_folder()
    assert folder is not None
    return "".join(
        [
            "create database mysql;\nuse mysql;\n",
            *((folder / name).read_text() for name in SQL),
            "create database slurm_acct;\nflush privileges;\n",
            *(
                f"create user slurm@{host} identified by 'slurm';\ngrant all on slurm_acct.* to slurm@{host};\n"
                for host in ("'%'", "localhost")
            ),
        ]
    )


def _slurm_version() -> tuple[int, ...]:
    words = subprocess.run([program("slurmctld"), "-V"], capture_output=True, text=True, check=True)
    return tuple(int(number) for number in words.stdout.split()[1].split(".")[:2])  # "slurm-wlm 22.05.8"


def _secret(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
