"""cuvee competition serve, work, token, final, proposal, report, export, backup, restore: the organiser's server."""

import json
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import typer

if TYPE_CHECKING:
    from cuvee.competition.final import Finals


def _warn_of_password(context: typer.Context, url: str | None) -> str | None:
    """Tell who types a password among the arguments that every user of the machine sees them."""
    source = context.get_parameter_source("database")
    is_typed = source is not None and source.name == "COMMANDLINE"
    if is_typed and urlsplit(url or "").password:
        message = "every user of this machine sees the password in --database: give the URL in CUVEE_DATABASE instead"
        typer.echo(message, err=True)
    return url


FOLDER = typer.Argument(..., metavar="FOLDER", help="The competition's folder, with competition.yaml.")
DATABASE = typer.Option(
    None,
    envvar="CUVEE_DATABASE",
    callback=_warn_of_password,
    metavar="URL",
    help="URL of the database, e.g. postgresql://user@host/name; by default CUVEE_DATABASE, or else a SQLite file.",
)
SERVER = typer.Option(None, envvar="CUVEE_SERVER", metavar="URL", help="Address of the server, e.g. https://host:8000.")
TOKEN = typer.Option(None, envvar="CUVEE_TOKEN", metavar="TOKEN", help="Token to show the server.")
FINAL_VERBS = ("status", "freeze", "unfreeze", "publish")


def add_commands(app: typer.Typer) -> None:
    """Add this file's verbs to `cuvee competition`."""
    app.command("serve")(serve)
    app.command("work")(work)
    app.command("token")(token)
    app.command("final")(final)
    app.command("proposal")(proposal)
    app.command("report")(report)
    app.command("export")(export)
    app.command("backup")(backup)
    app.command("restore")(restore)


def serve(
    folder: Path = FOLDER,
    database: str | None = DATABASE,
    host: str = typer.Option("127.0.0.1", metavar="HOST", help="Address to listen on."),
    port: int = typer.Option(8000, min=1, max=65535, metavar="PORT", help="Port to listen on."),
    workers: int = typer.Option(1, min=0, metavar="N", help="Worker processes to start beside the server."),
) -> None:
    """Serve a competition: pages, API and queue. Makes a demo competition if FOLDER is empty or new."""
    _need_extra()
    from cuvee.competition.local import begin
    from cuvee.competition.run import ready, serve

    if begin(folder):
        typer.echo(f"made a competition on the bundled family in {folder}", err=True)
    _, token_file = ready(folder, database)
    typer.echo(f"http://{host}:{port}")
    if token_file is None:
        typer.echo(f"make the organiser's token: cuvee competition token {folder} organiser NAME", err=True)
    else:
        typer.echo(f"the organiser's token is in {token_file}", err=True)
    serve(folder, database_url=database, host=host, port=port, workers=workers)


def work(
    folder: Path = FOLDER,
    database: str | None = DATABASE,
    server: str | None = SERVER,
    token: str | None = TOKEN,
    name: str = typer.Option("worker", metavar="NAME", help="Name of a worker beside the database."),
    once: bool = typer.Option(False, "--once", help="Stop when nothing waits."),
    scratch: Path | None = typer.Option(
        None, "--scratch", metavar="FOLDER", help="Where jobs write; by default the system's temporary folder."
    ),
    runtime: str = typer.Option(
        "",
        "--runtime",
        metavar="NAME",
        help="Run jobs in containers of docker or podman by this runtime, such as runsc (gVisor) or kata.",
    ),
    cores: str = typer.Option(
        "", "--cores", metavar="LIST", help="Cores that this worker and its jobs keep to, such as 0-3; by default all."
    ),
    hub_cache: str = typer.Option(
        "100GB", "--hub-cache", metavar="SIZE", help="What models of a hub may take on this machine."
    ),
) -> None:
    """Judge waiting submissions: beside the database, or with --server and --token on any machine."""
    _need_extra()
    from cuvee.errors import RecipeError

    if server is not None and token is None:
        raise RecipeError("a worker for a server needs a token", hint="cuvee competition token FOLDER worker NAME")
    from cuvee.cli.amounts import parse_bytes
    from cuvee.submission.sandbox.choose import Host

    host = Host(scratch, runtime or None, parse_bytes(hub_cache, "--hub-cache"))
    if cores:
        from cuvee.submission.cores import read_cores, use_cores

        use_cores(read_cores(cores))
    if server is not None and token is not None:
        from cuvee.competition.remote import work_for

        count = work_for(folder, server, token, host, once=once)
    else:
        from cuvee.competition.run import work_beside

        count = work_beside(folder, database, name, host, once=once)
    typer.echo(f"worked on {count} {'run' if count == 1 else 'runs'}", err=True)


def token(
    folder: Path = FOLDER,
    role: str = typer.Argument(..., metavar="ROLE", help="worker, organiser, monitor or rater."),
    name: str = typer.Argument(..., metavar="NAME", help="Whose token it is."),
    database: str | None = DATABASE,
) -> None:
    """Make a token and print it; this ends earlier tokens of the same name."""
    _need_extra()
    from cuvee.competition.local import make_token, open_service
    from cuvee.competition.states import Role
    from cuvee.errors import RecipeError

    if role not in (Role.WORKER, Role.ORGANISER, Role.MONITOR, Role.RATER):
        raise RecipeError(
            f"a token is for a worker, an organiser, a monitor or a rater, not {role!r}", hint="teams join on the site"
        )
    service = open_service(folder, database)
    raters = sorted({rater for track in service.competition.tracks for rater in track.raters})
    if role == Role.RATER and name not in raters:
        named = f"the raters are {', '.join(raters)}" if raters else "no track names raters"
        raise RecipeError(
            f"{named}, and not {name!r}", where=str(folder / "competition.yaml"), hint="add it under `raters`"
        )
    typer.echo(make_token(service, Role(role), name))


def final(
    folder: Path = FOLDER,
    verb: str = typer.Argument("status", metavar="[STEP]", help="status, freeze, unfreeze or publish."),
    database: str | None = DATABASE,
) -> None:
    """Make the final ranking: freeze, wait until the chosen submissions are judged on private items, publish."""
    _need_extra()
    from cuvee.competition import final as finals
    from cuvee.competition.deadlines import in_force
    from cuvee.competition.local import ORGANISER, open_service
    from cuvee.errors import RecipeError

    if verb not in FINAL_VERBS:
        raise RecipeError(f"there is no step {verb!r}", hint=f"expected one of {', '.join(FINAL_VERBS)}")
    service = open_service(folder, database)
    with service.database.write() as connection:
        now = service.now(connection)
        if verb != "status":
            getattr(finals, verb)(connection, ORGANISER, service.competition, now)
        state = finals.finals(connection)
        of = in_force(connection, service.competition)
    for phase in of.public_phases if verb == "freeze" else ():
        if phase.closes > now:
            typer.echo(
                f"the phase {phase.name} was to take entries until {phase.closes:%Y-%m-%d %H:%M} UTC, and takes none "
                f"from now on; `cuvee competition final {folder} unfreeze` calls that off before a final run begins",
                err=True,
            )
    document = {"frozen": state.frozen, "ready": state.is_ready, "published": state.published, "runs": state.states}
    typer.echo(json.dumps(document))
    typer.echo(_next_step(state, folder), err=True)


def _next_step(state: "Finals", folder: Path) -> str:
    """Say what an organiser does next."""
    command = f"cuvee competition final {folder}"
    if state.published:
        return f"the final ranking is out; next: cuvee competition report {folder} OUT, which writes tables and figures"
    if state.is_ready:
        return f"all final runs are over: {state.in_words or 'none'}; next: {command} publish"
    if state.frozen:
        return f"frozen, final runs: {state.in_words}; workers judge them. Look again: {command}"
    return f"not begun; next, once no more entries shall come: {command} freeze"


def proposal(
    competition: Path = typer.Argument(..., metavar="COMPETITION", help="A competition's file or folder."),
    out: Path | None = typer.Option(None, "--out", metavar="FILE", help="The file to write; by default it is printed."),
    teams: int = typer.Option(40, min=2, max=1000, metavar="N", help="How many teams may come."),
) -> None:
    """Write a proposal for a conference from a competition's file: what its rules, tasks and the judge answer.

    The sections are those that reviewers of the NeurIPS competition track are asked to judge. What only you know is
    marked "To write".
    """
    _need_extra()
    from cuvee.competition.paper.proposal import plan, proposal_of
    from cuvee.errors import RecipeError
    from cuvee.submission.competition_yaml import load_competition

    if out is not None and out.exists():
        raise RecipeError("there is something here already", where=str(out), hint="name a new file")
    written = proposal_of(plan(load_competition(competition), teams))
    if out is None:
        typer.echo(written.text)
    else:
        out.write_text(written.text, encoding="utf-8")
    typer.echo(f"{written.to_write} things are left to write", err=True)


def report(
    folder: Path = FOLDER,
    out: Path = typer.Argument(..., metavar="OUT", help="Folder to write, new or empty."),
    database: str | None = DATABASE,
) -> None:
    """Write a paper's tables and figures once the final ranking is published.

    The final ranking with intervals and ranges of ranks, scores by task, methods and how they fared, the way from the
    public board to the final: as Markdown, tables as LaTeX and CSV, figures as SVG, and the judged recipes.
    """
    _need_extra()
    from cuvee.competition.local import open_service
    from cuvee.competition.paper.results import read_results
    from cuvee.competition.paper.write import write_report

    service = open_service(folder, database)
    with service.database.read() as connection:
        results = read_results(connection, service.competition, service.now(connection))
    typer.echo(f"{write_report(results, out)} files in {out}", err=True)


def export(
    folder: Path = FOLDER,
    out: Path = typer.Argument(..., metavar="OUT", help="Folder for the site, or a .json file for everything."),
    database: str | None = DATABASE,
) -> None:
    """Write the visitors' pages as a static site; or, to a .json file, the whole database for the organiser.

    With the whole database the audit log and the signatures of verdicts are checked: the command fails where a line was
    changed or taken out, and where a stored verdict or score is not the one that a worker has signed.
    """
    _need_extra()
    from cuvee.competition.local import open_service

    service = open_service(folder, database)
    if out.suffix == ".json":
        from cuvee.competition.audit import look_at_chain
        from cuvee.competition.dump import dump
        from cuvee.competition.signatures import look_at_signatures
        from cuvee.errors import PlatformError

        with service.database.read() as connection:
            content = json.dumps(dump(connection), indent=1, ensure_ascii=False)
            chain, signatures = look_at_chain(connection), look_at_signatures(connection)
        out.write_text(content, encoding="utf-8")
        typer.echo(f"{out}: everything, private scores too", err=True)
        if not chain.is_whole:
            raise PlatformError(str(chain), hint="compare with a backup or an earlier export")
        typer.echo(chain, err=True)
        if signatures.problems:
            raise PlatformError(str(signatures), hint="compare with a backup or an earlier export")
        typer.echo(signatures, err=True)
        return
    from cuvee.competition.site import write_site

    typer.echo(f"{write_site(service, out)} files in {out}", err=True)


def backup(
    folder: Path = FOLDER,
    out: Path = typer.Argument(..., metavar="OUT", help="File to write, e.g. monday.tar."),
    database: str | None = DATABASE,
) -> None:
    """Keep a competition in one file: its database as it is now, its tasks and private files, and no models.

    The server may go on meanwhile. The file holds private items and scores: keep it as you keep the private folder.
    """
    _need_extra()
    from cuvee.competition.backup import remember_backup, write_backup
    from cuvee.competition.local import ORGANISER, open_service

    service = open_service(folder, database)
    now = service.now()
    with service.database.read() as connection:
        kept = write_backup(connection, service.competition, out, now)
    remember_backup(service.database, ORGANISER, now)
    typer.echo(f"{out}: {sum(kept.rows.values())} rows of {len(kept.rows)} tables, audit log up to {kept.audit_head}")


def restore(
    backup: Path = typer.Argument(..., metavar="BACKUP", help="File that `competition backup` has written."),
    folder: Path = typer.Argument(..., metavar="FOLDER", help="Where the competition's files go; models may be there."),
    database: str | None = DATABASE,
) -> None:
    """Put a backup into a folder and an empty database, of either kind. Models are put back by hand."""
    _need_extra()
    from cuvee.competition.backup import restore_backup
    from cuvee.competition.local import database_of

    kept = restore_backup(backup, folder, database or database_of(folder))
    typer.echo(f"{folder}: {sum(kept.rows.values())} rows, as they were at {kept.made_at}")


def _need_extra() -> None:
    import importlib.util

    from cuvee.errors import MissingExtra

    packages = (
        "fastapi",
        "sqlalchemy",
        "alembic",
        "cryptography",
        "uvicorn",
        "jinja2",
        "multipart",
        "prometheus_client",
    )
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtra("server", missing=package)
