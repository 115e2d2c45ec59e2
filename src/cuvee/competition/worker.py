"""A worker: claims runs, judges them, hands the verdicts in. The same loop beside the database or on another machine.

While it judges, a second thread renews the lease. A lost lease stops the judging at its next step; whatever it would
still say is refused by the fencing number. A worker that cannot judge (its self-test fails, or it fails several times
in a row) takes itself out instead of using up the attempts of others' submissions.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cuvee.competition.job import Job
from cuvee.competition.refusals import Refusal
from cuvee.competition.scratch import scratch_folder
from cuvee.errors import CuveeError, PlatformError
from cuvee.progress import Progress
from cuvee.submission.cleaned import cleaned
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

    def hello(self, *, ready: bool, reason: str, hardware: Mapping[str, str]) -> None: ...

    def claim(self) -> Job | None: ...

    def archive(self, job: Job) -> bytes: ...

    def renew(self, job: Job, progress: str) -> None: ...

    def finish(self, job: Job, verdict: Verdict) -> None: ...

    def give_up(self, job: Job, reason: str) -> None: ...


@dataclass(frozen=True)
class Worker:
    """One worker. `self_test` raises CuveeError if this machine cannot judge.

    The test is made at the start, every `seconds_between_tests`, and after each failure that is ours.
    """

    source: Source
    judge: Judge
    self_test: Callable[[], Mapping[str, str]]
    scratch: Path | None = None
    seconds_between_tests: float = SECONDS_BETWEEN_TESTS

    def run(self, stop: threading.Event, *, once: bool = False) -> int:
        """Work until told to stop, or until nothing waits if `once`. Return how many runs were worked on.

        Raises PlatformError if the worker is taken out, by itself or by the server.
        """
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
        self.source.hello(ready=False, reason="stopped", hardware={})
        return worked

    def _greet(self) -> None:
        try:
            hardware = self.self_test()
        except CuveeError as error:
            self.source.hello(ready=False, reason=cleaned(error.message, LONGEST_REASON), hardware={})
            raise PlatformError(f"this worker takes itself out: {error.message}", hint=error.hint) from error
        self.source.hello(ready=True, reason="", hardware=hardware)

    def _work(self, job: Job) -> bool:
        """Judge a run and hand the verdict in. Return whether nothing failed that is ours."""
        lease = _Lease(self.source, job)
        try:
            with scratch_folder(self.scratch) as folder:
                archive = folder / "submission.tar"
                archive.write_bytes(self.source.archive(job))
                with lease:
                    verdict = self.judge(archive, folder / "work", job.purpose, lease)
            self.source.finish(job, verdict)
        except Abandoned:
            log.info("run %d is no longer ours", job.run_id)
        except Exception as error:  # noqa: BLE001  # the door: a defect of ours must not leave the run hanging
            if _is_lost(error):
                log.info("run %d is no longer ours: %s", job.run_id, error)
                return True
            self._give_up(job, f"{type(error).__name__}: {error}")
            return False
        else:
            return verdict.outcome != "errored"
        return True

    def _give_up(self, job: Job, reason: str) -> None:
        told = cleaned(reason, LONGEST_REASON)
        log.warning("run %d failed: %s", job.run_id, told)
        try:
            self.source.give_up(job, told)
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
