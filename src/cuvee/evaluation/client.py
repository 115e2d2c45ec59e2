"""A client for servers that speak OpenAI's completions API, such as vLLM, SGLang and llama.cpp: JSON over HTTP."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from cuvee.errors import EvaluationError

TRIES = 4
TRY_AGAIN = (429, 502, 503, 504)
SECONDS = 600.0
MOST_CHARACTERS = 300
"""Of what a server says about an error."""


@dataclass(frozen=True)
class Client:
    """Where a server is: `address` ends in its version, as in http://127.0.0.1:8000/v1. `key` is its password."""

    address: str
    key: str | None = None
    seconds: float = SECONDS
    sleep: Callable[[float], None] = time.sleep

    def get(self, path: str) -> Any:
        """Ask for a document. Raises EvaluationError."""
        return self._ask(path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send a document and return the answer. Raises EvaluationError."""
        return self._ask(path, json.dumps(body).encode())

    def _ask(self, path: str, body: bytes | None) -> Any:
        """Ask, some times again where the server is busy or the connection breaks."""
        for tried in range(1, TRIES + 1):
            try:
                return self._once(path, body)
            except urllib.error.HTTPError as error:
                reason = _reason(error)
                if error.code not in TRY_AGAIN or tried == TRIES:
                    raise self._error(path, f"the server answers {error.code}: {reason}") from error
            except (OSError, HTTPException) as error:
                if tried == TRIES or isinstance(getattr(error, "reason", None), ConnectionRefusedError):
                    raise self._error(path, f"the server does not answer: {error}") from error
            except ValueError as error:
                raise self._error(path, f"the server's answer is not JSON: {error}") from error
            self.sleep(2.0 ** (tried - 1))
        raise AssertionError("the last try returns or raises")

    def _once(self, path: str, body: bytes | None) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(f"{self.address}/{path}", data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=self.seconds) as response:
            return json.load(response)

    def _error(self, path: str, message: str) -> EvaluationError:
        hint = "the address ends in its version, as in http://127.0.0.1:8000/v1"
        return EvaluationError(message, where=f"{self.address}/{path}", hint=hint)


def _reason(error: urllib.error.HTTPError) -> str:
    """Return the beginning of the text that a server sends with an error, or else the name of the error."""
    text = error.read(MOST_CHARACTERS * 4).decode("utf-8", "replace")
    return text[:MOST_CHARACTERS].strip() or str(error.reason)
