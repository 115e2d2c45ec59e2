"""A worker: claims runs, judges them, hands the verdicts in. The same loop beside the database or on another machine.

While it judges, a second thread renews the lease. A lost lease stops the judging at its next step; whatever it would
still say is refused by the fencing number. A worker that cannot judge (its self-test fails, or it fails several times
in a row) takes itself out instead of using up the attempts of others' submissions. The server then takes back what it
judged since its last passed test.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cuvee.competition.fitness import Fitness
from cuvee.competition.job import Job
from cuvee.competition.refusals import Refusal
from cuvee.errors import CuveeError, PlatformError
from cuvee.progress import Progress
from cuvee.submission.cleaned import cleaned
from cuvee.submission.scratch import own_folder, sweep_scratch
from cuvee.submission.verdict import Verdict

log = logging.getLogger("cuvee.competition.worker")

SECONDS_BETWEEN_ASKS = 1.0
SECONDS_BETWEEN_TESTS = 3600.0
RENEWALS_PER_LEASE = 4
LONGEST_REASON = 500
LONGEST_PROGRESS = 200

Judge = Callable[[Path, Path, str, Progress], Verdict]
"""Archive, empty working folder, purpose ("public" or "final") and progress -> verdict."""


class Abandoned(KeyboardInterrupt):
    """The run is no longer this worker's: cancelled, or given to another."""


class Source(Protocol):
    """Where runs come from and verdicts go to: the database itself, or a server."""

    def enter(self, fitness: Fitness) -> str:
        """Say that the worker has passed its test. Return why it is not taken into service; nothing if it is."""

    def leave(self, reason: str) -> None: ...

    def failed(self, reason: str) -> None:
        """Say that the worker's test of itself has failed: it takes itself out, and what it judged is taken back."""

    def claim(self) -> Job | None: ...

    def archive(self, job: Job) -> bytes: ...

    def renew(self, job: Job, progress: str) -> None: ...

    def finish(self, job: Job, verdict: Verdict) -> None: ...

    def give_up(self, job: Job, reason: str) -> None: ...


@dataclass(frozen=True)
class Worker:
    """One worker. `self_test` raises an error if this machine cannot judge.

    The test is made at the start, every `seconds_between_tests`, and after each failure that is ours.
    """

    source: Source
    judge: Judge
    self_test: Callable[[], Fitness]
    scratch: Path | None = None
    seconds_between_tests: float = SECONDS_BETWEEN_TESTS

    def run(self, stop: threading.Event, *, once: bool = False) -> int:
        """Work until told to stop, or until nothing waits if `once`. Return how many runs were worked on.

        Raises PlatformError if the worker is taken out, by itself or by the server.
        """
        for folder in sweep_scratch(self.scratch):
            log.info("removed %s, which a worker that died has left", folder)
        self._greet()
        tested = time.monotonic()
        worked = 0
        while not stop.is_set():
            if time.monotonic() - tested > self.seconds_between_tests:
                self._greet()
                tested = time.monotonic()
            job = self.source.claim()
            if job is None and once:
                return worked
            if job is None:
                stop.wait(SECONDS_BETWEEN_ASKS)
                continue
            sound = self._work(job)
            worked += 1
            if not sound:
                self._greet()
                tested = time.monotonic()
        self.source.leave("stopped")
        return worked

    def _greet(self) -> None:
        try:
            fitness = self.self_test()
        except Exception as error:  # the door: a machine that cannot even test itself must say so, too
            reason = error.message if isinstance(error, CuveeError) else f"{type(error).__name__}: {error}"
            self.source.failed(cleaned(reason, LONGEST_REASON))
            hint = error.hint if isinstance(error, CuveeError) else "mend its cause and start the worker again"
            raise PlatformError(f"this worker takes itself out: {reason}", hint=hint) from error
        objection = self.source.enter(fitness)
        if objection:
            hint = "mend this machine, or let the organiser forget the expected score if that is wrong"
            raise PlatformError(f"this worker is taken out: {objection}", hint=hint)

    def _work(self, job: Job) -> bool:
        """Judge a run and hand the verdict in. Return whether nothing failed that is ours."""
        try:
            verdict = self._judged(job)
            self.source.finish(job, verdict)
        except Abandoned:
            log.info("run %d is no longer ours", job.run_id)
        except Exception as error:  # noqa: BLE001  # the door: a defect of ours must not leave the run hanging
            if _is_lost(error):
                log.info("run %d is no longer ours: %s", job.run_id, error)
                return True
            self._give_up(job, error)
            return False
        else:
            return verdict.outcome != "errored"
        return True

    def _judged(self, job: Job) -> Verdict:
        with own_folder(self.scratch) as folder:
            archive = folder / "submission.tar"
            archive.write_bytes(self.source.archive(job))
            with _Lease(self.source, job) as lease:
                return self.judge(archive, folder / "work", job.purpose, lease)

    def _give_up(self, job: Job, failure: Exception) -> None:
        """Give a run back. The team reads the reason, so an error that is not meant to be read is for the log alone."""
        log.warning("run %d failed: %r", job.run_id, failure)
        told = "the worker's log tells more"
        if isinstance(failure, CuveeError):
            told = str(failure)
        elif isinstance(failure, OSError):
            told = str(failure.strerror)
        reason = cleaned(f"{type(failure).__name__}: {told}", LONGEST_REASON)
        try:
            self.source.give_up(job, reason)
        except Exception as error:
            if not _is_lost(error):
                raise


def _is_lost(error: Exception) -> bool:
    return isinstance(error, Refusal) and error.code == "lease_lost"


class _Lease:
    """Renews a lease in a thread of its own, and is the judge's progress, which stops it once the lease is lost."""

    def __init__(self, source: Source, job: Job) -> None:
        self._source, self._job = source, job
        self._stop, self._lost = threading.Event(), threading.Event()
        self._what, self._total, self._done = "begins", 0, 0
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> "_Lease":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def start(self, what: str, total: int, unit: str) -> None:
        self.check()
        self._what, self._total, self._done = what, total, 0

    def advance(self, amount: int) -> None:
        self.check()
        self._done += amount

    def note(self, text: str) -> None:
        self.check()

    def finish(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise Abandoned once the run is another's, or nobody's."""
        if self._lost.is_set():
            raise Abandoned

    def _shown(self) -> str:
        share = f" {self._done / self._total:.0%}" if self._total else ""
        return cleaned(self._what + share, LONGEST_PROGRESS)

    def _renew(self) -> None:
        """Renew the lease until the end. Whatever else goes wrong, the lease may outlast it."""
        while not self._stop.wait(self._job.lease_seconds / RENEWALS_PER_LEASE):
            try:
                self._source.renew(self._job, self._shown())
            except Exception as error:  # noqa: BLE001  # as said above
                if _is_lost(error):
                    self._lost.set()
                    return
                log.warning("cannot renew run %d: %s", self._job.run_id, error)
