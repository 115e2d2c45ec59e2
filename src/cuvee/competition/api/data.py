"""The data room: the list of what everybody may have, and each file by the SHA-256 of its content.

No path comes from outside: a digest that is not in the list leads nowhere. See `cuvee.submission.data_room`.
"""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel

from cuvee.competition.access import Asks, Serves
from cuvee.competition.refusals import Refusal
from cuvee.submission.data_room import HandOut, Kind

routes = APIRouter(tags=["data"])
Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
FOR_EVER = "public, max-age=31536000, immutable"
BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
    206: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
}


class FileView(BaseModel):
    """A file: its name in a participant's folder, and where it is to be had: here, or from a hub as `hub_file` of a
    model's org/name@commit.

    `size` is None for a file of a hub whose size the server does not know.
    """

    name: str
    kind: Kind
    of: str
    size: int | None
    sha256: str
    licence: str | None
    hub: str | None
    hub_file: str | None


class DataView(BaseModel):
    """All that is handed out. `missing` names files that competition.yaml lists and the server does not have."""

    competition: str
    version: int
    digest: str
    files: list[FileView]
    missing: list[str]


@routes.get("/api/data", response_model=DataView)
def data(service: Serves, _actor: Asks) -> DataView:
    """List the files that everybody may have: rules, public tasks, baselines, calibration texts, models."""
    room, of = service.data_room, service.competition
    files = [_view(file) for file in room.files]
    return DataView(competition=of.name, version=of.version, digest=of.digest, files=files, missing=list(room.missing))


@routes.get("/api/data/{digest}", response_class=Response, responses=BYTES)
def data_file(service: Serves, _actor: Asks, digest: Digest) -> Response:
    """Return a file by the SHA-256 of its content. A `Range` header gets a part of it, so downloads can go on."""
    file = service.data_room.file(digest)
    if file is None or not file.is_here:
        raise Refusal("not_found", "there is no such file to be had here", hint="/api/data lists what there is")
    headers = {
        "Cache-Control": FOR_EVER,
        "ETag": f'"{digest}"',
        "Content-Disposition": f'attachment; filename="{_plain(file.name)}"',
    }
    kind = "application/octet-stream"
    if file.content is not None:
        return Response(file.content, media_type=kind, headers=headers)
    if file.place is None or not file.place.is_file():
        raise Refusal("not_found", f"the server has lost '{file.name}'", hint="tell the organiser")
    return FileResponse(file.place, media_type=kind, headers=headers)


def _view(file: HandOut) -> FileView:
    return FileView(
        name=file.name,
        kind=file.kind,
        of=file.of,
        size=file.size,
        sha256=file.sha256,
        licence=file.licence,
        hub=file.hub,
        hub_file=file.hub_file,
    )


def _plain(name: str) -> str:
    """Return the last part of a name as a header may hold it."""
    last = name.rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._-]", "_", last)
