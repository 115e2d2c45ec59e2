"""What a sandbox is asked to do, for each backend; and figures of the machine."""

import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cuvee.errors import PlatformError
from cuvee.submission.hardware import calibrate, this_machine
from cuvee.submission.sandbox import Container, Job, Limits, Plain, container, keeper
from cuvee.submission.sandbox.bubblewrap import Bubblewrap, find_bubblewrap
from cuvee.submission.sandbox.choose import Host, choose_sandbox
from cuvee.submission.sandbox.runtime import PACKAGE, python, python_environment, runtime_folders
from cuvee.submission.sandbox.watched import watch

LIMITS = Limits(seconds=30, memory_bytes=1 << 30, disk_bytes=1 << 20, processes=40)


def job(folder: Path, program: str = "print(1)") -> Job:
    return Job(python("-c", program), (), folder, environment=python_environment())


def test_a_container_has_no_network_no_rights_and_limits(tmp_path: Path) -> None:
    command = Container(Path("/usr/bin/podman")).command(job(tmp_path), LIMITS, "called")
    for flag in (
        "--network=none",
        "--read-only",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        f"--memory={1 << 30}",
        f"--memory-swap={1 << 30}",
        "--pids-limit=40",
        f"--ulimit=fsize={1 << 20}",
        f"--tmpfs=/tmp:rw,nosuid,nodev,size={1 << 20},mode=1777",
        f"--shm-size={1 << 20}",
        "--rm",
        "--name=called",
        f"--volume={PACKAGE}:{PACKAGE}:ro",
        f"--volume={tmp_path}:{tmp_path}",
    ):
        assert flag in command
    user = next(flag for flag in command if flag.startswith("--user="))
    assert user != "--user=0:0"
    assert command[-len(job(tmp_path).command) :] == list(job(tmp_path).command)


def test_each_engine_takes_a_runtime_in_its_own_way(tmp_path: Path) -> None:
    docker = Container(Path("/usr/bin/docker"), runtime="runsc")
    podman = Container(Path("/usr/bin/podman"), runtime="kata")
    assert docker.command(job(tmp_path), LIMITS, "called")[:4] == ["/usr/bin/docker", "run", "--runtime=runsc", "--rm"]
    expected = ["/usr/bin/podman", "--runtime=kata", "run", "--read-only-tmpfs=false", "--rm"]
    assert podman.command(job(tmp_path), LIMITS, "called")[:5] == expected
    assert (docker.name, podman.name) == ("docker with runsc", "podman with kata")


def test_a_container_has_the_cores_of_its_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "own_cores", lambda: frozenset({2, 0}))
    command = Container(Path("/usr/bin/docker")).command(job(tmp_path), LIMITS, "called")
    assert "--cpuset-cpus=0,2" in command
    assert "--cpus=2" in command
    monkeypatch.setattr(container, "own_cores", lambda: None)
    assert not any("cpus" in flag for flag in Container(Path("docker")).command(job(tmp_path), LIMITS, "called"))


def test_a_runtime_without_an_engine_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    expected = "jobs cannot run by the runtime 'a-runtime': neither docker nor podman answers"
    with pytest.raises(PlatformError, match=expected):
        choose_sandbox("recipe", ("sandbox",), host=Host(runtime="a-runtime"))


ENGINE = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/asked"
case "$1" in
info) exit 0 ;;
run) OUTCOME ;;
rm) echo "Error: No such container: $3" >&2; exit 1 ;;
esac
"""
"""Stands in for docker, which no test machine need have: it notes what it is asked."""


def engine(folder: Path, outcome: str) -> Path:
    program = folder / "docker"
    program.write_text(ENGINE.replace("OUTCOME", outcome))
    program.chmod(0o755)
    return program


def test_a_runtime_that_the_engine_lacks_is_refused_with_its_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine(tmp_path, "echo 'unknown or invalid runtime name: no-such-runtime' >&2; exit 125")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    expected = "docker with no-such-runtime does not work: unknown or invalid runtime name: no-such-runtime"
    with pytest.raises(PlatformError, match=expected):
        choose_sandbox("recipe", ("sandbox",), host=Host(runtime="no-such-runtime"))
    assert "--runtime=no-such-runtime" in (tmp_path / "asked").read_text()


def test_a_container_dies_with_its_watcher(tmp_path: Path) -> None:
    program = engine(tmp_path, "exec sleep 60")
    out = tmp_path / "out"
    out.mkdir()
    asked = tmp_path / "asked"

    def watch_a_container() -> None:
        Container(program).run(job(out), LIMITS, lambda line: None)

    watcher = multiprocessing.get_context("fork").Process(target=watch_a_container)
    watcher.start()
    try:
        assert soon(lambda: asked.exists() and "--name=" in asked.read_text())
    finally:
        watcher.kill()
        watcher.join()
    name = next(word for word in asked.read_text().split() if word.startswith("--name=")).removeprefix("--name=")
    assert soon(lambda: f"rm --force {name}" in asked.read_text())


def test_nobody_takes_an_engines_client_for_the_job(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    held = "x = bytearray(b'x' * (300 << 20)); import time; time.sleep(0.5)"
    program = engine(tmp_path, f'exec {sys.executable} -c "{held}"')
    ended = Container(program).run(job(out), Limits(30, 100 << 20, 1 << 20, 40), lambda line: None)
    assert (ended.ending, ended.peak_memory_bytes, ended.cpu_seconds) == ("finished", None, None)


def test_a_container_whose_engine_is_away_is_removed_later(tmp_path: Path) -> None:
    container = {"engine": str(tmp_path / "docker"), "name": "called", "environment": {}}
    assert not keeper.clean({"containers": [container]})
    engine(tmp_path, "exit 0")
    assert keeper.clean({"containers": [container]})
    assert (tmp_path / "asked").read_text() == "rm --force called\n"


def soon(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def test_only_root_needs_two_rounds(tmp_path: Path) -> None:
    bubblewrap = Bubblewrap(Path("/usr/bin/bwrap"), Path("/usr/bin/setpriv"))
    twice = bubblewrap.command(job(tmp_path), LIMITS, user=12345)
    once = bubblewrap.command(job(tmp_path), LIMITS, user=None)
    assert twice.count("/usr/bin/bwrap") == 2
    assert once.count("/usr/bin/bwrap") == 1
    assert "/usr/bin/setpriv" not in once
    for command in (once, twice):
        for wall in ("--unshare-user", "--unshare-net", "--unshare-pid", "--disable-userns", "--clearenv"):
            assert wall in command


def test_one_round_works_by_itself(tmp_path: Path) -> None:
    bubblewrap = find_bubblewrap()
    if bubblewrap is None:
        pytest.skip("no bubblewrap on this machine")
    heard: list[bytes] = []
    program = "import socket; open('x', 'w'); print([n for _, n in socket.if_nameindex()])"
    command = bubblewrap.command(job(tmp_path, program), LIMITS, user=None)
    ended = watch(command, LIMITS, tmp_path, heard.append, environment={"PATH": "/usr/bin:/bin"})
    assert (ended.ending, ended.log) == ("finished", "")
    assert b"".join(heard) == b"['lo']"
    assert (tmp_path / "x").exists()


def test_nothing_of_a_home_is_shown_but_what_python_needs() -> None:
    home = Path.home()
    for place in runtime_folders():
        assert place not in (home, *home.parents)
        assert place.exists()


def test_limits_hold_without_walls_too(tmp_path: Path) -> None:
    ended = Plain().run(job(tmp_path, "x = bytearray(b'x' * (600 << 20)); import time; time.sleep(60)"),
                        Limits(30, 200 << 20, 1 << 20), lambda line: None)  # fmt: skip
    assert ended.ending == "memory"


def test_the_machine_is_described_and_timed() -> None:
    machine = this_machine()
    assert machine.cores >= 1
    assert machine.memory_bytes > 10**8
    assert {"cuvee", "python", "numpy"} <= set(machine.versions)
    assert 0 < calibrate() < 60
