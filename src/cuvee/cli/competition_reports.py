"""cuvee competition reports, rate: written reports of teams, for raters and the organiser, by a server."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from cuvee.competition.client import Client

ENDINGS = {"pdf": "pdf", "text": "txt"}
REMOTE = typer.Option("http://127.0.0.1:8000", envvar="CUVEE_SERVER", metavar="URL", help="Address of the server.")
READER = typer.Option(
    ..., envvar="CUVEE_TOKEN", metavar="TOKEN", help="A rater's or the organiser's token.", show_default=False
)
TRACK = typer.Option("", metavar="NAME", help="The track of reports; needed where there are several.")


def add_commands(app: typer.Typer) -> None:
    """Add this file's verbs to `cuvee competition`."""
    app.command("reports")(reports)
    app.command("rate")(rate)


def reports(
    out: Path | None = typer.Argument(None, metavar="[OUT]", help="Folder to save the reports in, new or empty."),
    track: str = TRACK,
    server: str = REMOTE,
    token: str = READER,
    as_json: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """List the reports that teams have handed in, and save them: for raters and the organiser."""
    from cuvee.cli.amounts import bytes_text
    from cuvee.competition.client import Client
    from cuvee.errors import RecipeError

    if out is not None and out.exists() and any(out.iterdir()):
        raise RecipeError("there is something here already", where=str(out), hint="name a new folder")
    client = Client(server, token)
    name = track or only_track(client)
    listed = client.reports(name)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for each in listed:
            _save(client, name, each, out)
    if as_json:
        typer.echo(json.dumps(listed, indent=2, ensure_ascii=False))
        return
    for each in listed:
        given = "" if each["own"] is None else f"  you gave {each['own']:g}"
        earlier = " to an earlier version" if each["is_earlier"] else ""
        size = bytes_text(each["bytes"])
        typer.echo(f"{each['team']:>6}  {each['kind']:<4}  {size:>9}  {each['name']}{given}{earlier}")
    typer.echo(f"{len(listed)} {'report' if len(listed) == 1 else 'reports'}", err=True)


def _save(client: "Client", track: str, listed: dict[str, Any], out: Path) -> None:
    """Save one report under its team's number, if the server still has it."""
    if listed["is_kept"]:
        file = out / f"team-{int(listed['team'])}.{ENDINGS[listed['kind']]}"
        file.write_bytes(client.report_of(track, listed["team"]))


def rate(
    team: int = typer.Argument(..., metavar="TEAM", min=1, help="The team's number, as `reports` lists it."),
    score: str = typer.Argument(..., metavar="SCORE", help="What the report gets, or `none` to take it back."),
    rater: str = typer.Option("", metavar="NAME", help="Whose score the organiser enters; raters give their own."),
    track: str = TRACK,
    server: str = REMOTE,
    token: str = READER,
) -> None:
    """Enter what a rater gives a team's report. Teams see the mean and the range with the final ranking."""
    from cuvee.competition.client import Client

    value = None if score == "none" else _score(score)
    client = Client(server, token)
    name = track or only_track(client)
    client.rate(name, team, value, rater)
    typer.echo(f"{name}, team {team}: " + ("taken back" if value is None else f"{value:g}"))


def _score(text: str) -> float:
    from math import isfinite

    from cuvee.errors import RecipeError

    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise RecipeError(f"expected a number or 'none' as the score, found {text!r}")
    return value


def only_track(client: "Client") -> str:
    """Return the one track of a server that takes reports. Raises RecipeError where there is none or more than one."""
    from cuvee.errors import RecipeError

    names = [str(each["name"]) for each in client.tracks() if each["upload"]]
    if len(names) == 1:
        return names[0]
    if not names:
        raise RecipeError("no track of this competition takes reports on the server")
    raise RecipeError("several tracks take reports", hint=f"say --track, one of {', '.join(names)}")
