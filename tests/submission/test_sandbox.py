"""What a sandbox is asked to do, for each backend; and figures of the machine."""

from pathlib import Path

import pytest

from cuvee.submission.hardware import calibrate, this_machine
from cuvee.submission.sandbox import Container, Job, Limits, Plain
from cuvee.submission.sandbox.bubblewrap import Bubblewrap, find_bubblewrap
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
        "--name=called",
        f"--volume={PACKAGE}:{PACKAGE}:ro",
        f"--volume={tmp_path}:{tmp_path}",
    ):
        assert flag in command
    user = next(flag for flag in command if flag.startswith("--user="))
    assert user != "--user=0:0"
    assert command[-len(job(tmp_path).command) :] == list(job(tmp_path).command)


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
