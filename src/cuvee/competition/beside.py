"""A worker beside the database: it claims and finishes without a server between."""

from dataclasses import dataclass

from sqlalchemy.exc import OperationalError

from cuvee.competition import queue, results
from cuvee.competition.actors import Actor
from cuvee.competition.fitness import Fitness
from cuvee.competition.job import Job
from cuvee.competition.service import Service
from cuvee.competition.workforce import enter, is_ready, leave, take_out
from cuvee.errors import PlatformError
from cuvee.submission.verdict import Verdict


@dataclass(frozen=True)
class DatabaseSource:
    """The queue itself."""

    service: Service
    worker: Actor

    def enter(self, fitness: Fitness) -> str:
        service = self.service
        with service.database.write() as connection:
            return enter(connection, self.worker, fitness, service.competition.digest, service.now())

    def leave(self, reason: str) -> None:
        with self.service.database.write() as connection:
            leave(connection, self.worker, self.service.now(), reason=reason)

    def failed(self, reason: str) -> None:
        with self.service.database.write() as connection:
            take_out(connection, self.worker, self.service.now(), reason=reason)

    def claim(self) -> Job | None:
        with self.service.database.write() as connection:
            ready = is_ready(connection, self.worker, self.service.now())
            job = queue.claim(connection, self.worker, self.service.limits, self.service.now()) if ready else None
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
                queue.renew(connection, self.worker, job.run_id, job.fence, service.limits, service.now(), progress)
        except OperationalError as error:
            raise PlatformError(f"the database is away: {error.orig}") from error

    def finish(self, job: Job, verdict: Verdict) -> None:
        results.finish(self.service, self.worker, job.run_id, job.fence, verdict)

    def give_up(self, job: Job, reason: str) -> None:
        service = self.service
        with service.database.write() as connection:
            queue.give_up(connection, self.worker, job.run_id, job.fence, service.limits, service.now(), reason)
