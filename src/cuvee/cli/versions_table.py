"""cuvee --version --verbose: the versions that are installed beside those that were tested."""

import platform
from itertools import chain

from packaging.version import Version

from cuvee.version import __version__
from cuvee.versions import installed_version, is_untested, tested_environments, tested_range


def rows() -> list[tuple[str, str, str, str]]:
    """Return for Python and each tested library: name, installed version, tested range, and a mark outside of it."""
    tested = set(chain.from_iterable(tested_environments().values()))
    libraries = sorted(tested - {"python"})
    return [_python_row(), *(_library_row(library) for library in libraries)]


def _library_row(library: str) -> tuple[str, str, str, str]:
    mark = "not tested" if is_untested(library) else ""
    return library, installed_version(library) or "-", _range(library), mark


def _python_row() -> tuple[str, str, str, str]:
    """Python's last number, for mended defects, does not count."""
    tested = tested_range("python")
    if tested is None:
        return "python", platform.python_version(), "-", ""
    lowest, highest = (Version(bound).release[:2] for bound in tested)
    inside = lowest <= Version(platform.python_version()).release[:2] <= highest
    return "python", platform.python_version(), _range("python"), "" if inside else "not tested"


def _range(library: str) -> str:
    lowest, highest = tested_range(library) or ("-", "-")
    return lowest if lowest == highest else f"{lowest} to {highest}"


def print_versions() -> None:
    """Print the table."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"cuvee {__version__}", title_justify="left")
    for heading in ("library", "installed", "tested", ""):
        table.add_column(heading, no_wrap=True)
    for row in rows():
        table.add_row(*row)
    Console().print(table)
