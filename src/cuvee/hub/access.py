"""Reaches a hub, and translates its failures. The client library is imported when it is first needed.

Token, endpoint, cache folder and time limits are those of `huggingface_hub` unless given: HF_TOKEN, HF_ENDPOINT,
HF_HOME, HF_HUB_OFFLINE and the others mean what they mean there.
"""

import errno
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cuvee.errors import CheckpointError, CuveeError, OutOfBudget

TRIES = 4
LONGEST_WAIT_SECONDS = 60
"""A hub that asks for more patience is an error, which says how long."""

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
TRY_AGAIN = "try again later: what has arrived is kept"
UNREACHED = "check the network and HF_ENDPOINT; with --offline the cache alone counts"

Result = TypeVar("Result")


def free_bytes(folder: Path) -> int:
    """Return how much room there is where `folder` is or will be."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


@dataclass(frozen=True)
class Hub:
    """Where models are asked for. With `offline` nothing is: only the cache counts.

    `most_bytes` is what a `cache` that has no other owner may take; None is no bound.
    """

    offline: bool = False
    endpoint: str | None = None
    cache: Path | None = None
    most_bytes: int | None = None
    free_bytes: Callable[[Path], int] = free_bytes
    sleep: Callable[[float], None] = time.sleep

    @property
    def is_offline(self) -> bool:
        from huggingface_hub import constants

        return self.offline or constants.is_offline_mode()

    @property
    def cache_folder(self) -> Path:
        from huggingface_hub import constants

        return self.cache or Path(constants.HF_HUB_CACHE)

    @property
    def address(self) -> str:
        from huggingface_hub import constants

        return self.endpoint or constants.ENDPOINT

    def patiently(self, call: Callable[[], Result], where: str) -> Result:
        """Call, and wait if the hub asks for it. Raises CuveeError for every failure."""
        for tried in range(TRIES):
            with translated(where, self.address):
                try:
                    return call()
                except Exception as error:  # all of them are raised again, but for a wait
                    wait = _wait_seconds(error, tried)
                    if wait is None:
                        raise
            logging.getLogger(__name__).warning("%s limits requests: waiting %.0f s", self.address, wait)
            self.sleep(wait)
        raise AssertionError("the last try returns or raises")


def _wait_seconds(error: Exception, tried: int) -> float | None:
    """Return how long to wait before another try; None if another makes no sense."""
    response = getattr(error, "response", None)
    is_busy = response is not None and response.status_code in (429, 503)
    if not is_busy or tried == TRIES - 1:
        return None
    wait = _retry_after(response)
    if wait is None:
        wait = float(2**tried)
    return wait if wait <= LONGEST_WAIT_SECONDS else None


def _retry_after(response: object) -> float | None:
    text = getattr(response, "headers", {}).get("Retry-After", "")
    return float(text) if text.isdecimal() else None


@contextmanager
def translated(where: str, address: str) -> Iterator[None]:
    """Turn the client library's errors into ours."""
    from huggingface_hub import errors

    try:
        yield
    except (errors.HTTPError, OSError, errors.HFValidationError) as error:
        cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) else None
        raise _ours(cause if isinstance(cause, Exception) else error, where, address) from error


def _ours(error: Exception, where: str, address: str) -> CuveeError:
    from huggingface_hub import errors

    if isinstance(error, errors.HFValidationError):
        return CheckpointError("this cannot be the name of a model on a hub", where=where, hint="it is like org/name")
    if isinstance(error, errors.GatedRepoError):
        hint = f"ask for it on {address}/{where.partition('@')[0]}, then {LOG_IN}"
        return CheckpointError("this model is gated: its owner must grant you access", where=where, hint=hint)
    if isinstance(error, errors.RevisionNotFoundError):
        return CheckpointError(f"{address} has the model, but not this revision", where=where)
    if isinstance(error, errors.EntryNotFoundError):
        return CheckpointError(f"{address} has no such file", where=where)
    if isinstance(error, errors.RepositoryNotFoundError):
        message = f"there is no such model on {address}, or it is private"
        return CheckpointError(message, where=where, hint=f"check the name; if it is private, {LOG_IN}")
    if isinstance(error, errors.HfHubHTTPError):
        return _refused(error.response, where, address)
    if _is_called(error, "TimeoutException"):
        return CheckpointError(f"{address} has stopped answering", where=where, hint=TRY_AGAIN)
    if _is_called(error, "RequestError"):
        return CheckpointError(f"cannot reach {address}: {error}", where=where, hint=UNREACHED)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutOfBudget("the disk is full", where=where, hint="free some space; what has arrived is kept")
    return CheckpointError(f"cannot be had from {address}: {error}", where=where, hint=TRY_AGAIN)


def _is_called(error: Exception, name: str) -> bool:
    """Say whether an error is of a class of the HTTP library, which has not the same name in all versions."""
    return any(kind.__name__ == name for kind in type(error).__mro__)


def _refused(response: object, where: str, address: str) -> CuveeError:
    status = getattr(response, "status_code", None)
    if status in (401, 403):
        message = f"{address} refuses access ({status}): the model is private or gated, or there is none of that name"
        return CheckpointError(message, where=where, hint=LOG_IN)
    if status == 429:
        asked = _retry_after(response)
        when = f"in {asked:.0f} s" if asked is not None else "later"
        return CheckpointError(f"{address} has had too many requests (429)", where=where, hint=f"try again {when}")
    return CheckpointError(f"{address} answers {status}", where=where, hint=TRY_AGAIN)
