"""Checks that all we ask people to install is on the public index: the pins of constraints.txt, and every extra.

Nothing is installed. uv resolves in an environment that knows no index, folder or setting of this machine, since a pin
that only this machine has would work here and nowhere else.

    python tools/public_index.py        needs uv in the environment of that Python
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
PROJECT = ROOT / "pyproject.toml"
PYTHONS = ("3.11", "3.13")
"""The lowest and the newest that are promised."""

CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


class Check(NamedTuple):
    """Requirements that must resolve together. `options` are further ones of `uv pip compile`."""

    title: str
    requirements: tuple[str, ...]
    options: tuple[str, ...] = ()


def main() -> int:
    """Check everything, and print what does not resolve; return the exit code."""
    found: list[str] = []
    with tempfile.TemporaryDirectory() as home:
        environment = cleared_environment(os.environ, Path(home))
        for check in checks():
            print(f"{check.title}: asking the public index", flush=True)
            found += problems(check, environment)
    for problem in found:
        print(f"error: {problem}", file=sys.stderr)
    if found:
        print("  hint: pins and bounds must name releases that the public index has", file=sys.stderr)
        return 1
    print("all pins and extras resolve from the public index")
    return 0


def cleared_environment(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return the variables of a machine on which nobody has set anything for pip or uv.

    Certificates and proxies stay: without them a machine that needs them reaches nothing. uv's cache stays too.
    """
    kept = {name: environ[name] for name in (*CERTIFICATES, *PROXIES) if name in environ}
    cache = environ.get("UV_CACHE_DIR") or str(Path(environ.get("HOME", home)) / ".cache" / "uv")
    cleared = {"PATH": os.defpath, "HOME": str(home), "PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"}
    return {**cleared, **kept, "UV_CACHE_DIR": cache}


def checks() -> list[Check]:
    """Return the pins, what `make test` installs, and all extras as somebody without our pins gets them."""
    extras = extras_of(PROJECT)
    return [
        Check("constraints.txt", tuple(requirement_lines(CONSTRAINTS.read_text(encoding="utf-8")))),
        Check("the extra 'dev' with our pins", extras["dev"], ("--constraint", str(CONSTRAINTS))),
        Check("the extras of pyproject.toml", tuple(dict.fromkeys(chain.from_iterable(extras.values())))),
    ]


def requirement_lines(text: str) -> list[str]:
    """Return the requirements of a file in pip's format, one a line."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def extras_of(project: Path) -> dict[str, tuple[str, ...]]:
    """Return for each extra what it and the package need. Extras within extras are opened."""
    described = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    extras = described["optional-dependencies"]
    return {name: (*described["dependencies"], *_opened(extras, name, described["name"])) for name in extras}


def _opened(extras: Mapping[str, Sequence[str]], name: str, package: str) -> Iterable[str]:
    for requirement in extras[name]:
        if not requirement.startswith(f"{package}["):
            yield requirement
            continue
        for inner in requirement.removeprefix(f"{package}[").rstrip("]").split(","):
            yield from _opened(extras, inner.strip(), package)


def problems(check: Check, environment: Mapping[str, str]) -> list[str]:
    """Return what does not resolve, by name: single requirements, or what uv says where they exclude each other."""
    for python in PYTHONS:
        options = ("--python-version", python, *check.options)
        failure = resolution_failure(check.requirements, options, environment)
        if failure is None:
            continue
        missing = [line for line in check.requirements if _is_missing(line, options, environment)]
        place = f"{check.title}, Python {python}"
        if missing:
            return [f"{place}: '{requirement}' does not resolve" for requirement in missing]
        return [f"{place}: {failure}"]
    return []


def _is_missing(requirement: str, options: Sequence[str], environment: Mapping[str, str]) -> bool:
    return resolution_failure([requirement], ("--no-deps", *options), environment) is not None


def resolution_failure(
    requirements: Iterable[str], options: Sequence[str], environment: Mapping[str, str]
) -> str | None:
    """Return what uv says if it finds no versions for the requirements, None if it does."""
    command = [str(uv()), "pip", "compile", "--quiet", "--no-header", *options, "-"]
    asked = subprocess.run(
        command, input="\n".join(requirements), env=dict(environment), capture_output=True, text=True, check=False
    )
    return asked.stderr.strip() if asked.returncode else None


def uv() -> Path:
    """Return uv of the environment that runs this."""
    return Path(sysconfig.get_path("scripts")) / ("uv.exe" if os.name == "nt" else "uv")


if __name__ == "__main__":
    sys.exit(main())
