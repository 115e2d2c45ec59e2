"""A page written to a file that a person named."""

from pathlib import Path

import typer


def check_page(page: Path) -> None:
    """Find out before the work that the page cannot be written."""
    from cuvee.errors import RecipeError
    from cuvee.report.template import check_installed

    check_installed()
    if page.is_dir() or not page.absolute().parent.is_dir():
        hint = f"name a file in a folder that is there, such as {page.stem or 'page'}.html"
        raise RecipeError("the page is written to a file", where=str(page), hint=hint)


def write_page(text: str, page: Path) -> None:
    """Write the page and say so."""
    from cuvee.checkpoint.write import write_error

    try:
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise write_error(error, page) from error
    typer.echo(f"wrote {page}", err=True)
