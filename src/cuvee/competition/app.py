"""The web application: API and pages over one service. Imports neither torch nor transformers."""

import logging
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import IntegrityError, OperationalError
from starlette.exceptions import HTTPException

from cuvee.competition import queue
from cuvee.competition.access import check_table, is_for_programs, who_asks
from cuvee.competition.api import data, errors, metrics, open, organiser, reports, teams, workers
from cuvee.competition.door import Door
from cuvee.competition.messages import keep_telling, messengers_of
from cuvee.competition.not_sent import forget_others
from cuvee.competition.pages import report_routes as report_pages
from cuvee.competition.pages import routes as pages
from cuvee.competition.pages.errors import page_of_error
from cuvee.competition.pages.render import style
from cuvee.competition.retention import Duty, remove_old
from cuvee.competition.service import Service
from cuvee.errors import CuveeError
from cuvee.report.template import content_hash
from cuvee.version import __version__

SECONDS_BETWEEN_LOOKS = 5.0
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'self'; style-src '{content_hash(style())}'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
HSTS = "max-age=31536000"

log = logging.getLogger("cuvee.competition")


def make_app(service: Service) -> FastAPI:
    """Build the application. Raises AssertionError if a route has no line in the table of who may do what."""
    app = FastAPI(
        title=f"{service.competition.title}: competition",
        version=__version__,
        lifespan=_with_lookout,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        responses=errors.PROBLEMS,
        dependencies=[Depends(who_asks)],
    )
    app.state.service = service
    routers = [part.routes for part in (open, data, teams, reports, organiser, workers, metrics, pages, report_pages)]
    check_table(routers)
    for router in routers:
        app.include_router(router)
    for kind in (CuveeError, RequestValidationError, HTTPException, IntegrityError, OperationalError):
        app.add_exception_handler(kind, _answer_failure)
    app.add_middleware(Door, service=service, answer=_answer_failure)
    app.middleware("http")(_add_headers)
    return app


async def _answer_failure(request: Request, error: Exception) -> Response:
    if is_for_programs(request):
        return await errors.answer(request, error)
    return page_of_error(request, error)


async def _add_headers(request: Request, call_next: "pages.CallNext") -> Response:
    response: Response = await call_next(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if request.app.state.service.limits.https:
        response.headers.setdefault("Strict-Transport-Security", HSTS)
    if not request.url.path.startswith("/static/"):
        response.headers.setdefault("Cache-Control", "no-store")
    return response


@asynccontextmanager
async def _with_lookout(app: FastAPI) -> AsyncIterator[None]:
    """Look every few seconds for runs whose worker is lost, also while no worker asks for work; every hour for what
    is not kept any more."""
    service: Service = app.state.service
    stop = threading.Event()
    lookout = threading.Thread(target=_look_out, args=(service, stop), daemon=True)
    lookout.start()
    messengers = messengers_of(service.limits, os.environ)
    forget_others(service, {messenger.name for messenger in messengers})
    for messenger in messengers:  # nobody waits: another's server may take its time
        threading.Thread(target=keep_telling, args=(service, messenger, stop), daemon=True).start()
    try:
        yield
    finally:
        stop.set()
        lookout.join()


def _look_out(service: Service, stop: threading.Event) -> None:
    cleaning = Duty()
    while not stop.wait(SECONDS_BETWEEN_LOOKS):
        try:
            with service.database.write() as connection:
                now = service.now(connection)
                queue.reap(connection, service.limits, now)
            if cleaning.is_due(now):
                with service.database.write() as connection:
                    remove_old(connection, service.competition, service.limits.keep, now)
        except OperationalError as error:  # the database is away; the next look may find it
            log.warning("cannot look for lost runs and old rows: %s", error.orig)
