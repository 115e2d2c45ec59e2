"""cuvee competition: make and check a competition."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cuvee.cli import competition_reports, competition_server

if TYPE_CHECKING:
    from cuvee.submission.judging_time import JudgingTime

NAME = "competition"

app = typer.Typer(help="Run a competition in which people hand in recipes.", no_args_is_help=True)


@app.command("new")
def new(
    folder: Path = typer.Argument(..., metavar="FOLDER", help="The folder to write, new or empty."),
    template: str = typer.Option(
        "family", metavar="NAME", help="family: works as it is; original: the NeurIPS 2024 LLM merging competition."
    ),
    seed: str = typer.Option("", metavar="TEXT", help="The seed of the private items; by default a secret one."),
    name: str = typer.Option("", metavar="NAME", help="A short name for addresses; by default the template's."),
    title: str = typer.Option("", metavar="TEXT", help="Its title for people; by default the template's."),
    opens: str = typer.Option("", metavar="TIME", help="When it opens, such as 2026-12-01T12:00Z; by default now."),
    items: int = typer.Option(200, min=1, max=200, metavar="N", help="Items of each part of each task."),
    calibrated: bool = typer.Option(True, help="Measure how fast this machine is; budgets are told in its seconds."),
) -> None:
    """Write a competition: rules, budget, phases, tasks, models, baselines, and a key to sign verdicts with."""
    import secrets

    from cuvee.submission.hardware import calibrate
    from cuvee.submission.template import new_competition, new_original

    options = {key: value for key, value in (("name", name), ("title", title)) if value}
    now = _moment(opens) if opens else None
    if template == "original":
        made = new_original(folder, now=now, **options)
    elif template == "family":
        speed = calibrate() if calibrated else None
        made = new_competition(
            folder, seed or secrets.token_hex(16), now=now, items=items, calibration_seconds=speed, **options
        )
    else:
        from cuvee.errors import RecipeError

        raise RecipeError(f"--template: expected family or original, found '{template}'")
    phases = ", ".join(f"{phase.name} until {phase.closes:%Y-%m-%d}" for phase in made.phases)
    typer.echo(f"{made.folder}: {made.title}; {phases}")
    typer.echo(f"keep {made.folder / 'private'} to yourself", err=True)
    typer.echo(f"next: cuvee competition check {folder}, then cuvee competition serve {folder}", err=True)


@app.command("check")
def check(
    competition: Path = typer.Argument(..., metavar="COMPETITION", help="A competition's file or folder."),
    teams: int = typer.Option(40, min=2, max=1000, metavar="N", help="How many teams may come."),
    level: float = typer.Option(60.0, min=5, max=95, metavar="POINTS", help="What a middling entry will score."),
    spread: float = typer.Option(10.0, min=0, max=50, metavar="POINTS", help="How far the teams' true scores spread."),
    offline: bool = typer.Option(False, "--offline", help="Ask no hub for anything; use what its cache has."),
    as_json: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Check that a competition holds together: tasks, models, key and baselines; and say what its items can tell apart.

    The smallest gap that is told apart in four of five pairs of entries comes from simulated competitions. How long
    judging takes at most follows from the budget and the quotas. Notes say what is missing and need not be there.
    """
    from cuvee.competition.power import powers_of
    from cuvee.errors import several
    from cuvee.hub import Hub
    from cuvee.submission.competition_yaml import load_competition
    from cuvee.submission.judging_time import judging_time
    from cuvee.submission.organise import check_competition

    opened = load_competition(competition)
    found = check_competition(opened, Hub(offline=offline))
    weights = {task.name: task.weight for task in opened.tasks}
    powers = powers_of(found.counts, weights, level=level / 100, teams=teams, spread=spread / 100)
    time = judging_time(opened, teams)
    if as_json:
        import json
        from dataclasses import asdict

        plain = {key: getattr(found, key) for key in ("public_items", "private_items", "models", "sandbox", "notes")}
        plain |= {"power": {part: asdict(power) for part, power in powers.items()}, "judging": asdict(time)}
        typer.echo(json.dumps({**plain, "problems": [str(problem) for problem in found.problems]}, indent=2))
        if found.problems:
            raise typer.Exit(2)
        return
    if found.problems:
        raise several(found.problems)
    for note in found.notes:
        typer.echo(f"note: {note}")
    typer.echo(
        f"{opened.title}, version {opened.version}: {len(opened.tasks)} tasks with {found.public_items} public and "
        f"{found.private_items} private items, {found.models} models, sandbox: {found.sandbox}"
    )
    for part, power in powers.items():
        typer.echo(
            f"{power.items} {part} items tell {100 * power.gap:.1f} points apart in 4 of 5 cases; of {teams} teams "
            f"within {spread:g} points about {power.share_first} would share the first place"
        )
    for line in _hours_of_judging(time):
        typer.echo(line)


@app.command("get")
def get(
    url: str = typer.Argument(..., metavar="URL", help="The competition's address, e.g. https://host:8000."),
    folder: Path | None = typer.Argument(
        None, metavar="[FOLDER]", help="Where to put the files; by default a folder of the competition's name."
    ),
    models: bool = typer.Option(True, help="Get the models, too; without them there are the rules and the tasks."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace files that differ from the competition's."),
    offline: bool = typer.Option(False, "--offline", help="Ask no hub for models; use what its cache has."),
    as_json: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Get the files of a competition: rules, public tasks, baselines, texts and models, each checked by its SHA-256.

    Run an interrupted download again to resume it: files that are there already stay.
    """
    from cuvee.cli.amounts import bytes_text
    from cuvee.cli.progress import shown_progress
    from cuvee.competition.client import Client
    from cuvee.competition.fetch import get
    from cuvee.hub import Hub

    client, hub = Client(url, ""), Hub(offline=offline)
    fetched = get(client, folder, models=models, overwrite=overwrite, hub=hub, progress=shown_progress())
    for name in fetched.missing:
        typer.echo(f"the server has no '{name}', which the rules name: tell the organiser", err=True)
    if as_json:
        import json
        from dataclasses import asdict

        typer.echo(json.dumps({**asdict(fetched), "folder": str(fetched.folder)}, indent=2))
        return
    left_out = f", {len(fetched.left_out)} left out" if fetched.left_out else ""
    typer.echo(
        f"{fetched.folder}: {fetched.competition}, version {fetched.version} of its rules; "
        f"{len(fetched.brought)} files ({bytes_text(fetched.bytes)}) came, {len(fetched.kept)} were there{left_out}"
    )


@app.command("check-verdict")
def check_verdict(
    file: Path = typer.Argument(..., metavar="FILE", help="A signed verdict, as a competition's server hands it out."),
    key: str = typer.Option(
        "", metavar="KEY", help="The public key that must have signed it, e.g. one of those on the guide's page."
    ),
    archive: Path | None = typer.Option(
        None, "--archive", metavar="ARCHIVE", help="The submission that it must be of, as it was sent."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the signed verdict as JSON."),
) -> None:
    """Check that a worker has signed a verdict, and print the verdict. Needs no server."""
    import json

    from cuvee.submission.statement import content_in, read_signed

    public_key, statement = read_signed(file, trusted=key or None, archive=archive)
    if as_json:
        typer.echo(json.dumps({"public_key": public_key, **content_in(statement)}, indent=2, ensure_ascii=False))
        return
    verdict = statement.verdict
    typer.echo(f"signed by {public_key}")
    typer.echo(f"{verdict.competition}: {statement.purpose} run {statement.run} of submission {verdict.submission}")
    score = f", public score {verdict.public.macro.value:.1%}" if verdict.public else ""
    typer.echo(f"{verdict.outcome}{score}, judged {verdict.judged:%Y-%m-%d %H:%M} UTC")
    if not key:
        typer.echo(
            "anybody may have a key: compare this one with those on the guide's page, or name it by --key", err=True
        )


def _hours_of_judging(time: "JudgingTime") -> Iterator[str]:
    """Say how much workers may have to judge."""
    told = f"judging an entry takes at most {time.seconds:g} s, so a worker judges at least {time.a_worker_a_day} a day"
    if time.entries_a_day is None:
        yield f"{told}; teams may send any number"
    else:
        sent = f"{time.teams} teams may send {time.entries_a_day} a day"
        yield f"{told}; {sent}, which {time.workers} workers keep up with"
    if time.final_runs:
        hours = (
            f"{time.final_seconds / 3600:.0f} h" if time.final_seconds >= 7200 else f"{time.final_seconds / 60:.0f} min"
        )
        yield f"the final ranking is made of at most {time.final_runs} entries: {hours} of one worker"


def _moment(text: str) -> datetime:
    from datetime import UTC

    from cuvee.errors import RecipeError

    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise RecipeError(f"--opens: expected a time such as 2026-12-01T12:00Z, found '{text}'") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


competition_server.add_commands(app)
competition_reports.add_commands(app)
