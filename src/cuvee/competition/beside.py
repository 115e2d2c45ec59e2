"""A worker beside the database: it claims and finishes without a server between."""

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.exc import OperationalError

from cuvee.competition import queue, results
from cuvee.competition.actors import Actor
from cuvee.competition.job import Job
from cuvee.competition.service import Service
from cuvee.competition.worker_keys import register
from cuvee.competition.workforce import greet, is_ready
from cuvee.errors import PlatformError
from cuvee.submission.sign import public_key
from cuvee.submission.statement import sign_verdict
from cuvee.submission.verdict import Verdict


@dataclass(frozen=True)
class DatabaseSource:
    """The queue itself. The worker signs its verdicts with `key`."""

    service: Service
    worker: Actor
    key: Ed25519PrivateKey

    def hello(self, *, ready: bool, reason: str, hardware: Mapping[str, str]) -> None:
        with self.service.database.write() as connection:
            now = self.service.now(connection)
            greet(connection, self.worker, now, ready=ready, reason=reason, hardware=hardware)
            if ready:
                register(connection, self.worker, public_key(self.key), now)

    def claim(self) -> Job | None:
        with self.service.database.write() as connection:
            now = self.service.now(connection)
            ready = is_ready(connection, self.worker, now)
            job = queue.claim(connection, self.worker, self.service.limits, now) if ready else None
        if not ready:
            raise PlatformError("this worker is out of service", hint="restart it once its cause is mended")
        return job

    def archive(self, job: Job) -> bytes:
        with self.service.database.write() as connection:
            return queue.archive_of(connection, self.worker, job.run_id, job.fence)

    def renew(self, job: Job, progress: str) -> None:
        service = self.service
        try:
            with service.database.write() as connection:
                now = service.now(connection)
                queue.renew(connection, self.worker, job.run_id, job.fence, service.limits, now, progress)
        except OperationalError as error:
            raise PlatformError(f"the database is away: {error.orig}") from error

    def finish(self, job: Job, verdict: Verdict) -> None:
        signature = sign_verdict(verdict, run=job.run_id, fence=job.fence, purpose=job.purpose, key=self.key)
        results.finish(self.service, self.worker, job.run_id, job.fence, verdict, signature)

    def give_up(self, job: Job, reason: str) -> None:
        service = self.service
        with service.database.write() as connection:
            now = service.now(connection)
            queue.give_up(connection, self.worker, job.run_id, job.fence, service.limits, now, reason)
