"""What workers on any machine ask and tell, each with a token of its own."""

from datetime import datetime

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel
from sqlalchemy.engine import Connection

from cuvee.competition import queue, results
from cuvee.competition.access import Asks, Serves
from cuvee.competition.actors import Actor
from cuvee.competition.bodies import LARGEST_NUMBER, Failure, Finished, Hello, Number, Renewal
from cuvee.competition.fitness import Fitness
from cuvee.competition.job import Job
from cuvee.competition.refusals import Refusal
from cuvee.competition.states import State
from cuvee.competition.worker_keys import register
from cuvee.competition.workforce import enter, is_ready, leave, take_out

routes = APIRouter(tags=["workers"])


class StateView(BaseModel):
    state: State


class WelcomeView(BaseModel):
    """`objection` says why a worker that is ready is not taken into service; it is empty where it is."""

    now: datetime
    objection: str
    lease_seconds: float


@routes.post("/api/worker/hello", response_model=WelcomeView)
def hello(service: Serves, actor: Asks, body: Hello) -> WelcomeView:
    """Sign a worker in, or out: a worker that is not ready is given nothing.

    What a worker that has failed its test, or that scores otherwise than expected, judged since its last passed one is
    taken back.
    """
    if body.ready and body.failed:
        raise Refusal("bad_request", "a worker that has failed its test is not ready")
    if body.ready and body.competition_digest != service.competition.digest:
        raise Refusal("bad_request", "the worker has another version of competition.yaml", hint="copy the server's")
    with service.database.write() as connection:
        now = service.now(connection)
        objection = _greeted(connection, actor, body, now)
    return WelcomeView(now=now, objection=objection, lease_seconds=service.limits.lease.total_seconds())


def _greeted(connection: Connection, worker: Actor, hello: Hello, now: datetime) -> str:
    if hello.failed:
        take_out(connection, worker, now, reason=hello.reason)
        return ""
    if not hello.ready:
        leave(connection, worker, now, reason=hello.reason)
        return ""
    control = None if hello.control is None else hello.control.score()
    fitness = Fitness(hello.hardware, control)
    objection = enter(connection, worker, fitness, hello.competition_digest, now)
    if not objection:
        register(connection, worker, hello.public_key, now)
    return objection


@routes.post("/api/worker/claim", response_model=Job | None)
def claim(service: Serves, actor: Asks) -> Job | None:
    """Take the next run; null if none waits."""
    with service.database.write() as connection:
        if not is_ready(connection, actor, service.now(connection)):
            raise Refusal("not_allowed", "this worker is out of service", hint="restart it once its cause is mended")
        return queue.claim(connection, actor, service.limits, service.now(connection))


@routes.get(
    "/api/worker/runs/{run_id}/archive",
    response_class=Response,
    responses={200: {"content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}}}},
)
def archive(service: Serves, actor: Asks, run_id: Number, fence: int = Query(ge=1, le=LARGEST_NUMBER)) -> Response:
    """Return the archive of a run that the worker holds."""
    with service.database.write() as connection:
        return Response(queue.archive_of(connection, actor, run_id, fence), media_type="application/x-tar")


@routes.post("/api/worker/runs/{run_id}/renew", response_model=StateView)
def renew(service: Serves, actor: Asks, run_id: Number, body: Renewal) -> StateView:
    """Keep a run for another lease, and say how far it is."""
    with service.database.write() as connection:
        queue.renew(connection, actor, run_id, body.fence, service.limits, service.now(connection), body.progress)
    return StateView(state=State.RUNNING)


@routes.post("/api/worker/runs/{run_id}/finish", response_model=StateView)
def finish(service: Serves, actor: Asks, run_id: Number, body: Finished) -> StateView:
    """Hand in a signed verdict. The same one again changes nothing; one that does not fit its run ends the attempt."""
    state = results.finish(service, actor, run_id, body.fence, body.verdict, body.signature)
    return StateView(state=state)


@routes.post("/api/worker/runs/{run_id}/give-up", response_model=StateView)
def give_up(service: Serves, actor: Asks, run_id: Number, body: Failure) -> StateView:
    """Say that a run failed by no fault of the participant's."""
    with service.database.write() as connection:
        state = queue.give_up(
            connection, actor, run_id, body.fence, service.limits, service.now(connection), body.reason
        )
    return StateView(state=state)
