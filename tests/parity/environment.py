"""Where mergekit lives: an environment of its own, made once and kept outside of the checkout.

mergekit is under the LGPL and needs other versions than ours: it is only ever run as another process.
"""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION = "0.1.5"
VARIABLE = "CUVEE_MERGEKIT"
"""Names the folder of an environment, to be used or made, instead of the user's cache folder."""

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
INSTALL_SECONDS = 1800


class NoEnvironment(Exception):
    """The environment cannot be made; the message says why."""


def interpreter() -> Path:
    """Return the Python that has mergekit. Installs it at the first call. Raises NoEnvironment."""
    folder = _folder()
    python = folder / "bin" / "python"
    try:
        with locked(folder.with_name(folder.name + ".lock")):
            if not _has_mergekit(python):
                _make(folder, python)
    except OSError as error:
        raise NoEnvironment(str(error)) from error
    return python


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Let one process at a time do what follows: tests may run in several."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield


def _folder() -> Path:
    if VARIABLE in os.environ:
        return Path(os.environ[VARIABLE]).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "cuvee" / f"mergekit-{VERSION}"


def _has_mergekit(python: Path) -> bool:
    if not python.exists():
        return False
    asked = "from importlib.metadata import version; print(version('mergekit'))"
    found = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=False)
    return found.stdout.strip() == VERSION


def _make(folder: Path, python: Path) -> None:
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([sys.executable, "-m", "venv", "--clear", str(folder)])
    # torch first and alone: another package's requirement would fetch the newest build instead of the pinned one
    _run([*pip, "--constraint", str(CONSTRAINTS), "torch"])
    # last, so that an environment that was begun and not finished is not taken for one
    _run([*pip, "--constraint", str(CONSTRAINTS), f"mergekit=={VERSION}"])


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=INSTALL_SECONDS)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout or "no message").strip().splitlines()
        reason = next((line for line in said if line.startswith("ERROR")), said[-1])
        raise NoEnvironment(f"installing {command[-1]}: {reason}") from error
    except subprocess.TimeoutExpired as error:
        raise NoEnvironment(str(error)) from error
