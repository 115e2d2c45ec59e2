"""The surroundings of a path that leads nowhere: the nearest name, or the names beside it."""

from pathlib import Path

from cuvee.errors import closest

MOST_SHOWN = 8
"""Names in a hint; more are counted."""


def nearest(path: str, folder: Path | None = None, *, suffixes: tuple[str, ...]) -> str | None:
    """Return a hint for a path that leads nowhere from here, nor from `folder`; None where nothing is like it.

    Folders count, and files that end in any of the `suffixes`.
    """
    starts = [Path()] if folder is None else [Path(), folder]
    hints = [_hint(Path(path).expanduser(), start, suffixes) for start in starts]
    return next((hint for hint in hints if hint is not None), None)


def _hint(path: Path, start: Path, suffixes: tuple[str, ...]) -> str | None:
    parts = path.parts
    depth = _existing(parts, start)
    above, written = start.joinpath(*parts[:depth]), Path(*parts[:depth])
    names = _names(above, suffixes)
    guess = closest(parts[depth], names) if depth < len(parts) else None
    if guess is None:
        return f"'{written}' has {_shown(names)}" if depth and names else None
    meant = written.joinpath(guess, *parts[depth + 1 :])
    if not (start / meant).exists():
        meant = written / guess
    beside = f" '{written}' has {_shown(names)}" if depth else ""
    return f"did you mean '{meant}'?{beside}"


def _existing(parts: tuple[str, ...], start: Path) -> int:
    """Return how many of the first parts are folders that exist."""
    depth = 0
    while depth < len(parts) and start.joinpath(*parts[: depth + 1]).is_dir():
        depth += 1
    return depth


def _names(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        return sorted(entry.name for entry in entries if entry.is_dir() or entry.name.endswith(suffixes))
    except OSError:
        return []


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return ", ".join(names[:MOST_SHOWN]) + more
