"""Where an evaluation writes: looked at before the work starts, and whose fault it is when writing fails."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from cuvee.checkpoint.write import write_error
from cuvee.errors import RecipeError

NO_SUCH_PLACE = (errno.ENOENT, errno.EISDIR, errno.ELOOP, errno.EINVAL)
PROBE_BYTES = 4096


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Translate the system's errors about writing to `place`. A folder that cannot be made is the author's mistake."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SUCH_PLACE:
            raise _bad_place(error.filename or place, str(error.strerror)) from error
        raise write_error(error, place) from error


def check_writable(folder: Path, files: Sequence[Path]) -> None:
    """Raise if `files`, all below `folder`, cannot be written. Nothing is left behind, not even the folder."""
    with writing(folder):
        for file in files:
            place = _nearest(file)
            if place.is_dir() == (place == file):
                raise _bad_place(place, f"a {'folder' if place == file else 'file'} is in the way")
        _probe(folder)


def _nearest(path: Path) -> Path:
    """Return the path itself, or the lowest of the folders above it that exists."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return _nearest(path.parent)
    return path


def _probe(folder: Path) -> None:
    """Write a little to a file without a name, for permissions and free space show only in writing."""
    try:
        with TemporaryFile(dir=_nearest(folder), buffering=0) as file:
            file.write(bytes(PROBE_BYTES))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error  # the file's own name says nothing


def _bad_place(place: str | Path, reason: str) -> RecipeError:
    return RecipeError(f"cannot write the output: {reason}", where=str(place), hint="name another place for the output")
