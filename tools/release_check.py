"""Tries a release as a stranger would, before there is one: `make release-check`.

Builds sdist and wheel, checks their metadata, installs the wheel with the extra `eval` in an empty environment, without
our pins and from the public index alone, and runs `cuvee demo` and the commands of the tutorial there.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from install import cpu_index_answers, say
from public_index import ROOT, cleared_environment, uv

sys.path.insert(0, str(ROOT / "tests"))

from docs.pages import Block, blocks, steps  # the pages are read as the tests read them

RELEASE = ROOT / "build" / "release"
TUTORIAL = ROOT / "docs" / "tutorial" / "first-blend.md"
ANOTHER_WAY = ("pip", "make", "git", "source")
"""First words of commands that install; here the wheel is installed instead."""


def main() -> None:
    """Check everything; the first command that fails ends it."""
    started = time.monotonic()
    wheel = built()
    with tempfile.TemporaryDirectory() as folder:
        home, environment = Path(folder) / "home", Path(folder) / "environment"
        home.mkdir()
        variables = cleared_environment(os.environ, home)
        install(wheel, environment, variables)
        use(environment, home, variables)
    say(f"{wheel.name} can be released: checked in {time.monotonic() - started:.0f} s")


def built() -> Path:
    """Build sdist and, from it, the wheel; check what an index would check; return the wheel."""
    for old in RELEASE.glob("*"):
        old.unlink()
    run([sys.executable, "-m", "build", "--outdir", str(RELEASE), str(ROOT)])
    files = sorted(RELEASE.iterdir())
    run([sys.executable, "-m", "twine", "check", "--strict", *map(str, files)])
    return next(file for file in files if file.suffix == ".whl")


def install(wheel: Path, environment: Path, variables: Mapping[str, str]) -> None:
    """Install the wheel in an environment that has nothing, with the newest of everything it needs."""
    torch = ("--torch-backend", "cpu") if platform.system() == "Linux" and cpu_index_answers() else ()
    size = "small" if torch else "the public index's, on Linux several GB"
    say(f"installing {wheel.name} with the newest of what it needs; torch is {size}")
    run([str(uv()), "venv", "--quiet", "--python", sys.executable, str(environment)], variables)
    target = ("--python", str(scripts(environment) / "python"))
    run([str(uv()), "pip", "install", *target, *torch, f"{wheel}[eval]"], variables)


def use(environment: Path, home: Path, variables: Mapping[str, str]) -> None:
    """Run the demo and the tutorial. What they print is the tests' business; here they must work."""
    path = os.pathsep.join([str(scripts(environment)), variables["PATH"]])
    used = {**variables, "PATH": path, "COLUMNS": "120"}
    run(["cuvee", "--version", "--verbose"], used, home)
    demo, tutorial = home / "demo", home / "tutorial"
    for folder in (demo, tutorial):
        folder.mkdir()
    run(["cuvee", "demo", "cuvee-demo"], used, demo)
    for block in blocks(TUTORIAL):
        follow(block, tutorial, used)


def follow(block: Block, folder: Path, variables: Mapping[str, str]) -> None:
    """Do what a block of a page asks of its reader."""
    if block.file:
        (folder / block.file).write_text(block.text, encoding="utf-8")
    elif block.language == "python":
        run(["python", "-c", block.text], variables, folder)
    elif block.language in ("console", "sh"):
        for step in steps(block):
            if not step.command.startswith(ANOTHER_WAY):
                run(step.command, variables, folder)


def run(command: list[str] | str, variables: Mapping[str, str] | None = None, folder: Path = ROOT) -> None:
    """Run a command, or a line of a shell, and end everything if it fails."""
    line = command if isinstance(command, str) else " ".join(command)
    say(line.splitlines()[0])
    program = command if isinstance(command, str) else [found(command[0], variables), *command[1:]]
    done = subprocess.run(program, shell=isinstance(command, str), env=variables, cwd=folder, check=False)
    if done.returncode:
        raise SystemExit(f"cuvee: this failed with {done.returncode}: {line}")


def found(program: str, variables: Mapping[str, str] | None) -> str:
    """Return a program's file: the environment that is checked comes first, not the one that checks."""
    if variables is None or os.sep in program:
        return program
    places = (Path(folder) / program for folder in variables["PATH"].split(os.pathsep))
    return str(next((place for place in places if place.exists()), program))


def scripts(environment: Path) -> Path:
    """Return where an environment has its programs."""
    return environment / ("Scripts" if os.name == "nt" else "bin")


if __name__ == "__main__":
    main()
