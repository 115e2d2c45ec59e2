"""What deploy/ promises: a compose file that Docker takes, and pins with hashes for all that the image installs."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
REQUIREMENTS = (DEPLOY / "requirements.txt").read_text(encoding="utf-8")
SETTINGS = {"DATABASE_PASSWORD": "secret", "SITE_ADDRESS": "merge.example.org", "WORKER_TOKEN": "cuvee-worker_x"}

compose_spec = pytest.importorskip("compose_spec", reason="compose-spec is for Linux")


def filled_in(text: str) -> str:
    """Fill in variables as Docker does before it reads the file."""

    def value(match: re.Match[str]) -> str:
        default = match["default"] if match["kind"] == ":-" else ""
        return SETTINGS.get(match["name"], default or "")

    variable = r"(?<!\$)\$\{(?P<name>\w+)(?:(?P<kind>:-|:\?)(?P<default>[^}]*))?\}"
    return re.sub(variable, value, text).replace("$$", "$")


def check(text: str) -> None:
    """Raise ValueError for what Docker would refuse: keys, values, and names of what is not there."""
    compose = compose_spec.PyCompose.from_yaml(filled_in(text))
    compose.validate_networks()
    compose.validate_volumes()


def test_the_compose_file_is_one_that_docker_takes() -> None:
    check(COMPOSE)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("restart: unless-stopped", "restrat: unless-stopped"),
        ("networks: [front]", "networks: [frnt]"),
        ("interval: 5s", "interval: [5]"),
    ],
)
def test_a_slip_in_the_compose_file_is_found(right: str, wrong: str) -> None:
    assert right in COMPOSE
    with pytest.raises(ValueError):
        check(COMPOSE.replace(right, wrong, 1))


def test_every_file_that_the_services_mount_or_build_from_is_there() -> None:
    mounted = re.findall(r"(?<=[\"\s])(\./[\w.]+):/", COMPOSE)
    assert {"./Caddyfile", "./server.yaml"} == set(mounted)
    assert all((DEPLOY / name).is_file() for name in mounted)
    copied = re.findall(r"^COPY (.+) \S+$", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert all((ROOT / name).exists() for names in copied for name in names.split())


def test_what_the_image_installs_is_pinned_as_in_constraints_and_has_hashes() -> None:
    pins = pins_of((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    blocks = [block for block in re.split(r"\n(?=\w)", REQUIREMENTS) if "==" in block]
    assert len(blocks) > 50
    assert all("--hash=sha256:" in block for block in blocks)
    installed = pins_of(REQUIREMENTS)
    assert {name: pins.get(name) for name in installed} == installed


def test_the_image_installs_all_that_the_extras_name() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    described = [*extras["dependencies"], *extras["optional-dependencies"]["server"]]
    described += extras["optional-dependencies"]["judge"] + extras["optional-dependencies"]["eval"]
    wanted = {spelled(re.split(r"[\[<>=;~! ]", line)[0]) for line in described} - {"cuvee"}
    assert wanted - pins_of(REQUIREMENTS).keys() == set()


def pins_of(text: str) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==([^\s;\\]+)", text, re.MULTILINE)
    return {spelled(name): version for name, version in found}


def spelled(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
