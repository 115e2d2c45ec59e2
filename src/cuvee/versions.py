"""Versions of other people's libraries: which this release was tested with, and which are installed.

`tested_versions.json` beside this file holds the report of `make versions`: for each environment in which the tests
passed, the version of every distribution.
"""

import json
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.version import Version

from cuvee.errors import PlatformError

RECORD = Path(__file__).with_name("tested_versions.json")


@cache
def tested_environments() -> dict[str, dict[str, str]]:
    """Return, for each environment that was tested ("lowest", "pinned", "newest"), distributions and versions."""
    environments: dict[str, dict[str, str]] = json.loads(RECORD.read_text(encoding="utf-8"))["environments"]
    return environments


def installed_version(distribution: str) -> str | None:
    """Return the installed version of a distribution, or None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def tested_range(distribution: str) -> tuple[str, str] | None:
    """Return the lowest and the highest version that was tested, or None for a distribution that no test used."""
    versions = [
        environment[distribution] for environment in tested_environments().values() if distribution in environment
    ]
    if not versions:
        return None
    return min(versions, key=Version), max(versions, key=Version)


def is_untested(distribution: str) -> bool:
    """Whether the installed version lies outside the range that was tested."""
    installed = installed_version(distribution)
    tested = tested_range(distribution)
    if installed is None or tested is None:
        return False
    lowest, highest = tested
    release = Version(Version(installed).public)  # 2.13.0+cpu is 2.13.0 built for one kind of machine
    return not Version(lowest) <= release <= Version(highest)


def unknown_version(distribution: str, cause: str) -> PlatformError:
    """Return the error for a library whose installed version is not known here and which failed with `cause`.

    The failure is ours or the platform's, never the model's: no participant answers for the organiser's libraries.
    """
    lowest, highest = tested_range(distribution) or ("none", "none")
    return PlatformError(
        f"{distribution} {installed_version(distribution)} is not known here; tested: {lowest} to {highest}. "
        f"It failed: {cause}",
        hint=f"pip install '{distribution}=={highest}', or wait for a release that has been tried with it",
    )
