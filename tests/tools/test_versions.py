"""The record of tested versions, its page and the bounds of pyproject.toml say the same."""

import json
from typing import Any

import versions
from packaging.version import Version

RECORD = json.loads(versions.RECORD.read_text(encoding="utf-8"))


def test_the_page_shows_the_record() -> None:
    assert versions.PAGE.read_text(encoding="utf-8") == versions.page(RECORD), "run `make versions`"


def test_each_lower_bound_is_the_lowest_version_that_was_tested() -> None:
    assert versions.untested_bounds(RECORD) == []


def test_an_untested_bound_is_told() -> None:
    record = {"environments": {"lowest": {**RECORD["environments"]["lowest"], "numpy": "99.0"}}, "failed": {}}
    (problem,) = versions.untested_bounds(record)
    assert "numpy" in problem
    assert "99.0" in problem


def test_every_direct_dependency_is_recorded_for_every_environment() -> None:
    direct = {versions.name_of(requirement) for requirement in versions.library_requirements()} | {"python"}
    tested = {**RECORD["environments"], **RECORD["failed"]}
    assert {name: set(libraries) for name, libraries in tested.items()} == dict.fromkeys(versions.SETS, direct)


def test_the_pinned_versions_are_those_of_the_constraints() -> None:
    pins = versions.requirement_lines(versions.CONSTRAINTS.read_text(encoding="utf-8"))
    pinned = {versions.name_of(pin): Version(pin.partition("==")[2].partition(";")[0]) for pin in pins}
    tested = {**RECORD["environments"], **RECORD["failed"]}["pinned"]
    assert {name for name, version in tested.items() if name in pinned and Version(version) != pinned[name]} == set()


def test_a_page_tells_green_from_red() -> None:
    record: dict[str, Any] = {"dates": {}, "environments": {}, "failed": {}}
    record = versions.with_result(record, "newest", {"torch": "2"}, passed=False)
    record = versions.with_result(record, "lowest", {"torch": "1"}, passed=True)
    today = record["dates"]["lowest"]
    shown = f"| **tests** | **green** | **red** |\n| tested on | {today} | {today} |\n| `torch` | 1 | 2 |"
    assert shown in versions.page(record)
    mended = versions.with_result(record, "newest", {"torch": "3"}, passed=True)
    assert (mended["environments"], mended["failed"]) == ({"lowest": {"torch": "1"}, "newest": {"torch": "3"}}, {})


def test_the_build_of_a_release_is_not_recorded() -> None:
    lock = "\n".join(f"{versions.name_of(line)}==1.0+cpu  # via" for line in versions.library_requirements())
    assert set(versions.versions_of_libraries(lock).values()) - {versions.platform.python_version()} == {"1.0"}


def test_every_room_of_tests_is_there() -> None:
    assert [room for room in versions.ROOMS if not (versions.ROOT / "tests" / room).is_dir()] == []
