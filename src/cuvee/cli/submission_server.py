"""cuvee submission send, status, logs, quota: a team's dealings with a competition's server."""

import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from cuvee.competition.client import Client

SERVER = typer.Option("http://127.0.0.1:8000", envvar="CUVEE_SERVER", metavar="URL", help="Address of the server.")
TOKEN = typer.Option(..., envvar="CUVEE_TOKEN", metavar="TOKEN", help="The team's token.", show_default=False)
JSON = typer.Option(False, "--json", help="Print one JSON document.")
NUMBER = typer.Argument(..., metavar="NUMBER", help="The submission's number.")


def add_commands(app: typer.Typer) -> None:
    """Add this file's verbs to `cuvee submission`."""
    app.command("send")(send)
    app.command("status")(status)
    app.command("logs")(logs)
    app.command("quota")(quota)
    app.command("report")(report)


def send(
    what: Path = typer.Argument(..., metavar="WHAT", help="An archive of `cuvee submission pack`, or a recipe."),
    server: str = SERVER,
    token: str = TOKEN,
    title: str = typer.Option("", metavar="TEXT", help="Its title on the board."),
    competition: Path | None = typer.Option(None, metavar="PATH", help="competition.yaml; by default the server's."),
    wait: bool = typer.Option(False, "--wait", help="Wait until it is judged."),
    as_json: bool = JSON,
) -> None:
    """Send a submission; a recipe is locked and packed first. Exit code 4 if it ends without a score."""
    client = _client(server, token)
    content = what.read_bytes() if _is_archive(what) else _packed(client, what, title, competition)
    sent = client.send(content, title)
    for latest in client.followed(sent["id"]) if wait else ():
        sent = latest
        if not as_json:
            _tell(sent)
    _print(sent, as_json)
    if wait and sent["state"] != "scored":
        raise typer.Exit(70 if sent["state"] in OURS else 4)


OURS = frozenset({"errored", "suspect", "quarantined"})
"""The states of a run that our side has to end."""


def status(
    number: int | None = typer.Argument(None, metavar="[NUMBER]", help="A submission; by default the newest."),
    server: str = SERVER,
    token: str = TOKEN,
    as_json: bool = JSON,
) -> None:
    """Show how a submission stands, or list the team's newest."""
    client = _client(server, token)
    if number is not None:
        _print(client.submission(number), as_json)
        return
    listed = client.submissions()
    if as_json:
        typer.echo(json.dumps(listed, indent=2, ensure_ascii=False))
        return
    for each in listed:
        typer.echo(f"{each['id']:>6}  {each['state']:<9}  {_score(each):<22}  {each['title']}")


def logs(number: int = NUMBER, server: str = SERVER, token: str = TOKEN, as_json: bool = JSON) -> None:
    """Print the judge's log, where the phase shows logs."""
    written = _client(server, token).logs(number)
    typer.echo(json.dumps({"id": number, "log": written}, ensure_ascii=False) if as_json else written)


def quota(server: str = SERVER, token: str = TOKEN, as_json: bool = JSON) -> None:
    """Show how many submissions are left."""
    left = _client(server, token).quota()
    if as_json:
        typer.echo(json.dumps(left, indent=2))
        return
    remaining = "no limit" if left["remaining"] is None else f"{left['remaining']} left now"
    typer.echo(f"phase {left['phase']}: {remaining}")
    for label, used, limit in (
        ("today", left["used_today"], left["per_day"]),
        ("in all", left["used_total"], left["total"]),
        ("under way", left["waiting"], left["waiting_at_most"]),
    ):
        typer.echo(f"  {label}: {used} of {'any number' if limit is None else limit}")
    typer.echo(f"  the next day begins at {left['next_day']}")


def report(
    file: Path = typer.Argument(..., metavar="FILE", help="The report: a PDF, or a text such as Markdown."),
    track: str = typer.Option("", metavar="NAME", help="The track of reports; needed where there are several."),
    server: str = SERVER,
    token: str = TOKEN,
    as_json: bool = JSON,
) -> None:
    """Hand in your team's report for a track of reports, in place of an earlier one, until the deadline."""
    from cuvee.cli.amounts import bytes_text
    from cuvee.cli.competition_reports import only_track
    from cuvee.errors import CheckpointError

    try:
        content = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read it: {error.strerror}", where=str(file)) from error
    client = _client(server, token)
    sent = client.report(track or only_track(client), content)
    if as_json:
        typer.echo(json.dumps(sent, indent=2, ensure_ascii=False))
        return
    kind = "PDF" if sent["kind"] == "pdf" else "text"
    typer.echo(f"the report of {sent['name']} is in: {kind}, {bytes_text(sent['bytes'])}, SHA-256 {sent['sha256']}")


def _client(server: str, token: str) -> "Client":
    from cuvee.competition.client import Client

    return Client(server, token)


def _tell(sent: dict[str, Any]) -> None:
    """Say how far a submission is, while it waits or runs."""
    if sent["state"] in ("queued", "running"):
        place = f", place {sent['queue_position']} in the queue" if sent["queue_position"] else ""
        typer.echo(f"{sent['state']}{place} {sent['progress']}".rstrip(), err=True)


def _is_archive(path: Path) -> bool:
    from cuvee.errors import CheckpointError

    try:
        return tarfile.is_tarfile(path) or path.suffix in (".tar", ".gz")
    except OSError as error:
        raise CheckpointError(f"cannot read it: {error.strerror}", where=str(path)) from error


def _packed(client: "Client", recipe: Path, title: str, competition: Path | None) -> bytes:
    import os

    from cuvee.cli.progress import shown_progress
    from cuvee.hub import Hub
    from cuvee.submission.assemble import Entry, pack_entry
    from cuvee.submission.competition_yaml import load_competition, parse_competition

    if competition is not None:
        known = load_competition(competition)
    else:
        known = parse_competition(client.competition()["text"], folder=Path.cwd(), source="the server's competition")
    secrets = [value for key, value in os.environ.items() if key.endswith(("_TOKEN", "_KEY", "_SECRET", "_PASSWORD"))]
    name = title or recipe.stem
    return pack_entry(Entry(recipe), known, name=name, hub=Hub(), progress=shown_progress(), secrets=secrets)


def _print(sent: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(sent, indent=2, ensure_ascii=False))
        return
    typer.echo(f"submission {sent['id']} '{sent['title']}': {sent['state']}, {sent['meaning']}")
    if sent["score"]:
        typer.echo(f"  score {_score(sent)}")
        for task, figure in sent["tasks"].items():
            typer.echo(f"    {task}: {100 * figure['value']:.1f}")
    for line in (sent["feedback"], sent["reason"]):
        if line:
            typer.echo(f"  {line}")


def _score(sent: dict[str, Any]) -> str:
    if not sent["score"]:
        return ""
    value, low, high = (100 * sent["score"][name] for name in ("value", "low", "high"))
    return f"{value:.1f} ({low:.1f} to {high:.1f})"
