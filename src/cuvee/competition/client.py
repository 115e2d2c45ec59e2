"""The competition's API for programs: what `cuvee submission send` and remote workers speak.

Made for a network that fails: what may be sent twice is, with longer and longer waits, and a submission carries a key
by which the server knows it again.
"""

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx2

from cuvee.competition.fitness import Fitness
from cuvee.competition.job import Job
from cuvee.competition.refusals import STATUS, Refusal
from cuvee.errors import PlatformError, RecipeError
from cuvee.submission.sign import public_key
from cuvee.submission.statement import sign_verdict
from cuvee.submission.verdict import Verdict

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

TRIES = 8
FIRST_WAIT, LONGEST_WAIT = 0.25, 8.0
TRY_AGAIN = frozenset({502, 503, 504})
OVER = frozenset({"scored", "rejected", "failed", "errored", "cancelled", "suspect", "quarantined"})


@dataclass(frozen=True)
class Client:
    """A server, and the token to show it. `http` and `sleep` are replaced by tests."""

    server: str
    token: str
    http: httpx2.Client = field(default_factory=lambda: httpx2.Client(timeout=30.0))
    sleep: Callable[[float], None] = time.sleep

    def send(self, archive: bytes, title: str = "", *, key: str = "") -> dict[str, Any]:
        """Send a submission and return it as the server shows it. With the same `key` it is the same submission."""
        headers = {"Content-Type": "application/octet-stream", "X-Request-Key": key or secrets.token_hex(16)}
        params = {"title": title} if title else {}
        return dict(self._ask("POST", "/api/submissions", content=archive, headers=headers, params=params))

    def submission(self, number: int) -> dict[str, Any]:
        """Return a submission."""
        return dict(self._ask("GET", f"/api/submissions/{number}"))

    def submissions(self) -> list[dict[str, Any]]:
        """Return the team's newest submissions."""
        return list(self._ask("GET", "/api/submissions"))

    def competition(self) -> dict[str, Any]:
        """Return the competition as the server shows it."""
        return dict(self._ask("GET", "/api/competition"))

    def data(self) -> dict[str, Any]:
        """Return the list of what the competition hands out."""
        return dict(self._ask("GET", "/api/data"))

    @property
    def address(self) -> str:
        """The server's address without a slash at its end."""
        return self.server.rstrip("/")

    def quota(self) -> dict[str, Any]:
        """Return what is left."""
        return dict(self._ask("GET", "/api/quota"))

    def logs(self, number: int) -> str:
        """Return a submission's log."""
        return self._answer("GET", f"/api/submissions/{number}/logs").text

    def board(self) -> dict[str, Any]:
        """Return the public board."""
        return dict(self._ask("GET", "/api/board"))

    def followed(self, number: int, *, seconds: float = 1.0) -> Iterator[dict[str, Any]]:
        """Yield a submission whenever it has changed, until it is over."""
        last: dict[str, Any] | None = None
        while True:
            now = self.submission(number)
            if now != last:
                yield now
            if now["state"] in OVER:
                return
            last = now
            self.sleep(seconds)

    def report(self, track: str, content: bytes) -> dict[str, Any]:
        """Hand in a report, in place of an earlier one."""
        headers = {"Content-Type": "application/octet-stream"}
        return dict(self._ask("POST", f"/api/tracks/{quote(track, safe='')}/report", content=content, headers=headers))

    def reports(self, track: str) -> list[dict[str, Any]]:
        """Return the reports of a track that this token may read."""
        return list(self._ask("GET", f"/api/tracks/{quote(track, safe='')}/reports"))

    def report_of(self, track: str, team: int) -> bytes:
        """Return a team's report as it came."""
        return self._answer("GET", f"/api/tracks/{quote(track, safe='')}/reports/{team}").content

    def rate(self, track: str, team: int, value: float | None, rater: str = "") -> list[dict[str, Any]]:
        """Enter what a rater gives a report; None takes it back."""
        body = {"value": value, "rater": rater}
        return list(self._ask("POST", f"/api/tracks/{quote(track, safe='')}/reports/{team}/rating", json=body))

    def tracks(self) -> list[dict[str, Any]]:
        """Return all tracks as the server shows them."""
        return list(self._ask("GET", "/api/tracks"))

    def organise(self, verb: str, body: Any = None) -> Any:
        """Do one of the organiser's verbs that have no more than a path."""
        return self._ask("POST", f"/api/organiser/{verb}", json=body)

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        return self._answer(method, path, **options).json()

    def _answer(self, method: str, path: str, *, tries: int = TRIES, **options: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= options.pop("headers", {})
        wait, trouble = FIRST_WAIT, ""
        for attempt in range(tries):
            if attempt:
                self.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)
            try:
                response = self.http.request(method, self.address + path, headers=headers, **options)
            except httpx2.InvalidURL as error:
                raise RecipeError(
                    f"{self.server!r} is no address of a server", hint="e.g. https://host:8000"
                ) from error
            except httpx2.HTTPError as error:
                trouble = f"{type(error).__name__}: {error}"
                continue
            if response.status_code not in TRY_AGAIN:
                return checked(response)
            trouble = f"HTTP {response.status_code}"
        raise PlatformError(f"the server does not answer: {trouble}", where=self.server, hint="try again later")


@dataclass(frozen=True)
class ServerSource:
    """The queue of a server, for a worker on another machine. It signs its verdicts with `key`."""

    client: Client
    competition_digest: str
    key: "Ed25519PrivateKey"

    def enter(self, fitness: Fitness) -> str:
        control = None if fitness.control is None else asdict(fitness.control)
        return self._say_hello({"ready": True, "hardware": dict(fitness.hardware), "control": control})

    def leave(self, reason: str) -> None:
        self._say_hello({"ready": False, "reason": reason})

    def failed(self, reason: str) -> None:
        self._say_hello({"ready": False, "failed": True, "reason": reason})

    def claim(self) -> Job | None:
        found = self.client._ask("POST", "/api/worker/claim")
        return Job(**found) if found else None

    def archive(self, job: Job) -> bytes:
        path = f"/api/worker/runs/{job.run_id}/archive"
        return self.client._answer("GET", path, params={"fence": job.fence}).content

    def renew(self, job: Job, progress: str) -> None:
        self._write(job, "renew", {"progress": progress}, tries=2)

    def finish(self, job: Job, verdict: Verdict) -> None:
        signature = sign_verdict(verdict, run=job.run_id, fence=job.fence, purpose=job.purpose, key=self.key)
        self._write(job, "finish", {"verdict": verdict.to_json(), "signature": asdict(signature)})

    def give_up(self, job: Job, reason: str) -> None:
        self._write(job, "give-up", {"reason": reason})

    def _say_hello(self, body: Mapping[str, Any]) -> str:
        body = {**body, "competition_digest": self.competition_digest, "public_key": public_key(self.key)}
        return str(self.client._ask("POST", "/api/worker/hello", json=body)["objection"])

    def _write(self, job: Job, verb: str, body: Mapping[str, Any], tries: int = TRIES) -> None:
        path = f"/api/worker/runs/{job.run_id}/{verb}"
        self.client._ask("POST", path, json={"fence": job.fence, **body}, tries=tries)


def checked(response: httpx2.Response) -> httpx2.Response:
    """Return an answer that is none of a problem; raise what a problem says."""
    if response.status_code < 400:
        return response
    try:
        problem = response.json()["error"]
        code, message, hint = problem["code"], problem["message"], problem["hint"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        text = response.text[:200]
        raise PlatformError(f"this is no competition server: HTTP {response.status_code} {text}") from error
    if code in STATUS:
        raise Refusal(code, message, hint=hint)
    raise PlatformError(message, hint=hint)
