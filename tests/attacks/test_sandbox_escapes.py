"""Programs that look around, that stay, that take more than they may: each ends, with its own reason, in time."""

import os
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy
import pytest

from cuvee.errors import SubmissionError
from cuvee.evaluation import Task
from cuvee.submission.answers import read_answers
from cuvee.submission.build import plain_files
from cuvee.submission.sandbox import Ended, Job, Limits, Sandbox
from cuvee.submission.sandbox.choose import isolating_sandbox
from cuvee.submission.sandbox.runtime import python, python_environment

LIMITS = Limits(seconds=20, memory_bytes=200 << 20, disk_bytes=20 << 20, processes=30, log_bytes=100_000)
SHORT = replace(LIMITS, seconds=2)
SECONDS_OVER = 5


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    found = isolating_sandbox()
    if found is None:
        pytest.skip("no sandbox works on this machine")
    return found


def run(sandbox: Sandbox, out: Path, program: str, limits: Limits = LIMITS, *readable: Path) -> Ended:
    """Run a program; whatever it does it ends in time."""
    out.mkdir(exist_ok=True)
    started = time.monotonic()
    job = Job(python("-c", program), readable, out, environment=python_environment())
    ended = sandbox.run(job, limits, lambda line: None)
    assert time.monotonic() - started < limits.seconds + SECONDS_OVER
    return ended


MARK = f"cuvee-test-{os.getpid()}"


def left_running() -> list[str]:
    """List the processes on this machine that carry our mark, but for this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if MARK.encode() in words:
                found.append(entry.name)
    return found


FORK_BOMB = """
import os, time
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.01)
"""
MEMORY_HOG = "held = []\nwhile True: held.append(bytearray(b'x' * (8 << 20)))"
SHARED_MEMORY_HOG = """
import mmap
held = []
while True:
    held.append(mmap.mmap(-1, 8 << 20)); held[-1].write(b'x' * (8 << 20))
"""
MANY_SMALL_HOGS = (
    "import os\nfor i in range(3): os.fork()\nx = bytearray(b'x' * (40 << 20))\nimport time; time.sleep(60)"
)
DISK_FILLER = "i = 0\nwhile True: i += 1; open(f'f{i}', 'wb').write(bytes(1 << 20))"
ONE_LARGE_FILE = "f = open('f', 'wb')\nwhile True: f.write(bytes(1 << 20))"
MANY_FOLDERS = "import os\ni = 0\nwhile True: i += 1; os.mkdir(str(i))"
LOOP = "while True: pass"
LOG_FLOOD = "import sys\nwhile True: sys.stderr.write('x' * 10000)"
OUTPUT_FLOOD = "while True: print('x' * 10000)"
IGNORES_SIGNALS = """
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass
"""
SLEEPING_CHILD = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(1000)\n"
CHILD_HOLDS_OUTPUT = "import os, time\nif os.fork() == 0: time.sleep(1000)"


@pytest.mark.parametrize(
    ("program", "ending"),
    [
        (FORK_BOMB, "processes"),
        (MEMORY_HOG, "memory"),
        (SHARED_MEMORY_HOG, "memory"),
        (MANY_SMALL_HOGS, "memory"),
        (DISK_FILLER, "disk"),
        (MANY_FOLDERS, "disk"),
        (LOOP, "time"),
        (LOG_FLOOD, "log"),
        (OUTPUT_FLOOD, "log"),
        (IGNORES_SIGNALS, "time"),
        (SLEEPING_CHILD, "finished"),
        (CHILD_HOLDS_OUTPUT, "finished"),
        ("raise SystemExit(3)", "crash"),
        ("import os; os.kill(os.getpid(), 9)", "crash"),
    ],
)
def test_each_ends_for_its_own_reason_and_leaves_nothing_running(
    sandbox: Sandbox, tmp_path: Path, program: str, ending: str
) -> None:
    limits = SHORT if ending == "time" else replace(LIMITS, disk_bytes=2 << 20) if program == MANY_FOLDERS else LIMITS
    ended = run(sandbox, tmp_path / "out", f"# {MARK}\n{program}", limits)
    assert ended.ending == ending
    assert not left_running()


def test_a_file_cannot_grow_beyond_the_limit(sandbox: Sandbox, tmp_path: Path) -> None:
    ended = run(sandbox, tmp_path / "out", ONE_LARGE_FILE)
    assert ended.ending in ("disk", "crash")
    assert (tmp_path / "out/f").stat().st_size <= LIMITS.disk_bytes


def test_scratch_in_memory_is_small(sandbox: Sandbox, tmp_path: Path) -> None:
    program = """
for place in ('/tmp', '/dev/shm'):
    try:
        for i in range(20): open(f'{place}/{i}', 'wb').write(bytes(10 << 20))
    except OSError as error:
        assert error.errno == 28, error
    else:
        raise SystemExit('took it')
"""
    assert run(sandbox, tmp_path / "out", program).ending == "finished"


def test_labels_home_and_other_submissions_cannot_be_read(sandbox: Sandbox, tmp_path: Path) -> None:
    secret, given = tmp_path / "labels.csv", tmp_path / "given.txt"
    secret.write_text("the answers")
    given.write_text("the questions")
    places = [str(secret), "/etc/shadow", "/etc/passwd", os.path.expanduser("~/.bashrc"), str(Path(__file__))]
    program = f"""
import os, sys
assert open({str(given)!r}).read() == 'the questions'
for place in {places!r}:
    try: open(place).read()
    except OSError: continue
    raise SystemExit(f'could read {{place}}')
seen = [os.path.join(a, f) for a, _, fs in os.walk({str(tmp_path)!r}) for f in fs]
assert seen == [{str(given)!r}], seen
try: open({str(given)!r}, 'a')
except OSError: pass
else: raise SystemExit('could write')
"""
    ended = run(sandbox, tmp_path / "out", program, LIMITS, given)
    assert ended.ending == "finished", ended.log


def test_our_environment_and_processes_are_not_seen(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_a_token_of_the_tests")
    monkeypatch.setenv("CUVEE_DATABASE", "postgresql://cuvee:hf_a_token_of_the_tests@host/name")
    program = """
import os
assert not any('hf_a_token' in value for value in os.environ.values())
assert not {'HF_TOKEN', 'CUVEE_DATABASE'} & set(os.environ)
for entry in os.listdir('/proc'):
    if entry.isdigit():
        try: text = open(f'/proc/{entry}/environ', 'rb').read()
        except OSError: continue
        assert b'hf_a_token' not in text, entry
assert len([e for e in os.listdir('/proc') if e.isdigit()]) < 6
"""
    ended = run(sandbox, tmp_path / "out", program)
    assert ended.ending == "finished", ended.log


def test_there_is_no_network(sandbox: Sandbox, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = f"""
import socket
for place in (('127.0.0.1', {server.getsockname()[1]}), ('1.1.1.1', 53)):
    try: socket.create_connection(place, 1)
    except OSError: continue
    raise SystemExit(f'reached {{place}}')
"""
        ended = run(sandbox, tmp_path / "out", program)
    assert ended.ending == "finished", ended.log


def test_nobody_has_rights_there_or_gets_them(sandbox: Sandbox, tmp_path: Path) -> None:
    program = """
import ctypes, os
status = dict(line.split(':\\t', 1) for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)
assert os.getuid() != 0
for kind in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'):
    assert int(status[kind], 16) == 0, (kind, status[kind])
assert status['NoNewPrivs'].strip() == '1'
libc = ctypes.CDLL(None, use_errno=True)
for namespace in (0x10000000, 0x00020000, 0x40000000):
    assert libc.unshare(namespace) == -1
assert libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == -1
for place in ('/', '/usr', '/etc', '/proc/sys/kernel'):
    try: open(place + '/x', 'w')
    except OSError: continue
    raise SystemExit(f'wrote to {place}')
"""
    ended = run(sandbox, tmp_path / "out", program)
    assert ended.ending == "finished", ended.log


@pytest.mark.parametrize("make", ["os.symlink('/etc/passwd', 'out.jsonl')", "os.mkfifo('out.jsonl')"])
def test_links_and_pipes_in_the_output_are_not_followed(sandbox: Sandbox, tmp_path: Path, make: str) -> None:
    out = tmp_path / "out"
    assert run(sandbox, out, f"import os; {make}").ending == "finished"
    with pytest.raises(SubmissionError, match="neither file nor folder"):
        plain_files(out)
    with pytest.raises(SubmissionError, match=r"no answers came out|are no file"):
        read_answers(out / "out.jsonl", Task("t", (), ("accuracy",)))


def test_a_linked_folder_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "model").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SubmissionError, match="is a link"):
        plain_files(tmp_path / "model")


def test_the_log_is_its_end_and_can_be_shown(sandbox: Sandbox, tmp_path: Path) -> None:
    program = "import sys; sys.stderr.write('a' * 50_000 + '\\x1b[2Jend\\n')"
    ended = run(sandbox, tmp_path / "out", program)
    assert ended.log.endswith("[2Jend\n")
    assert "\x1b" not in ended.log
    assert len(ended.log) < 20_000


def test_the_interpreter_is_this_one(sandbox: Sandbox, tmp_path: Path) -> None:
    heard: list[bytes] = []
    (tmp_path / "out").mkdir()
    program = "import sys, numpy, cuvee; print(sys.version_info[:3], numpy.__version__)"
    job = Job(python("-c", program), (), tmp_path / "out", environment=python_environment())
    assert sandbox.run(job, LIMITS, heard.append).ending == "finished"
    assert b"".join(heard) == f"{sys.version_info[:3]} {numpy.__version__}".encode()
