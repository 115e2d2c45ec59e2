"""What the server refuses, each with its own code: a program reads the code, a person the sentence."""

from typing import Literal

from cuvee.errors import CuveeError

Code = Literal[
    "not_signed_in",
    "not_allowed",
    "not_found",
    "closed",
    "quota_used",
    "too_large",
    "too_slow",
    "too_many",
    "bad_archive",
    "bad_name",
    "name_taken",
    "wrong_state",
    "lease_lost",
    "bad_verdict",
    "bad_request",
]

STATUS: dict[Code, int] = {
    "not_signed_in": 401,
    "not_allowed": 403,
    "not_found": 404,
    "closed": 409,
    "quota_used": 429,
    "too_large": 413,
    "too_slow": 408,
    "too_many": 429,
    "bad_archive": 422,
    "bad_name": 422,
    "name_taken": 409,
    "wrong_state": 409,
    "lease_lost": 409,
    "bad_verdict": 422,
    "bad_request": 422,
}


class Refusal(CuveeError):
    """Something that may not be done, or not now."""

    exit_code = 4

    def __init__(self, code: Code, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code

    @property
    def status(self) -> int:
        """Return the HTTP status that says the same."""
        return STATUS[self.code]
