"""Failures as answers: one shape for all, with a code for programs and a sentence for people."""

from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError, OperationalError
from starlette.exceptions import HTTPException

from cuvee.competition.refusals import STATUS, Refusal
from cuvee.errors import CuveeError

BY_EXIT_CODE = {2: 422, 3: 409, 4: 403, 70: 503, 75: 507}
AWAY = "the database is busy or away"
FULL = "the database has no room on its disk"
CODES = {404: "not_found", 405: "bad_request", 400: "bad_request", 408: "too_slow", 413: "too_large"}


class Problem(BaseModel):
    """What went wrong. `code` is for programs, `message` and `hint` for people."""

    code: str
    message: str
    hint: str | None = None


class ProblemDocument(BaseModel):
    error: Problem


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemDocument, "description": "refused, with a code and a sentence"}
    for status in sorted({*STATUS.values(), 400, 503})
}


def problem_of(error: Exception) -> tuple[int, Problem]:
    """Translate an exception: status and problem."""
    match error:
        case Refusal():
            return error.status, Problem(code=error.code, message=error.message, hint=error.hint)
        case CuveeError():
            status = BY_EXIT_CODE.get(error.exit_code, 503)
            return status, Problem(
                code="bad_request" if status < 500 else "platform", message=error.message, hint=error.hint
            )
        case RequestValidationError():
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            return 422, Problem(code="bad_request", message=f"{place}: {first['msg']}")
        case HTTPException():
            return error.status_code, Problem(
                code=CODES.get(error.status_code, "bad_request"), message=str(error.detail)
            )
        case IntegrityError():
            return 409, Problem(
                code="wrong_state", message="another request did the same at this moment", hint="look, and try again"
            )
        case OperationalError():
            message = FULL if _tells_of_a_full_disk(error) else AWAY
            return 503, Problem(code="platform", message=message, hint="try again in a moment")
    raise error


def _tells_of_a_full_disk(error: OperationalError) -> bool:
    """Say whether SQLite (SQLITE_FULL) or PostgreSQL (SQLSTATE 53100) had no room to write."""
    return "disk is full" in str(error.orig) or getattr(error.orig, "sqlstate", None) == "53100"


async def answer(_request: Request, error: Exception) -> Response:
    """Answer an API request that failed."""
    status, problem = problem_of(error)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else getattr(error, "headers", None)
    return JSONResponse(ProblemDocument(error=problem).model_dump(), status_code=status, headers=headers)
