"""cuvee --version: alone, and with the versions of libraries beside those that were tested."""

import gc
import json
import sys
from types import ModuleType

import pytest

from cuvee import versions
from cuvee.cli import door, main, versions_table
from cuvee.version import __version__

TESTED = {"lowest": {"python": "3.2.9", "packaging": "1.0"}, "newest": {"python": "3.99.0", "packaging": "1.10"}}


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str]:
    monkeypatch.setattr(sys, "argv", ["cuvee", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr().out


def pretend(monkeypatch: pytest.MonkeyPatch, installed: str | None) -> None:
    for module in (versions, versions_table):
        monkeypatch.setattr(module, "tested_environments", lambda: TESTED)
        monkeypatch.setattr(module, "installed_version", lambda _: installed)


def test_the_version_alone_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, capsys, "--version") == (0, f"{__version__}\n")


def test_every_tested_library_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    code, output = run(monkeypatch, capsys, "--version", "--verbose")
    record = json.loads(versions.RECORD.read_text(encoding="utf-8"))
    libraries = {library for environment in record["environments"].values() for library in environment}
    assert code == 0
    assert {line.split()[0] for line in output.splitlines() if line.strip()} >= libraries


@pytest.mark.parametrize(
    ("installed", "row"),
    [
        ("1.5", ("packaging", "1.5", "1.0 to 1.10", "")),
        ("2.0", ("packaging", "2.0", "1.0 to 1.10", "not tested")),
        (None, ("packaging", "-", "1.0 to 1.10", "")),
    ],
)
def test_what_lies_outside_is_marked(
    monkeypatch: pytest.MonkeyPatch, installed: str | None, row: tuple[str, ...]
) -> None:
    pretend(monkeypatch, installed)
    assert row in versions_table.rows()


def test_python_counts_by_its_first_two_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "1.5")
    monkeypatch.setattr(versions_table.platform, "python_version", lambda: "3.99.7")
    assert versions_table.rows()[0] == ("python", "3.99.7", "3.2.9 to 3.99.0", "")


def test_verbose_alone_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = run(monkeypatch, capsys, "--verbose")
    assert code == 2


@pytest.mark.parametrize("loaded", [True, False])
def test_the_end_is_quiet_where_triton_is_loaded(monkeypatch: pytest.MonkeyPatch, loaded: bool) -> None:
    frozen: list[bool] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(True))
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    if loaded:
        monkeypatch.setitem(sys.modules, "triton", ModuleType("triton"))
    door._leave_garbage()
    assert bool(frozen) is not loaded
