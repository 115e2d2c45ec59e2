"""Templates -> pages. Every text is escaped."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import cache
from html import escape
from importlib import resources
from typing import Any

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2.filters import do_mark_safe

from cuvee.amounts import points, signed
from cuvee.competition.actors import VISITOR, Actor
from cuvee.competition.deadlines import in_force
from cuvee.competition.pages.final_page import control_heads, twice_heads
from cuvee.competition.pages.paging import pages_near
from cuvee.competition.pages.submission_page import rules_grid, staircase
from cuvee.competition.service import Service
from cuvee.report.heat import heat_css, heat_step
from cuvee.report.leaderboard import interval
from cuvee.report.page import duration
from cuvee.report.template import stylesheet

HOUR = 3600
DAY = 24 * HOUR

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
    made.globals.update(
        control_heads=control_heads,
        twice_heads=twice_heads,
        tie_break=TIE_BREAKS,
        pages_near=pages_near,
        rules_grid=rules_grid,
        staircase=staircase,
        style=style,
    )
    made.filters.update(
        points=points,
        signed=signed,
        interval=interval,
        duration=duration,
        moment=moment,
        plain_moment=plain_moment,
        sentence=sentence,
        ago=ago,
        until=until,
        stretch=stretch,
        whole=whole,
        heat=heat_step,
        count=count,
        size=size,
        command=command,
    )
    return made


def page(request: Request, template: str, actor: Actor = VISITOR, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a page for somebody."""
    service: Service = request.app.state.service
    with service.database.read() as connection:
        competition = in_force(connection, service.competition)
    common = {"competition": competition, "actor": actor, "path": request.url.path}
    return HTMLResponse(text(template, {**common, **values}), status_code=status)


def text(template: str, values: Mapping[str, Any], *, static_site: bool = False) -> str:
    """Fill in a template. In a static site links lead to files."""
    return environment().get_template(f"{template}.html.j2").render({**values, "static_site": static_site})


@cache
def style() -> str:
    """Return the one stylesheet of the pages. Each page holds it, so that a browser waits for no file to paint it."""
    return stylesheet(heat_css(), shipped_text("pages.css"))


@cache
def shipped_text(name: str) -> str:
    """Return the text of a template or a static file of this room."""
    folder = "templates" if name.endswith(".j2") else "static"
    return (resources.files("cuvee.competition.pages") / folder / name).read_text(encoding="utf-8")


def command(text: str) -> str:
    """Write a command so that its lines break between words alone: not within a path, nor behind the - of --token."""
    return do_mark_safe(re.sub(r"\S+", r'<span class="word">\g<0></span>', escape(text)))


def sentence(text: str) -> str:
    """Write a message, which programs add to what they say, as a sentence of its own."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def moment(at: date | None) -> str:
    """Write a time for people, in UTC, which a script turns into that of the reader; or a day, which is the same for
    all.
    """
    if at is None:
        return "–"
    written = f"{at:%Y-%m-%d}"
    if isinstance(at, datetime):
        written = f"{at.astimezone(UTC):%Y-%m-%dT%H:%MZ}"
    return do_mark_safe(f'<time datetime="{written}">{plain_moment(at)}</time>')  # digits alone stand in it


def plain_moment(at: date) -> str:
    """Write a time or a day where no element can stand, as in a title: in UTC."""
    if isinstance(at, datetime):
        return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return f"{at:%Y-%m-%d}"


def ago(at: datetime, now: datetime) -> str:
    """Write how long ago something was: "just now", "12 min ago", "2 h ago", "3 days ago"."""
    seconds = (now - at).total_seconds()
    return "just now" if seconds < 60 else f"{stretch(seconds)} ago"


def until(at: datetime, now: datetime) -> str:
    """Write how long it is until something: "in 27 days", "in 5 h", "now"."""
    seconds = (at - now).total_seconds()
    return "now" if seconds < 60 else f"in {stretch(seconds)}"


def stretch(seconds: float) -> str:
    """Write a length of time in its largest unit: "12 min", "5 h", "27 days"."""
    for unit, size, least in (("days", DAY, 2 * DAY), ("h", HOUR, HOUR)):
        if seconds >= least:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds // 60:.0f} min"


def whole(seconds: float) -> str:
    """Write a budget of time without its zeros: "10 min", "90 s", "1 h"."""
    for unit, size_of in (("h", 3600), ("min", 60)):
        if seconds >= size_of and seconds % size_of == 0:
            return f"{seconds / size_of:g} {unit}"
    return f"{seconds:g} s"


def count(number: float | None) -> str:
    """Write a count short: 950, 5,512, 12.3 k, 8 M."""
    if number is None:
        return "no limit"
    for unit, size_of in (("G", 1e9), ("M", 1e6), ("k", 1e4)):
        if number >= size_of:
            return f"{number / (size_of if unit != 'k' else 1e3):.1f} {unit}".replace(".0 ", " ")
    return f"{number:,g}"


def size(number_of_bytes: float) -> str:
    """Write a number of bytes with no more digits than a reader wants: 172 B, 9 kB, 2.8 MB."""
    if number_of_bytes < 1000:
        return f"{number_of_bytes:.0f} B"
    for unit, size_of in (("GB", 1e9), ("MB", 1e6)):
        amount = number_of_bytes / size_of
        if amount >= 100:
            return f"{amount:.0f} {unit}"
        if amount >= 1:
            return f"{amount:.1f} {unit}".replace(".0 ", " ")
    return f"{number_of_bytes / 1e3:.0f} kB"
