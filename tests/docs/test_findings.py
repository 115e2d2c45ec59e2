"""Each finding stands in the table of its README, pins what it installs and names these versions in its head."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "findings"
SCRIPTS = sorted(FOLDER.glob("*.sh"))
INSTALLED = re.compile(r"pip\" install --quiet((?:[^\n]*\\\n)*[^\n]*)")


def head(script: Path) -> str:
    return script.read_text(encoding="utf-8").partition("set -eu")[0]


def requirements(script: Path) -> list[str]:
    listed = INSTALLED.search(script.read_text(encoding="utf-8"))
    assert listed, f"{script.name} installs nothing"
    return listed[1].replace("\\\n", " ").replace('"', "").split()


def test_the_table_lists_the_findings() -> None:
    table = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(\S+\.sh)\]\((\S+)\) \|", table, re.MULTILINE)
    assert rows == [(script.name, script.name) for script in SCRIPTS]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_finding_pins_what_it_installs(script: Path) -> None:
    for requirement in requirements(script):
        assert re.fullmatch(r"[a-z0-9-]+(\[[a-z]+\])?==[0-9.]+", requirement)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_finding_says_versions_expectation_and_remedy(script: Path) -> None:
    parts = re.findall(r"^# (\w+)[:,]", head(script), re.MULTILINE)
    assert parts == ["Versions", "Expected", "Observed", "Instead", "Seen"]
    pins = dict(requirement.split("==") for requirement in requirements(script))
    versions = re.search(r"^# Versions:.*$", head(script), re.MULTILINE)
    assert versions
    named = re.findall(r"([a-z][a-z-]+) (\d+\.[\d.]*\d)", versions[0])
    assert named
    for library, version in named:
        assert pins.get(library, pins.get(f"{library}[cpu]")) == version
