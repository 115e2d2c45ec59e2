"""A folder for a paper: the report as Markdown, its tables as LaTeX and CSV, its figures as SVG, the recipes.

report.md      all of it, to be read at once
tables/        final, tasks, methods, controls, and one of each track: .tex and .csv
figures/       final, slope, and one of each track by score: .svg
recipes/       of the final ranking, as they were judged
"""

from collections.abc import Iterator
from pathlib import Path

from cuvee.competition.pages.final_page import verdict_of
from cuvee.competition.paper.figures import figures_of
from cuvee.competition.paper.results import Results
from cuvee.competition.paper.tables import Table, in_markdown, tables_of
from cuvee.errors import RecipeError

REPORT = "report.md"


def _is_empty_folder(place: Path) -> bool:
    return place.is_dir() and not any(place.iterdir())


def write_report(results: Results, folder: Path) -> int:
    """Write a report to an empty or new folder. Return how many files were written.

    Raises RecipeError where something is in the folder already: files of an earlier ranking would look like this one's.
    """
    if folder.exists() and not _is_empty_folder(folder):
        raise RecipeError("there is something here already", where=str(folder), hint="name a new folder")
    files = files_of(results)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return len(files)


def files_of(results: Results) -> dict[str, str]:
    """Return the files of a report, by their names."""
    tables, figures = tables_of(results), figures_of(results.final, results.tracks)
    files = {f"figures/{name}": text for name, text in figures.items()}
    for table in tables:
        files[f"tables/{table.name}.tex"] = table.latex()
        files[f"tables/{table.name}.csv"] = table.csv_text
    files |= dict(_recipes(results))
    files[REPORT] = _report(results, tables, figures)  # last, so that whoever sees it sees the rest
    return files


def _recipes(results: Results) -> Iterator[tuple[str, str]]:
    """Yield the recipes of participants in the final ranking, by the number of the submission."""
    for place in results.final.places:
        entry = results.sent.get(place.submission)
        if entry is not None and entry.recipe.strip():
            yield f"recipes/submission-{entry.submission_id}.yaml", entry.recipe


def _report(results: Results, tables: tuple[Table, ...], figures: dict[str, str]) -> str:
    of, counted, verdict = results.competition, results.numbers, verdict_of(results.final)
    parts = [f"# {in_markdown(of.title)}", "", in_markdown(of.description.strip()), ""]
    if verdict is not None:
        sentences = [verdict.sentence, *verdict.more]
        parts += [in_markdown(" ".join(sentences)), ""]
    opens, closes = of.phases[0].opens, min(of.phases[-1].closes, results.published_at)
    joined = "1 team" if counted.teams == 1 else f"{counted.teams} teams"
    sent = "1 entry" if counted.entries == 1 else f"{counted.entries} entries"
    scored = "1 has" if counted.judged == 1 else f"{counted.judged} have"
    parts += [
        f"- {joined} joined and sent {sent}; {scored} a public score.",
        f"- It ran from {opens:%Y-%m-%d} to {closes:%Y-%m-%d}; the ranking was published on "
        f"{results.published_at:%Y-%m-%d}.",
        f"- Rules: version {of.version} of `{in_markdown(of.name)}`, SHA-256 `{of.digest}`.",
        f"- The audit log ends with `{results.audit_head}`.",
        "",
    ]
    for table in tables:
        parts += [f"## {in_markdown(table.title)}", "", table.markdown()]
        if table.name == "final":
            parts += [f"![{alt}](figures/{name})\n" for name, alt in ALT.items() if name in figures]
        if f"{table.name}.svg" in figures and table.name != "final":
            parts.append(f"![{in_markdown(table.title)}: scores with their 95 % intervals](figures/{table.name}.svg)\n")
    return "\n".join(parts)


ALT = {
    "final.svg": "Final scores with their 95 % intervals",
    "slope.svg": "From the public score of each team to its final one",
}
