"""Versions of other people's libraries: what was tested, and what an untested one is told."""

from importlib.metadata import version

import pytest

from cuvee import versions

LOWEST_AND_HIGHEST = {"lowest": {"packaging": "1.0"}, "newest": {"packaging": "1.10"}, "pinned": {"packaging": "1.9"}}


def _pretend(monkeypatch: pytest.MonkeyPatch, *, tested: dict[str, dict[str, str]], installed: str) -> None:
    monkeypatch.setattr(versions, "tested_environments", lambda: tested)
    monkeypatch.setattr(versions, "installed_version", lambda _: installed)


def test_the_range_goes_by_version_and_not_by_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, tested=LOWEST_AND_HIGHEST, installed="1.9")
    assert versions.tested_range("packaging") == ("1.0", "1.10")


@pytest.mark.parametrize(
    ("installed", "untested"), [("0.9", True), ("1.0", False), ("1.10+cpu", False), ("1.10.1", True), ("2.0", True)]
)
def test_a_version_outside_the_range_is_untested(
    monkeypatch: pytest.MonkeyPatch, installed: str, untested: bool
) -> None:
    _pretend(monkeypatch, tested=LOWEST_AND_HIGHEST, installed=installed)
    assert versions.is_untested("packaging") is untested


def test_a_library_that_no_test_used_is_not_called_untested() -> None:
    assert versions.tested_range("pip") is None
    assert not versions.is_untested("pip")


def test_the_error_names_both_versions_and_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, tested=LOWEST_AND_HIGHEST, installed="2.0")
    error = versions.unknown_version("packaging", "it has no wheels")
    assert error.exit_code == 70
    assert "packaging 2.0 is not known here; tested: 1.0 to 1.10" in str(error)
    assert "it has no wheels" in str(error)


def test_installed_versions_are_those_of_the_environment() -> None:
    assert versions.installed_version("packaging") == version("packaging")
    assert versions.installed_version("no-such-distribution") is None
