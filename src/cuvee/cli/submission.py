"""cuvee submission: check, lock, pack and verify an entry to a competition."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cuvee.cli import submission_server
from cuvee.errors import RecipeError

if TYPE_CHECKING:
    from cuvee.submission.assemble import Entry
    from cuvee.submission.competition import Competition
    from cuvee.submission.verdict import Finding, Verdict

NAME = "submission"

app = typer.Typer(help="Take part in a competition: check, lock, pack and verify.", no_args_is_help=True)

RECIPE = typer.Argument(None, metavar="RECIPE", help="The recipe; nothing for a program.")
COMPETITION = typer.Option(
    None, "--competition", "-c", metavar="PATH", help="The competition's file or folder; by default that near by."
)
METHOD = typer.Option(None, "--method", metavar="FILE", help="A file with the recipe's own merge method.")
PROGRAM = typer.Option(None, "--program", metavar="FOLDER", help="A folder with a program in place of a recipe.")
MODELS = typer.Option(
    [], "--model", metavar="MODEL", help="A model that the program reads; may be given several times."
)
OFFLINE = typer.Option(False, "--offline", help="Ask no hub for anything; use what its cache has.")
AS_JSON = typer.Option(False, "--json", help="Print as JSON.")


@app.command("check")
def check(
    recipe: Path | None = RECIPE,
    competition: Path | None = COMPETITION,
    method: Path | None = METHOD,
    program: Path | None = PROGRAM,
    models: list[str] = MODELS,
    verdict: Path | None = typer.Option(
        None, "--verdict", metavar="FILE", help="Check a stored verdict again, from its own evidence; asks nobody."
    ),
    offline: bool = OFFLINE,
    as_json: bool = AS_JSON,
) -> None:
    """Check a recipe against a competition's rules: sizes, dates, licences, lineage, code. Downloads no weights."""
    from cuvee.cli.progress import shown_progress
    from cuvee.hub import Hub
    from cuvee.submission.assemble import check_entry
    from cuvee.submission.verify import check_again, read_verdict

    opened = _opened(competition, recipe or verdict)
    if verdict is not None:
        evidence, findings = check_again(read_verdict(verdict, opened), opened)
    else:
        entry = _entry(recipe, method, program, models)
        evidence, findings = check_entry(entry, opened, Hub(offline=offline), shown_progress())
    if as_json:
        from pydantic import TypeAdapter

        plain = TypeAdapter(Any).dump_python({"evidence": evidence, "findings": findings}, mode="json")
        _print_json(plain)
    else:
        _print_findings(findings)
    if any(finding.outcome == "fail" for finding in findings):
        raise typer.Exit(4)


@app.command("lock")
def lock(
    recipe: Path | None = RECIPE,
    competition: Path | None = typer.Option(
        None, "--competition", "-c", metavar="PATH", help="A competition, whose tasks are noted."
    ),
    method: Path | None = METHOD,
    program: Path | None = PROGRAM,
    models: list[str] = MODELS,
    out: Path | None = typer.Option(None, "--out", metavar="FILE", help="The file to write; by default it is printed."),
    offline: bool = OFFLINE,
) -> None:
    """Pin every model of a recipe: its commit, and the size and SHA-256 of each file."""
    from cuvee.cli.progress import shown_progress
    from cuvee.hub import Hub
    from cuvee.submission.assemble import lock_entry
    from cuvee.submission.competition_yaml import load_competition
    from cuvee.submission.pack import canonical_json

    opened = load_competition(competition) if competition is not None else None
    found = lock_entry(_entry(recipe, method, program, models), opened, Hub(offline=offline), shown_progress())
    text = canonical_json(found.to_json())
    if out is None:
        typer.echo(text.decode(), nl=False)
    else:
        _write(out, text)


@app.command("pack")
def pack(
    recipe: Path | None = RECIPE,
    out: Path = typer.Option(Path("submission.tar"), "--out", metavar="FILE", help="The archive to write."),
    competition: Path | None = COMPETITION,
    name: str = typer.Option(
        "", "--name", metavar="NAME", help="Its name on the board; by default that of the recipe's file."
    ),
    method: Path | None = METHOD,
    program: Path | None = PROGRAM,
    models: list[str] = MODELS,
    merged: Path | None = typer.Option(
        None, "--merged", metavar="FOLDER", help="The merged model: its digest goes along as a claim."
    ),
    report: Path | None = typer.Option(
        None, "--report", metavar="FOLDER", help="The folder of `evaluate --out` for the public tasks."
    ),
    offline: bool = OFFLINE,
    as_json: bool = AS_JSON,
) -> None:
    """Pack a recipe with its lock into a small archive: the same bytes for the same content, without secrets."""
    from cuvee.cli.amounts import bytes_text
    from cuvee.cli.progress import shown_progress
    from cuvee.hub import Hub
    from cuvee.submission.assemble import pack_entry
    from cuvee.submission.pack import read_archive

    entry = _entry(recipe, method, program, models, merged=merged, report=report)
    source = recipe or program or out
    title = name or source.stem
    secrets = [value for key, value in os.environ.items() if key.endswith(("_TOKEN", "_KEY", "_SECRET", "_PASSWORD"))]
    opened = _opened(competition, recipe or program)
    data = pack_entry(entry, opened, name=title, hub=Hub(offline=offline), progress=shown_progress(), secrets=secrets)
    _write(out, data)
    digest = read_archive(out).digest
    if as_json:
        _print_json({"archive": str(out), "bytes": len(data), "digest": digest, "name": title, "tier": entry.tier})
    else:
        typer.echo(f"{out}: {bytes_text(len(data))}", err=True)
        typer.echo(f"submission {digest}")


@app.command("verify")
def verify(
    archive: Path = typer.Argument(..., metavar="ARCHIVE", help="An archive of `cuvee submission pack`."),
    competition: Path | None = COMPETITION,
    out: Path | None = typer.Option(None, "--out", metavar="FILE", help="The file to write the verdict to."),
    against: Path | None = typer.Option(
        None, "--against", metavar="FILE", help="An earlier verdict that should come out again."
    ),
    private_items: Path | None = typer.Option(
        None, "--private", metavar="FOLDER", help="The organiser's: where private paths lead from."
    ),
    key: Path | None = typer.Option(
        None, "--key", metavar="FILE", help="The organiser's: the private key to sign with."
    ),
    work: Path | None = typer.Option(
        None, "--work", metavar="FOLDER", help="A new folder to keep the model in; by default none is kept."
    ),
    without: list[str] = typer.Option(
        [],
        "--without",
        metavar="WALL",
        help="A wall that may be lacking here: sandbox, for recipes that you trust; cgroup or filesystem, for code. "
        "May be given several times.",
    ),
    offline: bool = OFFLINE,
    as_json: bool = AS_JSON,
) -> None:
    """Build a submission's model again within the budget, measure it, compare, and write a verdict. Anyone can."""
    from cuvee.cli.progress import shown_progress
    from cuvee.hub import Hub
    from cuvee.submission.competition import read_wall
    from cuvee.submission.sign import read_key
    from cuvee.submission.verify import as_text, read_verdict, reproduced, signed_verdict, verify_in

    opened = _opened(competition, archive)
    signing = read_key(key) if key is not None else None
    earlier = read_verdict(against, opened) if against is not None else None
    walls = [read_wall(name) for name in without]
    options: dict[str, Any] = {"private_items": private_items, "hub": Hub(offline=offline), "without": walls}
    verdict = verify_in(work, archive, opened, earlier=earlier, progress=shown_progress(), **options)
    told = verdict.for_participants()
    document = signed_verdict(told, signing) if signing is not None else told.to_json()
    if out is not None:
        _write(out, as_text(document).encode())
    if as_json:
        _print_json(document)
    else:
        _print_verdict(verdict)
    if verdict.outcome == "errored":
        raise typer.Exit(70)
    if not reproduced(verdict):
        raise typer.Exit(4)


def _opened(competition: Path | None, entry: Path | None) -> "Competition":
    """Open the competition that was named, or else that in whose folder the entry lies, or the current folder."""
    from cuvee.submission.competition import FILE
    from cuvee.submission.competition_yaml import find_competition, load_competition

    if competition is not None:
        return load_competition(competition)
    found = find_competition(None if entry is None else entry.parent)
    if found is None:
        hint = "name it by --competition, or get it from its site: cuvee competition get URL FOLDER"
        raise RecipeError(f"there is no {FILE} here, beside the entry or in a folder above", hint=hint)
    return load_competition(found)


def _entry(recipe: Path | None, method: Path | None, program: Path | None, models: list[str], **more: Any) -> "Entry":
    from cuvee.submission.assemble import Entry

    return Entry(recipe, method, program, tuple(models), **more)


def _write(path: Path, data: bytes) -> None:
    from cuvee.checkpoint.write import write_error

    try:
        path.write_bytes(data)
    except OSError as error:
        raise write_error(error, path) from error


def _print_json(content: Any) -> None:
    import json

    typer.echo(json.dumps(content, indent=2, ensure_ascii=False))


def _print_findings(findings: "tuple[Finding, ...]") -> None:
    shown = [finding for finding in findings if finding.outcome != "pass"]
    for finding in shown:
        where = f"{finding.model}: " if finding.model else ""
        typer.echo(f"{finding.outcome}  {finding.rule}: {where}{finding.message}")
    passed = len(findings) - len(shown)
    failed = sum(finding.outcome == "fail" for finding in findings)
    typer.echo(f"{passed} checks passed, {len(shown) - failed} with a note, {failed} failed")


def _processors(seconds: float | None) -> str:
    if seconds is None:
        return "processors not measured"
    return f"{seconds:.0f} s of processors"


def _memory(number_of_bytes: int | None) -> str:
    from cuvee.cli.amounts import bytes_text

    if number_of_bytes is None:
        return "memory not measured"
    return f"{bytes_text(number_of_bytes)} of memory"


def _print_verdict(verdict: "Verdict") -> None:
    _print_findings(verdict.findings)
    if verdict.reason is not None:
        typer.echo(f"{verdict.outcome} ({verdict.reason}): {verdict.message}")
        return
    for part, scores in (("public", verdict.public), ("private", verdict.private)):
        if scores is not None:
            macro = scores.macro
            typer.echo(f"{part} score {macro.value:.1%} ({macro.low:.1%} to {macro.high:.1%}) on {macro.n} items")
    figures, found = verdict.figures, verdict.reproduction
    if figures is not None:
        took = [
            f"{figures.normalised_seconds:.0f} s of the budget",
            _processors(figures.normalised_cpu_seconds),
            _memory(figures.peak_memory_bytes),
            f"{figures.tokens:,} tokens",
        ]
        typer.echo(f"took {', '.join(took)}; sandbox: {figures.sandbox}")
    if found is not None:
        words = {name: getattr(found, name).replace("_", " ") for name in ("weights", "predictions", "scores")}
        typer.echo(", ".join(f"{name} {word}" for name, word in words.items()))
    typer.echo(f"weights digest {verdict.weights_digest}")
    typer.echo(verdict.outcome)


submission_server.add_commands(app)
