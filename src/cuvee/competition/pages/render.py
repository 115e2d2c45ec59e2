"""Templates -> pages. Every text is escaped."""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse

from cuvee.amounts import bytes_text, points, signed
from cuvee.competition.actors import VISITOR, Actor
from cuvee.competition.service import Service
from cuvee.report.leaderboard import interval
from cuvee.report.page import duration

TIE_BREAKS = {
    "earlier": "the earlier submission",
    "cost": "lower cost",
    "tokens": "fewer tokens",
    "parameters": "fewer parameters",
}


@cache
def environment() -> jinja2.Environment:
    """Return the templates of this room."""
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(shipped_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["tie_break"] = TIE_BREAKS
    made.filters.update(
        points=points,
        signed=signed,
        interval=interval,
        duration=duration,
        moment=moment,
        count=count,
        size=size,
        bytes=bytes_text,
    )
    return made


def page(request: Request, template: str, actor: Actor = VISITOR, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a page for somebody."""
    service: Service = request.app.state.service
    common = {"competition": service.competition, "actor": actor, "path": request.url.path}
    return HTMLResponse(text(template, {**common, **values}), status_code=status)


def text(template: str, values: Mapping[str, Any], *, static_site: bool = False) -> str:
    """Fill in a template. In a static site links lead to files."""
    return environment().get_template(f"{template}.html.j2").render({**values, "static_site": static_site})


def shipped_text(name: str) -> str:
    """Return the text of a template or a static file of this room."""
    folder = "templates" if name.endswith(".j2") else "static"
    return (resources.files("cuvee.competition.pages") / folder / name).read_text(encoding="utf-8")


def moment(at: datetime | None) -> str:
    """Write a time for people, always in UTC."""
    return "–" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"


def count(number: float | None) -> str:
    """Write a count short: 950, 12.3 k, 8.0 M."""
    if number is None:
        return "no limit"
    for unit, size_of in (("G", 1e9), ("M", 1e6), ("k", 1e4)):
        if number >= size_of:
            return f"{number / (size_of if unit != 'k' else 1e3):.1f} {unit}"
    return f"{number:g}"


def size(number_of_bytes: float) -> str:
    """Write a number of bytes."""
    for unit, size_of in (("GB", 1e9), ("MB", 1e6)):
        if number_of_bytes >= size_of:
            return f"{number_of_bytes / size_of:.1f} {unit}"
    return f"{number_of_bytes / 1e3:.0f} kB"
