"""A job a slot on the nodes of a SLURM cluster, through submitit. Functions, arguments and results travel.

A job stays, with the state of its functions, and takes call after call from files of a folder that all nodes see: a
node needs no other way to this machine. Each side counts up in a file of its own, so the other one sees that it lives.
"""

import logging
import os
import pickle
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Self

from cuvee.cores import usable_cores
from cuvee.errors import MissingExtra, PlatformError
from cuvee.executor.executor import Done, limit_threads, outcome_of_version, refuse_busy
from cuvee.version import __version__

BEAT_SECONDS = 2.0
SILENT_SECONDS = 180.0
"""A caller or a job that does not count up for so long is gone. Folders of a network may show a file a minute late."""

LEAST_WAIT, MOST_WAIT = 0.02, 0.5
"""Seconds between two looks at a folder; the wait grows while nothing happens."""

PATIENCE_SECONDS = 5.0
"""How long a job that is told to stop may take before it is cancelled."""


@dataclass(frozen=True)
class Request:
    """The demands of each job on the cluster; None is the cluster's own default.

    `further` are options of sbatch by their names, such as `account`. `local` runs the jobs on this machine, to try it.
    """

    partition: str | None = None
    minutes: int = 60
    gpus: int | None = None
    cpus: int | None = None
    memory_bytes: int | None = None
    further: Mapping[str, str] = field(default_factory=dict)
    local: bool = False

    def parameters(self) -> dict[str, Any]:
        """Return the request as submitit takes it, which knows memory in GiB."""
        general = {
            "name": "cuvee",
            "timeout_min": self.minutes,
            "gpus_per_node": self.gpus,
            "cpus_per_task": self.cpus,
            "mem_gb": None if self.memory_bytes is None else self.memory_bytes / 2**30,
        }
        known = {"slurm_partition": self.partition, "slurm_additional_parameters": dict(self.further) or None}
        return {name: value for name, value in (general | known).items() if value is not None}


class SlurmJobs:
    """Runs calls in `slots` jobs, which SLURM starts as the cluster has room: a call waits for its slot's job.

    `folder` is a folder that all nodes see; a folder in it holds calls, results and logs, until it is closed, or for
    good after a job was lost. A job that ends, because its time is over or its node is gone, is submitted anew.
    """

    def __init__(
        self, request: Request, slots: int, *, folder: Path = Path(), silent_seconds: float = SILENT_SECONDS
    ) -> None:
        """Submit the jobs. Raises ValueError for fewer than one slot, PlatformError where SLURM refuses them."""
        if slots < 1:
            raise ValueError(f"expected at least one slot, found {slots}")
        self._submitit = _submitit()
        self._failures = self._submitit.core.utils
        self._silent_seconds = silent_seconds
        self._threads = request.cpus or (max(1, usable_cores() // slots) if request.local else 0)
        self._root = Path(mkdtemp(prefix="cuvee-slurm-", dir=folder.absolute()))
        self._lost_any = False
        self._number = 0
        self._beating = _Beating(self._root / "caller")
        try:
            self._cluster = self._opened(request)
            self._slots = self._started(slots)
        except BaseException:
            self._beating.stop()
            shutil.rmtree(self._root, ignore_errors=True)
            raise

    @property
    def slots(self) -> int:
        return len(self._slots)

    def submit(self, slot: int, function: Callable[..., Any], *arguments: Any) -> None:
        busy = 0 <= slot < self.slots and self._slots[slot].call > 0
        refuse_busy(slot, self.slots, busy=busy)
        if self._slots[slot].has_ended:  # its time was over while it had nothing to do
            self._slots[slot] = self._started(1)[0]
        own = self._slots[slot]
        self._number += 1
        own.call = self._number
        _write(own.folder / f"{own.call}.call", (__version__, function, arguments))

    def next_done(self) -> Done:
        if not any(own.call for own in self._slots):
            raise ValueError("no call runs")
        wait = LEAST_WAIT
        while True:
            for number, own in enumerate(self._slots):
                done = self._looked_at(number, own) if own.call else None
                if done is not None:
                    return done
            time.sleep(wait)
            wait = min(MOST_WAIT, 1.5 * wait)

    def close(self) -> None:
        """Stop all jobs, those that wait for a node, too."""
        self._beating.stop()
        for own in self._slots:
            _write(own.folder / "stop", None)
        end = time.monotonic() + PATIENCE_SECONDS
        for own in self._slots:
            while own.has_started and not own.has_ended and time.monotonic() < end:
                time.sleep(LEAST_WAIT)
            _cancel(own)
        self._slots = []
        if not self._lost_any:
            shutil.rmtree(self._root, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _opened(self, request: Request) -> Any:
        """Return submitit's executor for a request."""
        try:
            cluster = self._submitit.AutoExecutor(self._root / "jobs", cluster="local" if request.local else "slurm")
            cluster.update_parameters(**request.parameters())
        except RuntimeError as error:  # it finds no srun
            hint = "run it where `sbatch` is; cluster=local tries it on this machine"
            raise PlatformError(f"there is no SLURM here: {_line(error)}", hint=hint) from error
        return cluster

    def _started(self, count: int) -> "list[_Slot]":
        """Submit so many jobs at once, an array of jobs if there are several."""
        folders = [Path(mkdtemp(prefix="slot-", dir=self._root)) for _ in range(count)]
        shared = str(self._root), self._threads, self._silent_seconds
        try:
            with self._cluster.batch():
                jobs = [self._cluster.submit(serve, str(folder), *shared) for folder in folders]
        except (self._failures.FailedJobError, self._failures.FailedSubmissionError, OSError) as error:
            raise PlatformError(f"SLURM refused the jobs: {_last_line(error)}", hint="change --slurm") from error
        return [_Slot(folder, job) for folder, job in zip(folders, jobs, strict=True)]

    def _looked_at(self, number: int, own: "_Slot") -> Done | None:
        """Return the outcome of a slot's call, or None while it runs or waits for a node."""
        had_ended = own.has_ended  # looked at first: a result that a job left before it ended is not lost
        ended = _read(own.folder / f"{own.call}.result")
        if ended is not None:
            for name in ("call", "result"):
                (own.folder / f"{own.call}.{name}").unlink(missing_ok=True)
            own.call = 0
            return Done(number, ended.value, ended.failure)
        silent = own.silent_seconds > self._silent_seconds
        if not had_ended and not silent:
            return None
        return Done(number, failure=self._replaced(number, own, silent=silent and not had_ended), lost=True)

    def _replaced(self, number: int, own: "_Slot", *, silent: bool) -> str:
        """Submit a job anew, and say how the last one ended."""
        self._lost_any = True
        how = f"has been silent for {self._silent_seconds:.0f} s" if silent else f"ended ({own.job.state})"
        log = own.job.paths.stderr
        _write(own.folder / "stop", None)
        _cancel(own)
        self._slots[number] = self._started(1)[0]
        return f"job {own.job.job_id} that ran this {how}; its log is {log}"


@dataclass
class _Slot:
    """A job, the folder through which it is called, and the number of the call that it has; 0 for none."""

    folder: Path
    job: Any
    call: int = 0
    _heard: str = ""
    _heard_at: float = 0.0

    @property
    def has_started(self) -> bool:
        return bool(_text(self.folder / "job"))

    @property
    def has_ended(self) -> bool:
        return bool(self.job.done())

    @property
    def silent_seconds(self) -> float:
        """How long the job has not counted up; 0 before it has started."""
        count = _text(self.folder / "job")
        if count != self._heard:
            self._heard, self._heard_at = count, time.monotonic()
        return time.monotonic() - self._heard_at if count else 0.0


class _Beating:
    """Counts up in a file, as long as this process lives."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._beat(0)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        count = 0
        while not self._stopped.wait(BEAT_SECONDS):
            count += 1
            self._beat(count)

    def _beat(self, count: int) -> None:
        with suppress(OSError):  # a folder that fails for long is seen by the other side's patience
            partial = self._file.with_name(f".{self._file.name}")
            partial.write_text(str(count))
            os.replace(partial, self._file)


def serve(folder: str, root: str, threads: int, silent_seconds: float) -> None:
    """Run calls from a folder until a file says to stop, or the caller is silent: the work of a job.

    A job that SLURM started anew after a preemption does the call again that it had.
    """
    own = Path(folder)
    for name in ("SIGTERM", "SIGUSR2"):  # submitit would raise an error in the midst of a call, as if that had failed
        signal.signal(getattr(signal, name), _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if threads:
        limit_threads(threads)
    threading.Thread(target=_end_with_caller, args=(own, Path(root), silent_seconds), daemon=True).start()
    _Beating(own / "job")
    wait = LEAST_WAIT
    while True:
        call = _waiting_call(own)
        if call is None:
            time.sleep(wait)
            wait = min(MOST_WAIT, 1.5 * wait)
            continue
        wait = LEAST_WAIT
        _answer(call)


def _waiting_call(folder: Path) -> Path | None:
    """Return the call that has no result yet. The listing shows new files sooner than a question for one of them."""
    for name in os.listdir(folder):
        if name.endswith(".call"):
            call = folder / name
            if not call.with_suffix(".result").exists():
                return call
    return None


def _answer(file: Path) -> None:
    call = _read(file)
    if call is None:  # it was taken back
        return
    ended = outcome_of_version(*call)
    result = file.with_suffix(".result")
    try:
        _write(result, ended)
    except Exception as error:  # noqa: BLE001  # a value of any kind may refuse to be written, in any way
        _write(result, ended._replace(value=None, failure=f"its result cannot be sent: {error}"))


def _end_with_caller(folder: Path, root: Path, silent_seconds: float) -> None:
    """Leave, in the middle of a call, too, when the caller says stop or is gone."""
    heard, heard_at = "", time.monotonic()
    while not (folder / "stop").exists():
        count = _text(root / "caller")
        if count != heard:
            heard, heard_at = count, time.monotonic()
        if time.monotonic() - heard_at > silent_seconds:
            break
        time.sleep(MOST_WAIT)
    os._exit(0)


def _leave(*_: object) -> None:
    os._exit(1)


def _cancel(own: _Slot) -> None:
    if not own.has_ended:
        with suppress(OSError):
            own.job.cancel(check=False)


def _write(file: Path, value: object) -> None:
    """Write a value in a single step."""
    partial = file.with_name(f".{file.name}")
    partial.write_bytes(pickle.dumps(value))
    os.replace(partial, file)


def _read(file: Path) -> Any:
    """Return a file's content, None where there is no file. The listing makes a network's folder tell of new files."""
    if file.name not in os.listdir(file.parent):
        return None
    with suppress(FileNotFoundError):
        return pickle.loads(file.read_bytes())
    return None


def _text(file: Path) -> str:
    with suppress(OSError):
        return file.read_text()
    return ""


def _submitit() -> Any:
    """Return the package. Raises MissingExtra where it is not installed."""
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise MissingExtra("slurm", missing=error.name or "submitit") from error
    logging.getLogger("submitit").setLevel(logging.CRITICAL)  # it logs to stdout, where results are
    return submitit


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
