"""Extras: each import is declared, and a missing one is told in a way that works for the installation at hand."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

import cuvee
from cuvee.competition.pages.start import install_line
from cuvee.extras import install_command, requirement
from cuvee.version import __version__

PACKAGE = Path(cuvee.__file__).parent
ROOT = Path(__file__).parents[1]


def imported(file: Path) -> Iterator[str]:
    """Yield the first name of every module that a file imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def spelled(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> set[str]:
    """Return the distributions that pyproject.toml names for people who use cuvee."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name != "dev"}
    lines = [*project["dependencies"], *(line for extra in extras.values() for line in extra)]
    return {spelled(re.split(r"[\[<>=;~! ]", line)[0]) for line in lines}


def test_every_distribution_that_is_imported_is_declared() -> None:
    modules = {name for file in PACKAGE.rglob("*.py") for name in imported(file)}
    foreign = modules - sys.stdlib_module_names - {"cuvee", "lm_eval", "ray", "submitit", "msvcrt"}
    distributions = packages_distributions()
    assert {name for name in foreign if name not in distributions} == set(), "not installed here"
    needed = {spelled(distributions[name][0]) for name in foreign} | {"lm-eval", "ray", "submitit"}
    assert needed - declared() == set()


def test_every_extra_has_code_behind_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = "\n".join(file.read_text(encoding="utf-8") for file in PACKAGE.rglob("*.py"))
    named = set(re.findall(r'(?:MissingExtra|install_command)\("([\w-]+)"', text))
    named |= set(re.findall(r"install_command\('([\w-]+)'\)", text))
    assert set(project["optional-dependencies"]) - {"dev"} == named


CAME_FROM = pytest.mark.parametrize(
    ("came_from", "command"),
    [
        (None, "'cuvee[eval]'"),
        ({"url": "file:///src/cuv%C3%A9e", "dir_info": {"editable": True}}, "--editable '/src/cuvée[eval]'"),
        ({"url": "file:///src/cuvee", "dir_info": {}}, "'/src/cuvee[eval]'"),
        ({"url": "file:///d/cuvee-1-py3-none-any.whl", "archive_info": {}}, "'/d/cuvee-1-py3-none-any.whl[eval]'"),
        (
            {"url": "https://example.org/cuvee.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "'cuvee[eval] @ git+https://example.org/cuvee.git@abc'",
        ),
        ({"url": "https://example.org/cuvee.whl", "archive_info": {}}, "'cuvee[eval] @ https://example.org/cuvee.whl'"),
    ],
)


@CAME_FROM
def test_a_participant_installs_what_the_server_has(came_from: dict[str, Any] | None, command: str) -> None:
    line = install_line(came_from)
    if came_from is None:
        assert line == f"pip install cuvee=={__version__}"
    elif came_from["url"].startswith("file:"):
        assert line == "pip install ."  # a folder of the server's is nobody else's
    else:
        assert line == f"pip install {command}".replace("[eval]", "")


@CAME_FROM
def test_an_extra_is_added_from_where_cuvee_came(came_from: dict[str, Any] | None, command: str) -> None:
    assert requirement("eval", came_from) == command


def test_the_hint_of_a_checkout_names_it() -> None:
    assert "[eval]'" in install_command("eval")


def test_nowhere_is_it_said_that_an_index_has_cuvee() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    pages += [*(ROOT / "examples").rglob("*.md"), *(ROOT / "examples").rglob("*.py"), *PACKAGE.rglob("*.py")]
    claim = re.compile(r"pip install (--\S+ )*.?cuvee\b(?!\[[^\]]*\] @)")
    assert [str(page) for page in pages if claim.search(page.read_text(encoding="utf-8"))] == []
