"""A process a slot on this machine. A process that dies is started anew; a child of a dead parent ends by itself."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Self

from cuvee.cores import usable_cores
from cuvee.executor.executor import Done, limit_threads, outcome, refuse_busy

PATIENCE_SECONDS = 5.0
"""How long a process that is told to stop may take."""


class Processes:
    """Runs calls in `slots` processes, which start with their first call and share nothing with this process.

    The processes share the cores out: torch and BLAS would otherwise start a thread for every core in each of them.
    """

    def __init__(self, slots: int) -> None:
        """Raises ValueError for fewer than one slot."""
        if slots < 1:
            raise ValueError(f"expected at least one slot, found {slots}")
        threads = max(1, usable_cores() // slots)
        self._slots = [_Slot(threads) for _ in range(slots)]

    @property
    def slots(self) -> int:
        return len(self._slots)

    def submit(self, slot: int, function: Callable[..., Any], *arguments: Any) -> None:
        busy = 0 <= slot < self.slots and self._slots[slot].busy
        refuse_busy(slot, self.slots, busy=busy)
        self._slots[slot].send(function, arguments)

    def next_done(self) -> Done:
        busy = {own.connection: number for number, own in enumerate(self._slots) if own.busy}
        if not busy:
            raise ValueError("no call runs")
        first = wait(list(busy))[0]
        assert isinstance(first, Connection), "nothing else is waited for"
        return self._slots[busy[first]].receive(busy[first])

    def process_ids(self) -> list[int | None]:
        """Return the number of each slot's process, None before its first call."""
        return [own.process_id for own in self._slots]

    def close(self) -> None:
        for own in self._slots:
            own.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Slot:
    """One process and the connection to it."""

    def __init__(self, threads: int) -> None:
        self.busy = False
        self._threads = threads
        self._running: tuple[SpawnProcess, Connection] | None = None

    @property
    def connection(self) -> Connection:
        assert self._running is not None, "only asked of a slot that runs"
        return self._running[1]

    @property
    def process_id(self) -> int | None:
        return None if self._running is None else self._running[0].pid

    def send(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        """Send a call to the process. A process that has died since its last call is replaced."""
        if self._running is not None and not self._running[0].is_alive():
            self.stop()
        if self._running is None:
            self._running = _started(self._threads)
        self._running[1].send((function, arguments))
        self.busy = True

    def receive(self, number: int) -> Done:
        """Return the outcome of the call, and give up a process that has died."""
        self.busy = False
        try:
            ended = self.connection.recv()
        except (EOFError, ConnectionError):
            return Done(number, failure=self._end(), lost=True)
        return Done(number, ended.value, ended.failure)

    def stop(self) -> None:
        """End the process, whatever it does."""
        if self._running is None:
            return
        process, connection = self._running
        self._running, self.busy = None, False
        process.terminate()
        process.join(PATIENCE_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
        connection.close()
        process.close()

    def _end(self) -> str:
        """Give up a process that has died, and say how it ended."""
        assert self._running is not None, "only called for a slot that ran"
        process, _ = self._running
        process.join(PATIENCE_SECONDS)
        code = process.exitcode
        self.stop()
        if code is not None and code < 0:
            return f"the process that ran this was killed by {signal.Signals(-code).name}"
        return f"the process that ran this ended with exit code {code}"


def _started(threads: int) -> tuple[SpawnProcess, Connection]:
    context = multiprocessing.get_context("spawn")  # a fork would copy locks of threads that it does not have
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, threads), daemon=True)
    process.start()
    theirs.close()  # so that the connection ends when the process does
    return process, ours


def _serve(connection: Connection, threads: int) -> None:
    """Run calls until the other end is closed. Ctrl-C is for the parent to handle."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    limit_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            function, arguments = connection.recv()
        except (EOFError, ConnectionError):
            return
        ended = outcome(function, arguments)
        try:
            connection.send(ended)
        except (BrokenPipeError, ConnectionError):
            return
        except Exception as error:  # noqa: BLE001  # a value of any kind may refuse to be sent, in any way
            connection.send(ended._replace(value=None, failure=f"its result cannot be sent: {error}"))


def _end_with_parent() -> None:
    """Leave in the middle of a call when the parent is gone: nobody takes its result, and it may run for hours."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "only called in a process that another started"
    parent.join()
    os._exit(1)
