"""What requests may hold, as types; text is checked for what no database keeps."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from cuvee.competition.access import service_of
from cuvee.competition.runs import HIDDEN, PUBLIC
from cuvee.submission.expected import ControlScore
from cuvee.submission.statement import PUBLIC_KEY, Signature
from cuvee.submission.verdict import Verdict

LARGEST_NUMBER = 2**31 - 1


def _is_control(character: str) -> bool:
    if character in "\n\t":
        return False
    return ord(character) < 32 or character == "\x7f"


def _visible(text: str) -> str:
    if any(map(_is_control, text)):
        raise ValueError("text may hold no control characters")
    return text


Number = Annotated[int, Path(ge=1, le=LARGEST_NUMBER)]
Before = Annotated[int | None, Query(ge=1, le=LARGEST_NUMBER)]
TeamNumber = Annotated[int, Query(ge=1, le=LARGEST_NUMBER)]
AnyTeam = Annotated[int | None, Query(ge=1, le=LARGEST_NUMBER)]
Limit = Annotated[int, Query(ge=1, le=200)]
TrackName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Purpose = Annotated[str, Query(pattern=f"^({PUBLIC}|{HIDDEN})$")]
Line = Annotated[str, Field(max_length=120), AfterValidator(_visible)]
Text = Annotated[str, Field(max_length=2000), AfterValidator(_visible)]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$")]


class Body(BaseModel):
    """A request: exactly these fields."""

    model_config = ConfigDict(extra="forbid")


class NewTeam(Body):
    name: Line
    members: Annotated[list[Line], Field(max_length=50)] = []


class Joining(NewTeam):
    """Who registers by itself may need the code of an invitation."""

    invitation: Line = ""


class Chosen(Body):
    chosen: bool


class Hidden(Body):
    hidden: bool


class Paused(Body):
    paused: bool


class Many(Body):
    """Public runs of a state, or those of one reason."""

    state: Annotated[str, Field(max_length=40)]
    reason_code: Annotated[str, Field(max_length=40)] = ""


class Told(Body):
    text: Text


class Rated(Body):
    """What a rater gives a team's report in a track; null takes it back."""

    track: Annotated[str, Field(max_length=100)]
    team: Annotated[int, Field(ge=1, le=LARGEST_NUMBER)]
    rater: Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_visible)]
    value: Annotated[float | None, Field(allow_inf_nan=False)]


class GivenScore(Body):
    """What a rater gives a report; null takes it back. The organiser names the rater, and a rater none."""

    value: Annotated[float | None, Field(allow_inf_nan=False)]
    rater: Annotated[str, Field(max_length=80), AfterValidator(_visible)] = ""


class Deadline(Body):
    """A phase, and when it closes from now on."""

    phase: Annotated[str, Field(max_length=100)]
    closes: datetime


class Note(Body):
    note: Text


class NewWorker(Body):
    name: Label


Share = Annotated[float, Field(ge=0, le=1)]


class Control(Body):
    """What a model of the competition scores on a worker's machine."""

    model: Line
    items: Annotated[dict[Line, Annotated[list[Share], Field(min_length=1, max_length=100)]], Field(max_length=200)]
    answers: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    versions: Annotated[dict[Line, Line], Field(max_length=30)]

    def score(self) -> ControlScore:
        """Return it as the rest of the code takes it."""
        items = {task: tuple(scores) for task, scores in self.items.items()}
        return ControlScore(self.model, items, self.answers, self.versions)


class Hello(Body):
    """What a worker says of itself. `ready` is false where it takes itself out, `failed` true where its test failed."""

    ready: bool
    failed: bool = False
    reason: Text = ""
    competition_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    public_key: Annotated[str, Field(pattern=PUBLIC_KEY)]
    hardware: Annotated[dict[Line, Line], Field(max_length=30)] = {}
    control: Control | None = None


class Held(Body):
    """The number of the lease under which a worker writes."""

    fence: Annotated[int, Field(ge=1, le=LARGEST_NUMBER)]


class Renewal(Held):
    progress: Annotated[str, Field(max_length=200), AfterValidator(_visible)] = ""


class Failure(Held):
    reason: Text


class Finished(Held):
    verdict: Verdict
    signature: Signature


async def sent_archive(request: Request) -> AsyncIterator["SentArchive"]:
    """Read the body; the time that counts is that of its last byte."""
    content = await request.body()
    yield SentArchive(content, await run_in_threadpool(service_of(request).now))


class SentArchive:
    """An archive as it came, and when all of it was there."""

    def __init__(self, content: bytes, at: datetime) -> None:
        self.content = content
        self.at = at


Sent = Annotated[SentArchive, Depends(sent_archive)]
ARCHIVE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
