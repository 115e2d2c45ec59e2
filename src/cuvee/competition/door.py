"""The door of the server: who asks, and how often, is known before a body is read, and a body is counted and timed
while it comes.

This is an ASGI middleware because FastAPI reads and parses the body of a request before it asks a route's dependencies.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from sqlalchemy.exc import OperationalError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cuvee.competition.access import ADMITTED, Admitted, Line, admit, line_of
from cuvee.competition.buckets import Buckets
from cuvee.competition.limits import Limits
from cuvee.competition.rates import SEND, counted
from cuvee.competition.refusals import Refusal
from cuvee.competition.service import Service
from cuvee.errors import CuveeError

log = logging.getLogger("cuvee.competition")

Answer = Callable[[Request, Exception], Awaitable[Response]]


class Door:
    """Lets a request in with its actor, or answers it. `answer` turns a refusal into a response."""

    def __init__(self, app: ASGIApp, service: Service, answer: Answer) -> None:
        self._app = app
        self._service = service
        self._answer = answer
        self._buckets = Buckets()
        self._sending: Counter[int | None] = Counter()
        self._warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, limits = Request(scope), self._service.limits
        line = line_of(scope["method"], scope["path"])
        most = most_bytes(line, limits, self._service.largest_report)
        body = Body(request, receive, most, limits.body_seconds)
        try:
            if line is not None:
                scope[ADMITTED] = await run_in_threadpool(self._admitted, request, line)
            body.check_declared_size()
            with self._one_of_few(scope.get(ADMITTED)):
                await self._app(scope, body.receive, send)
        except (CuveeError, OperationalError) as error:
            response = await self._answer(request, error)
            await response(scope, body.receive, send)

    @contextmanager
    def _one_of_few(self, admitted: Admitted | None) -> Iterator[None]:
        """Let a team send only so many archives at the same time, as each is in memory while it comes."""
        if admitted is None or admitted.line not in SEND:
            yield
            return
        team = admitted.actor.team_id
        if self._sending[team] >= self._service.limits.sends_at_once:
            raise Refusal("too_many", f"{self._sending[team]} archives of the team are on their way already")
        self._sending[team] += 1
        try:
            yield
        finally:
            self._sending[team] -= 1
            if not self._sending[team]:
                del self._sending[team]

    def _admitted(self, request: Request, line: Line) -> Admitted:
        """Find out who asks, and count what is counted."""
        self._warn_of_proxy(request)
        actor = admit(request, self._service, line)
        for rate, whose in counted(request, line, actor, self._service.limits):
            self._buckets.take(rate, whose, self._service.stopwatch())
        return Admitted(actor, line)

    def _warn_of_proxy(self, request: Request) -> None:
        """Say once that a proxy's visitors count as one: its organiser may not know of server.yaml."""
        is_settled = self._warned or bool(self._service.limits.proxies)
        if is_settled or "x-forwarded-for" not in request.headers:
            return
        self._warned = True
        address = request.client.host if request.client else "nowhere"
        log.warning(
            "a request from %s says that it was forwarded, and is not believed: all visitors behind a proxy count as "
            "one. If that is your proxy, name it in private/server.yaml: 'proxies: [%s]'",
            address,
            address,
        )


class Body:
    """A request's body on its way in: at most so many bytes, and all of it within so many seconds.

    The server throws away what still comes after an answer, until the connection has waited too long for a head.
    """

    def __init__(self, request: Request, receive: Receive, most: int, seconds: float) -> None:
        self._receive = receive
        self._most = most
        self._seconds = seconds
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._count = 0
        self._declared = _declared_size(request)
        self._is_over = self._declared == 0

    def check_declared_size(self) -> None:
        """Refuse a body that says itself that it is too large."""
        if self._declared is not None and self._declared > self._most:
            raise Refusal("too_large", self._too_large())

    async def receive(self) -> Message:
        """Hand on the next piece. Raises HTTPException 413, 408 or 400, which FastAPI lets through."""
        if self._is_over:
            return await self._receive()
        left = self._deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise self._too_slow()
        try:
            async with asyncio.timeout(left):
                message = await self._receive()
        except TimeoutError:
            raise self._too_slow() from None
        if message["type"] == "http.disconnect":
            raise HTTPException(400, "the connection ended before the body did")
        self._count += len(message.get("body", b""))
        if self._count > self._most:
            raise HTTPException(413, self._too_large())
        self._is_over = not message.get("more_body", False)
        return message

    def _too_large(self) -> str:
        return f"the body has more than the {self._most} bytes that may be sent here"

    def _too_slow(self) -> HTTPException:
        return HTTPException(408, f"the body did not come within {self._seconds:g} seconds")


def most_bytes(line: Line | None, limits: Limits, largest_report: int = 0) -> int:
    """Return how large the body of a request may be; `largest_report` may be handed in."""
    match line:
        case ("POST", "/api/submissions"):
            return limits.archive_bytes
        case ("POST", "/me/send"):
            return limits.archive_bytes + limits.json_bytes  # the other fields of the form
        case ("POST", "/api/tracks/{track_name}/report"):
            return largest_report
        case ("POST", "/me/report"):
            return largest_report + limits.json_bytes
        case ("POST", "/api/worker/runs/{run_id}/finish"):
            return limits.verdict_bytes
        case _:
            return limits.json_bytes


def _declared_size(request: Request) -> int | None:
    """Return what Content-Length says: 0 where there is no body, None where it comes in pieces of any number."""
    if "transfer-encoding" in request.headers:
        return None
    length = request.headers.get("content-length", "0")
    is_number = length.isascii() and length.isdigit()
    return int(length) if is_number else None
