"""The files of this machine that a Python program needs: the system's libraries, the interpreter, its packages, us."""

import os
import sys
import sysconfig
from pathlib import Path

import cuvee

PACKAGE = Path(cuvee.__file__).resolve().parent


def runtime_folders() -> list[Path]:
    """List the folders and files that a job may read besides its own: by the names we know, and by their real names."""
    wanted = [Path("/usr"), Path(sys.base_prefix)]
    if _in_venv():
        wanted += [Path(sys.prefix) / name for name in ("bin", "lib", "lib64", "pyvenv.cfg")]
    wanted += [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]
    wanted += [PACKAGE, Path("/etc/ld.so.cache")]
    folders: dict[Path, None] = {}
    for place in wanted:
        if not place.exists() or place.is_symlink():
            continue
        if ".." not in place.parts:
            folders[Path(os.path.abspath(place))] = None
        folders[place.resolve()] = None
    return [place for place in folders if not folders.keys() & set(place.parents)]


def python(*arguments: str) -> tuple[str, ...]:
    """Return the command that runs this interpreter without looking at anybody's settings."""
    interpreter = Path(sys.executable)
    real = interpreter.parent.resolve() / interpreter.name  # the link itself tells Python of its virtual environment
    return (str(real), "-B", "-s", *arguments)


def python_environment() -> dict[str, str]:
    """Return the environment of the interpreter: where this very package is, and a common hash seed."""
    return {"PYTHONPATH": str(PACKAGE.parent), "PYTHONHASHSEED": "0", "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


def _in_venv() -> bool:
    return sys.prefix != sys.base_prefix
