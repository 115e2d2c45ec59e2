"""The check of the public index finds what is not there, by name. A folder of packages stands in for the index."""

import zipfile
from pathlib import Path

import public_index
import pytest
from public_index import Check

pytestmark = pytest.mark.skipif(not public_index.uv().exists(), reason="needs uv")


@pytest.fixture
def index(tmp_path: Path) -> tuple[str, ...]:
    """Return options of uv for an index that has numbers 1.0 and 2.0, and letters 1.0, which needs numbers 1.0."""
    for name, version, needs in (("numbers", "1.0", ""), ("numbers", "2.0", ""), ("letters", "1.0", "numbers==1.0")):
        information = f"{name}-{version}.dist-info"
        requires = f"Requires-Dist: {needs}\n" if needs else ""
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}"
        with zipfile.ZipFile(tmp_path / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{information}/METADATA", metadata)
            wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{information}/RECORD", "")
    return ("--no-index", "--find-links", str(tmp_path), "--cache-dir", str(tmp_path / "cache"))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return public_index.cleared_environment({}, tmp_path)


def test_pins_that_are_there_resolve(index: tuple[str, ...], environment: dict[str, str]) -> None:
    assert public_index.problems(Check("pins", ("numbers==1.0", "letters==1.0"), index), environment) == []


@pytest.mark.parametrize("pin", ["numbers==2.0+cpu", "numbers==3.0", "no-such-package==1.0"])
def test_a_pin_that_is_not_there_is_named(pin: str, index: tuple[str, ...], environment: dict[str, str]) -> None:
    (problem,) = public_index.problems(Check("pins", ("letters==1.0", pin), index), environment)
    assert problem == f"pins, Python 3.11: '{pin}' does not resolve"


def test_pins_that_exclude_each_other_are_explained(index: tuple[str, ...], environment: dict[str, str]) -> None:
    (problem,) = public_index.problems(Check("pins", ("letters==1.0", "numbers==2.0"), index), environment)
    assert "letters" in problem
    assert "numbers" in problem


def test_no_pin_of_ours_is_a_local_build() -> None:
    pins = public_index.requirement_lines(public_index.CONSTRAINTS.read_text(encoding="utf-8"))
    assert [pin for pin in pins if "+" in pin] == []


def test_settings_of_the_machine_are_left_out_and_certificates_kept(tmp_path: Path) -> None:
    machine = {"PIP_FIND_LINKS": "/wheels", "UV_INDEX_URL": "https://example.org", "SSL_CERT_FILE": "/certificates"}
    cleared = public_index.cleared_environment({**machine, "PIP_EXTRA_INDEX_URL": "x", "HOME": "/home/me"}, tmp_path)
    assert not {"PIP_FIND_LINKS", "UV_INDEX_URL", "PIP_EXTRA_INDEX_URL"} & set(cleared)
    assert cleared["SSL_CERT_FILE"] == "/certificates"
    assert cleared["HOME"] == str(tmp_path)


def test_extras_within_extras_are_opened() -> None:
    extras = public_index.extras_of(public_index.PROJECT)
    assert any(line.startswith("torch") for line in extras["judge"])
    assert not any(line.startswith("cuvee") for lines in extras.values() for line in lines)


def test_the_check_comes_first_in_ci() -> None:
    script = (public_index.ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.index("make public-index") < script.index("make test")
