"""A worker beside the database: it claims and finishes without a server between."""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.exc import OperationalError

from cuvee.competition import queue, results
from cuvee.competition.actors import Actor
from cuvee.competition.fitness import Fitness
from cuvee.competition.job import Job
from cuvee.competition.service import Service
from cuvee.competition.worker_keys import register
from cuvee.competition.workforce import enter, is_ready, leave, take_out
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

    def enter(self, fitness: Fitness) -> str:
        service = self.service
        with service.database.write() as connection:
            now = service.now(connection)
            objection = enter(connection, self.worker, fitness, service.competition.digest, now)
            if not objection:
                register(connection, self.worker, public_key(self.key), now)
            return objection

    def leave(self, reason: str) -> None:
        with self.service.database.write() as connection:
            leave(connection, self.worker, self.service.now(connection), reason=reason)

    def failed(self, reason: str) -> None:
        with self.service.database.write() as connection:
            take_out(connection, self.worker, self.service.now(connection), reason=reason)

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
