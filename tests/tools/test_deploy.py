"""What deploy/ promises: a compose file that Docker takes, and pins with hashes for all that the image installs."""

import ctypes
import json
import os
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
REQUIREMENTS = (DEPLOY / "requirements.txt").read_text(encoding="utf-8")
SETTINGS = {"DATABASE_PASSWORD": "secret", "SITE_ADDRESS": "merge.example.org", "WORKER_TOKEN": "cuvee-worker_x"}

PROFILE = "worker-seccomp.json"
NEEDED_BY_BUBBLEWRAP = {"mount", "pivot_root", "umount2", "unshare"}
ERROR, SET_NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 99, 38, 22, 2

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
    assert {"./Caddyfile"} == set(mounted)
    assert all((DEPLOY / name).is_file() for name in (*mounted, "server.yaml", PROFILE))
    copied = re.findall(r"^COPY (.+) \S+$", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert all((ROOT / name).exists() for names in copied for name in names.split())


def services() -> dict[str, dict[str, Any]]:
    read: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load(filled_in(COMPOSE))
    return read["services"]


def test_nobody_writes_to_the_labels_and_the_server_alone_knows_the_databases_password() -> None:
    for name in ("server", "worker"):
        mounts = services()[name]["volumes"]
        assert [mount.split(":")[-2:] for mount in mounts] == [["/competition", "ro"]]
    told = {name: json.dumps(service.get("environment", {})) for name, service in services().items()}
    assert {name for name, text in told.items() if "secret" in text} == {"server", "database"}
    assert not any("secret" in json.dumps(service.get("command", [])) for service in services().values())


def test_walls_of_docker_stay_where_bubblewrap_does_not_need_them_away() -> None:
    for name in ("server", "worker"):
        assert services()[name]["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in services()[name]["security_opt"]
    lowered = set(services()["worker"]["security_opt"]) - {"no-new-privileges:true"}
    assert lowered == {f"seccomp={PROFILE}", "apparmor=unconfined", "systempaths=unconfined"}


def test_the_workers_filter_refuses_what_jobs_are_refused_but_what_bubblewrap_needs() -> None:
    from cuvee.submission.sandbox.seccomp import CALLS, X86_ONLY

    profile = json.loads((DEPLOY / PROFILE).read_text(encoding="utf-8"))
    (refused,) = profile["syscalls"]
    assert profile["defaultAction"] == "SCMP_ACT_ALLOW"
    assert (refused["action"], refused["errnoRet"]) == ("SCMP_ACT_ERRNO", 1)
    assert set(refused["names"]) == {*CALLS, *X86_ONLY} - NEEDED_BY_BUBBLEWRAP


@pytest.mark.parametrize("taken", ["", "mount"])
def test_bubblewrap_builds_its_walls_behind_the_workers_filter(
    taken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cuvee.submission.sandbox import seccomp
    from cuvee.submission.sandbox.bubblewrap import NOBODY, find_bubblewrap, give
    from cuvee.submission.sandbox.choose import TRIAL, failure
    from cuvee.submission.sandbox.protocol import Job

    bubblewrap = find_bubblewrap()
    if not seccomp.can_filter() or bubblewrap is None or failure(bubblewrap) is not None:
        pytest.skip("no bubblewrap or no filter works on this machine")
    let_through = NEEDED_BY_BUBBLEWRAP - {taken}
    calls = {name: numbers for name, numbers in seccomp.CALLS.items() if name not in let_through}
    monkeypatch.setattr(seccomp, "CALLS", calls)
    user = NOBODY if os.geteuid() == 0 else None
    out = tmp_path / "out"
    out.mkdir()
    if user is not None:
        give(out, user)
    command = bubblewrap.command(Job(("/usr/bin/true",), (), out), TRIAL, user=user)
    ended = subprocess.run(command, preexec_fn=filtering(seccomp.filter_program()), capture_output=True, check=False)
    assert (ended.returncode == 0) == (taken == ""), ended.stderr
    assert ended.returncode != ERROR, "the filter was not taken"


def filtering(program: bytes) -> Callable[[], None]:
    """Return what puts a new process behind a filter of system calls."""
    content = ctypes.create_string_buffer(program, len(program))
    steps = (ctypes.c_uint64 * 2)(len(program) // 8, ctypes.addressof(content))  # struct sock_fprog, padded
    prctl = ctypes.CDLL(None).prctl

    def begin(kept: object = content) -> None:
        if prctl(SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or prctl(SET_SECCOMP, FILTER, steps):
            os._exit(ERROR)

    return begin


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
