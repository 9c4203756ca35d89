"""Training in Python: `ict_ref.train`."""

import contextlib
import dataclasses
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from ict_ref.checkpoint.run_dir import run_identity
from ict_ref.config import Config, Network
from ict_ref.config.cluster import cluster_options
from ict_ref.config.given import ConfigLike, config_of
from ict_ref.config.old_names import with_current_names
from ict_ref.data.own_images import OwnData, checksum, own_images
from ict_ref.distributed.process_group import ProcessGroup, joined
from ict_ref.launch.data_folder import data_folder, with_checksum
from ict_ref.launch.fitting import out_of_memory_explained
from ict_ref.launch.session import Own, open_session
from ict_ref.networks.own import OwnNetworkLike, own_network
from ict_ref.sample.run import Run
from ict_ref.slurm.cluster_file import read_cluster_file
from ict_ref.training.loop import Callback, fit
from ict_ref.utils.command_line import expect, say
from ict_ref.utils.signals import StopRequest
from ict_ref.utils.tf32 import without_tf32


def train(
    config: ConfigLike,
    data: OwnData | None = None,
    network: OwnNetworkLike | None = None,
    callbacks: Sequence[Callback] = (),
    *,
    out: str | os.PathLike[str] | None = None,
) -> Run:
    """Train a consistency model to the end, or resume its run; return the run, from which images are sampled.

    `config` is the name of a preset, options such as {"preset": "digits", "train.steps": 100}, or a `Config`. `data`
    and `network` replace those of the configuration: `ict_ref.data.own_images` and `ict_ref.networks.own` describe what
    they may be. Labels are used if the configuration, the data and the network have them. `callbacks` are called as
    callback(step, metrics) with each line of the metrics. `out` is the run folder, by default runs/NAME-DIGITS.

    The same call resumes a run that was stopped, and ends with the same bits. Ctrl-C, SIGTERM and SIGUSR2 save a
    checkpoint first. The networks and generators of the caller do not change.

    >>> run = train({"preset": "minimal", "train.steps": 8}, out="run")
    >>> run.sample(2).shape
    torch.Size([2, 1, 8, 8])

    Raises:
        LaterFormatError: a later version of ict_ref wrote the run folder.
        ValueError: the configuration, data, network or run folder cannot be used, or the folder has a run with other
            ones. The message is one line.
        FloatingPointError: a loss or a gradient is not finite. Checkpoints stay as they are.
        KeyboardInterrupt: Ctrl-C was pressed, and a checkpoint is saved. Other signals raise SystemExit.
        MemoryError: an update does not fit into the memory. The message names options that need less.
        OSError: a file cannot be read or written.
    """
    chosen, preset = config_of(config)
    own = Own(
        images=None if data is None else own_images(data, flip=chosen.data.flip),
        network=None if network is None else own_network(network, seed=chosen.train.seed),
    )
    chosen = with_own(chosen, own)
    if own.images is None:
        chosen = _with_found_data(chosen)
    place = folder_of(chosen, preset, own) if out is None else Path(out)
    with _state_restored(), joined(chosen.machine) as group:
        _train(chosen, preset, own, place, group, callbacks)
        group.any(False)  # the others wait for the last file of the first
    return Run(place, network=network)


def _train(
    config: Config, preset: str, own: Own, place: Path, group: ProcessGroup, callbacks: Sequence[Callback]
) -> None:
    """Train as one rank of a run, in the folder `place`.

    Raises:
        KeyboardInterrupt, SystemExit: a signal has stopped the run, and a checkpoint is saved.
    """
    stop = StopRequest()
    # Python handles signals in the main thread only.
    listens = threading.current_thread() is threading.main_thread()
    with contextlib.ExitStack() as held:
        session = open_session(config, preset, place, group, held, own)
        for line in session.damaged if group.first else ():
            say("ict_ref", 0, line)
        held.enter_context(stop.listening() if listens else contextlib.nullcontext())
        held.enter_context(out_of_memory_explained(session.trainer.config, group.size))
        if fit(session.trainer, place, stop, callbacks=callbacks, cost=session.cost):
            return
    number = stop.signal or signal.SIGTERM  # another rank may have received it
    say("ict_ref", 0, f"stopped by {number.name} and saved in {place}; the same call resumes there")
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


def with_own(config: Config, own: Own) -> Config:
    """Return the configuration of a run with parts of the user's own: what does not apply to them has its default.

    Raises:
        ValueError: an option does not go with them.
    """
    data, train, machine = config.data, config.train, config.machine
    labels = data.labels
    if own.images is not None:
        for option, path in (("--data.path", data.path), ("--data.held-out", data.held_out)):
            expect(not path, option, "nothing with data of one's own", path)
        found = checksum(own.images)
        expect(data.checksum in ("", found), "--data.checksum", f"{found}, that of the given data", data.checksum)
        labels = labels and own.images.classes > 0
        data = dataclasses.replace(data, name="folder", checksum=found)
    if own.network is not None:
        advice = "Load the weights into the network that you give."
        expect(not train.init, "--train.init", "nothing with a network of one's own", train.init, advice)
        expect(machine.recompute is not True, "--machine.recompute", "false with a network of one's own", "true")
        labels = labels and own.network.takes_labels
        config = dataclasses.replace(config, network=Network())
    accuracy = config.acceptance.accuracy if labels else None
    acceptance = dataclasses.replace(config.acceptance, accuracy=accuracy)
    return dataclasses.replace(config, data=dataclasses.replace(data, labels=labels), acceptance=acceptance)


def _with_found_data(config: Config) -> Config:
    """Return the configuration with the folder and the checksum of its data, as the command finds them.

    Raises:
        ValueError: the data are not named, or their folder does not hold prepared data.
        OSError: the prepared data or the cluster file cannot be read.
    """
    file = read_cluster_file(None, cluster_options(), with_current_names)
    data = config.data
    data = dataclasses.replace(data, path=data.path or data_folder(data.name, file))
    return with_checksum(dataclasses.replace(config, data=data), file)


def folder_of(config: Config, preset: str, own: Own) -> Path:
    """Return the run folder that is used by default."""
    note = None if own.network is None else own.network.note()
    return Path("runs") / f"{preset or 'run'}-{run_identity(config, note)}"


@contextlib.contextmanager
def _state_restored() -> Iterator[None]:
    """Restore torch's global state after the block: the generator, the number of threads, and whether TF32 is used.

    The generators of GPUs are not used.
    """
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]), without_tf32():
        try:
            yield
        finally:
            torch.set_num_threads(threads)
