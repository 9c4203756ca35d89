"""A check of a training loop in several processes: each must have the same number of levels at each update."""

import multiprocessing
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection

from ict_ref.verify.audit.options import TrainingOptions
from ict_ref.verify.audit.training.loop import LoopError
from ict_ref.verify.audit.training.loop_trace import TOTAL_STEPS, Observer, levels_of
from ict_ref.verify.audit.training.network import chosen_gradients
from ict_ref.verify.audit.training.results import CURRICULUM, result
from ict_ref.verify.checks.result import Result
from ict_ref.verify.target.load import TargetError, load

# Time in which all processes must end: they load torch, and may wait for each other.
SECONDS = 300.0
Levels = list[int | None]


def process_result(options: TrainingOptions) -> Result:
    """Return the finding about N in `options.processes` processes, which have the variables of torchrun."""
    with _started(options) as connections:
        answers = [_answer(connection, time.monotonic() + SECONDS) for connection in connections]
    if failed := [answer for answer in answers if isinstance(answer, str)]:
        return result("processes", CURRICULUM, failed[0])
    return result("processes", CURRICULUM, *_compared([answer for answer in answers if not isinstance(answer, str)]))


def _compared(of_ranks: Sequence[Levels]) -> tuple[str | None, str | None]:
    """Return how N differs between processes, and the known deviation."""
    for rank, levels in enumerate(of_ranks):
        if levels == of_ranks[0]:
            continue
        at = next(step for step, (got, first) in enumerate(zip(levels, of_ranks[0], strict=True)) if got != first)
        wrong = f"at update {at}, N = {of_ranks[0][at]} in process 0 and {levels[at]} in process {rank}"
        return wrong, "RankZeroCurriculum" if len(set(levels)) == 1 else None
    return None, None


@contextmanager
def _started(options: TrainingOptions) -> Iterator[list[Connection]]:
    """Start the processes, and end them afterwards."""
    context, port = multiprocessing.get_context("spawn"), _free_port()
    pipes = [context.Pipe(duplex=False) for _ in range(options.processes)]
    processes = [
        context.Process(target=_run, args=(options, rank, port, sender), daemon=True)
        for rank, (_, sender) in enumerate(pipes)
    ]
    try:
        for process, (_, sender) in zip(processes, pipes, strict=True):
            process.start()
            sender.close()  # so that the end of the process is the end of the pipe
        yield [receiver for receiver, _ in pipes]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _answer(connection: Connection, deadline: float) -> Levels | str:
    """Return what a process sends, or an error."""
    try:
        if connection.poll(max(deadline - time.monotonic(), 0)):
            answer: Levels | str = connection.recv()
            return answer
    except EOFError:
        return "a process ended without an answer"
    return f"a process did not end in {SECONDS:g} s"


def _run(options: TrainingOptions, rank: int, port: int, connection: Connection) -> None:
    """Run the loop as one of several processes, and send N of each update, or an error."""
    size = str(options.processes)
    names = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    os.environ.update(names | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
    try:
        observer = Observer(load(options.target).namespace, options, integers=False)  # type: ignore[arg-type]
        trace = observer.trace(*observer.new_loop(options.seed), chosen_gradients(TOTAL_STEPS, options.seed))
    except (LoopError, TargetError) as error:
        connection.send(f"process {rank}: {error}")
        return
    levels = [levels_of(calls, options) for calls in trace.calls]
    connection.send([None if one is None else one.n for one in levels])
