"""A page for what went wrong; who must sign in first is sent there."""

from urllib.parse import quote

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from cuvee.competition.access import ADMITTED, Admitted
from cuvee.competition.actors import VISITOR
from cuvee.competition.api.errors import Problem, problem_of
from cuvee.competition.pages.render import page


def page_of_error(request: Request, error: Exception) -> Response:
    """Answer a request for a page that failed."""
    status, problem = problem_of(error)
    if status == 401 and request.method == "GET":
        return RedirectResponse(f"/sign-in?next={quote(request.url.path)}", status_code=303)
    if status == 401:
        return RedirectResponse("/sign-in", status_code=303)
    if status == 404 and isinstance(error, HTTPException):
        problem = Problem(code=problem.code, message=f"there is no page {request.url.path}")
    admitted: Admitted | None = request.scope.get(ADMITTED)
    actor = VISITOR if admitted is None else admitted.actor
    return page(request, "error", actor, status=status, problem=problem, status_code=status)
