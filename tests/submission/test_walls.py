"""What the kernel holds jobs to: each way round a watch ends at its limit, by name, and leaves nothing."""

import multiprocessing
import os
import platform
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cuvee.errors import PlatformError, RecipeError
from cuvee.submission.build import limited_work
from cuvee.submission.cores import read_cores, use_cores
from cuvee.submission.sandbox import Bubblewrap, Container, Ended, Job, Limits, cgroup, choose, keeper, seccomp
from cuvee.submission.sandbox.bubblewrap import find_bubblewrap
from cuvee.submission.sandbox.cgroup import Group, Tree, group_of_job, made
from cuvee.submission.sandbox.choose import Host, Walls, choose_sandbox, failure, find_walls
from cuvee.submission.sandbox.filesystem import (
    cannot_mount,
    is_limited,
    limited_folder,
    mount_image,
    mount_tmpfs,
    used_bytes,
)
from cuvee.submission.sandbox.leftovers import FIRST_USER, has_own_users, noted, sweep
from cuvee.submission.sandbox.runtime import python, python_environment, runtime_folders

LIMITS = Limits(seconds=30, memory_bytes=64 << 20, disk_bytes=8 << 20, processes=30)
SECONDS_OVER = 2
MARK = f"cuvee-test-walls-{os.getpid()}"


@pytest.fixture(scope="module")
def walls() -> Walls:
    return find_walls()


@pytest.fixture(scope="module")
def sandbox(walls: Walls) -> Bubblewrap:
    if not isinstance(walls.sandbox, Bubblewrap):
        pytest.skip(f"bubblewrap does not work here: {walls.lacks.get('sandbox')}")
    return walls.sandbox


@pytest.fixture(scope="module")
def tree(sandbox: Bubblewrap, walls: Walls) -> Tree:
    if sandbox.tree is None:
        pytest.skip(f"no control group here: {walls.lacks['cgroup']}")
    return sandbox.tree


@pytest.fixture
def limited(walls: Walls, tmp_path: Path) -> Iterator[Path]:
    """A folder of limited size."""
    if walls.mount is None:
        pytest.skip(f"no limited file system here: {walls.lacks['filesystem']}")
    with limited_folder(tmp_path / "limited", LIMITS.disk_bytes, mount=walls.mount):
        yield tmp_path / "limited"


def run(sandbox: Bubblewrap, out: Path, program: str, limits: Limits = LIMITS) -> Ended:
    """Run a program that says how far it is. One that does not end by itself is ended soon after its last word."""
    out.mkdir(exist_ok=True)
    heard = [time.monotonic()]

    def hear(line: bytes) -> None:
        if line:  # a silent job is heard of by empty ones
            heard.append(time.monotonic())

    ended = sandbox.run(job_of(program, out), limits, hear)
    assert ended.ending in ("finished", "crash") or time.monotonic() - heard[-1] < SECONDS_OVER
    return ended


def job_of(program: str, out: Path) -> Job:
    return Job(python("-c", f"# {MARK}\n{program}"), (), out, environment=python_environment())


def left_running() -> list[int]:
    """List the processes of our programs."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if MARK.encode() in words:
                found.append(int(entry.name))
    return found


def groups_left(tree: Tree, watcher: int) -> list[Path]:
    """List the groups of jobs that a process watches; others may judge on this machine, too."""
    name = f"cuvee-job-{watcher}-*"
    trees = (tree.memory, tree.processes, tree.unified, tree.accounts, tree.cpu, tree.cpuset)
    return [group for folder in trees if folder for group in folder.glob(name)]


FILES_IN_MEMORY = """
import os, time
held = []
for i in range(150):
    held.append(os.memfd_create('held'))
    os.write(held[-1], bytes(1 << 20))
    print(i, flush=True)
time.sleep(60)
"""
SHARED_MAPS_DROPPED = """
import mmap, time
held = []
for i in range(150):
    held.append(mmap.mmap(-1, 1 << 20))
    held[-1].write(b'x' * (1 << 20))
    held[-1].madvise(mmap.MADV_DONTNEED)
    print(i, flush=True)
time.sleep(60)
"""
MANY_PROCESSES_EACH_SMALL = """
import os, time
for i in range(4): os.fork()
held = os.memfd_create('held')
for i in range(6): os.write(held, bytes(1 << 20))
print(i, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("program", [FILES_IN_MEMORY, SHARED_MAPS_DROPPED, MANY_PROCESSES_EACH_SMALL])
def test_memory_that_no_process_shows_is_held(sandbox: Bubblewrap, tree: Tree, tmp_path: Path, program: str) -> None:
    ended = run(sandbox, tmp_path / "out", program)
    assert ended.ending == "memory"
    assert not left_running()
    assert not groups_left(tree, os.getpid())


FILL = """
import os, time
def fill(folder):
    try:
        for i in range(30):
            with open(os.path.join(folder, str(i)), 'wb') as file: file.write(bytes(1 << 20))
            print(i, flush=True)
    except OSError as error:
        assert error.errno == 28, error
    time.sleep(60)
"""
UNLINKED = """
import os, time
held = []
try:
    for i in range(30):
        held.append(open('file', 'wb', buffering=0))
        os.unlink('file')
        held[-1].write(bytes(1 << 20))
        print(i, flush=True)
except OSError as error:
    assert error.errno == 28, error
time.sleep(60)
"""
DEEP = FILL + "for i in range(40):\n    os.mkdir('d' * 200)\n    os.chdir('d' * 200)\nfill('.')"
UNREADABLE = FILL + "os.mkdir('dark', 0o300)\nfill('dark')"
MANY_EMPTY_FILES = """
import time
try:
    for i in range(200_000):
        open(f'{i}', 'w').close()
        if i % 100 == 0: print(i, flush=True)
except OSError as error:
    assert error.errno == 28, error
time.sleep(60)
"""


@pytest.mark.parametrize("program", [UNLINKED, DEEP, UNREADABLE, MANY_EMPTY_FILES])
def test_disk_that_no_walk_shows_is_held(sandbox: Bubblewrap, limited: Path, program: str) -> None:
    ended = run(sandbox, limited, program)
    assert ended.ending == "disk"
    assert ended.disk_bytes < 2 * LIMITS.disk_bytes
    assert not left_running()


def test_memory_is_held_while_there_are_many_files(sandbox: Bubblewrap, tree: Tree, limited: Path) -> None:
    program = "for i in range(1500): open(f'{i}', 'w').close()\n" + FILES_IN_MEMORY
    assert run(sandbox, limited, program).ending == "memory"


@pytest.mark.parametrize("mount", [mount_image, mount_tmpfs])
def test_a_limited_folder_holds_what_it_says_and_is_gone_at_the_end(
    tmp_path: Path, mount: Callable[[Path, int], None]
) -> None:
    reason = cannot_mount(mount, tmp_path)
    if reason is not None:
        pytest.skip(f"this file system cannot be mounted here: {reason}")
    folder = tmp_path / "out"
    with limited_folder(folder, 8 << 20, mount=mount):
        assert list(folder.iterdir()) == []
        (folder / "fits").write_bytes(bytes(8 << 20))
        with pytest.raises(OSError, match="No space left"):
            (folder / "does not").write_bytes(bytes(8 << 20))
        assert 8 << 20 < used_bytes(folder) < 10 << 20
    assert not is_limited(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert list(folder.iterdir()) == []


@pytest.fixture
def cramped(walls: Walls, tmp_path: Path) -> Iterator[Path]:
    """A folder whose own file system has no room for an image."""
    if walls.mount is None:
        pytest.skip(f"no limited file system here: {walls.lacks['filesystem']}")
    folder = tmp_path / "cramped"
    folder.mkdir()
    with noted(mounts=[folder]):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "cuvee-test", folder], check=True)
        yield folder


def test_a_folder_that_takes_no_image_has_memory_mounted_in_it_and_the_worker_says_so(cramped: Path) -> None:
    walls = find_walls(Host(cramped))
    assert walls.mount is mount_tmpfs
    assert walls.lacks["image"].startswith(f"in {cramped}: no limited file system can be mounted: ")
    assert any("so what jobs write is in memory" in note for note in walls.notes())
    with limited_work(cramped / "work", 8 << 20):
        (cramped / "work/merge/fits").write_bytes(bytes(8 << 20))
    assert not any((cramped / "work/merge").iterdir())


def test_a_folder_for_scratch_that_takes_nothing_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(PlatformError, match="nothing can be written to the folder for scratch") as caught:
        find_walls(Host(tmp_path / "file"))
    assert caught.value.where == str(tmp_path / "file")


def test_output_in_memory_counts_as_disk_not_as_memory(
    sandbox: Bubblewrap, tree: Tree, walls: Walls, tmp_path: Path
) -> None:
    if walls.mount is None:
        pytest.skip(f"no limited file system here: {walls.lacks['filesystem']}")
    out, limits = tmp_path / "out", replace(LIMITS, disk_bytes=60 << 20)
    with limited_folder(out, limits.disk_bytes, mount=mount_tmpfs):
        program = "open('file', 'wb').write(bytes(50 << 20)); import time; time.sleep(0.3)"
        ended = run(sandbox, out, program, limits)
        assert ended.ending == "finished", ended.log
        assert ended.peak_memory_bytes < 64 << 20
        assert 50 << 20 <= ended.disk_bytes < 60 << 20
        assert run(sandbox, out, FILES_IN_MEMORY, limits).ending == "memory"


THREADS = """
import threading, time, sys
def start(count):
    for i in range(count):
        threading.Thread(target=time.sleep, args=(1.5,), daemon=True).start()
"""


def test_jobs_at_once_have_users_and_threads_of_their_own(sandbox: Bubblewrap, tmp_path: Path) -> None:
    if os.geteuid() != 0 or not has_own_users():
        pytest.skip("only root has users to give")
    limits = replace(LIMITS, processes=60)  # and 32 more threads
    endings: dict[str, Ended] = {}

    def work(name: str) -> None:
        endings[name] = run(sandbox, tmp_path / name, THREADS + "open('file', 'w')\nstart(70)\ntime.sleep(1)", limits)

    jobs = [threading.Thread(target=work, args=(name,)) for name in ("one", "another")]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert {name: (ended.ending, ended.log) for name, ended in endings.items()} == {
        "one": ("finished", ""),
        "another": ("finished", ""),
    }
    users = {(tmp_path / name / "file").stat().st_uid for name in endings}
    assert len(users) == 2
    assert min(users) >= FIRST_USER


def test_a_job_with_more_threads_than_it_may_have_ends_by_name(sandbox: Bubblewrap, tree: Tree, tmp_path: Path) -> None:
    program = THREADS + "\ntry: start(200)\nexcept RuntimeError: print(1, flush=True)\ntime.sleep(60)"
    assert run(sandbox, tmp_path / "out", program).ending == "processes"


def test_memory_and_seconds_of_the_processor_are_those_of_the_job(
    sandbox: Bubblewrap, tree: Tree, tmp_path: Path
) -> None:
    program = """
import os, time
held = b'x' * (30 << 20)
if os.fork() == 0:
    until = time.process_time() + 0.3
    while time.process_time() < until: pass
    os._exit(0)
os.wait()
time.sleep(0.2)
"""
    ended = run(sandbox, tmp_path / "out", program)
    assert ended.ending == "finished", ended.log
    assert 30 << 20 < ended.peak_memory_bytes < 60 << 20
    assert ended.cpu_seconds is not None
    assert 0.3 <= ended.cpu_seconds < 5
    assert ended.held_memory_bytes is None or ended.held_memory_bytes >= ended.peak_memory_bytes


ALL_PROCESSORS = """
import os
for i in range(3): os.fork()
while True: pass
"""


def test_a_job_with_more_cpu_seconds_than_it_may_have_ends_by_name(
    sandbox: Bubblewrap, tree: Tree, tmp_path: Path
) -> None:
    ended = sandbox.run(job_of(ALL_PROCESSORS, tmp_path), replace(LIMITS, cpu_seconds=0.6), lambda line: None)
    assert ended.ending == "cpu"
    assert ended.cpu_seconds is not None
    assert 0.6 < ended.cpu_seconds < 3
    assert not left_running()


PROCESSES_THAT_WORKED = """
import os, time
for i in range(4):
    if os.fork() == 0:
        until = time.process_time() + 0.3
        while time.process_time() < until: pass
        os._exit(0)
for i in range(4): os.wait()
"""


def test_cpu_seconds_of_processes_that_are_gone_count(sandbox: Bubblewrap, tree: Tree, tmp_path: Path) -> None:
    job = job_of(PROCESSES_THAT_WORKED, tmp_path)
    ended = sandbox.run(job, replace(LIMITS, cpu_seconds=1.1), lambda line: None)
    assert ended.ending == "cpu"


def test_a_job_without_a_group_says_that_nothing_was_measured(sandbox: Bubblewrap, tmp_path: Path) -> None:
    ended = run(replace(sandbox, tree=None), tmp_path / "out", "sum(range(1_000_000))")
    assert (ended.ending, ended.cpu_seconds, ended.held_memory_bytes) == ("finished", None, None)


@pytest.mark.parametrize("lacks", [{"cgroup": "not writable"}, {"cpu": "podman tells none"}])
def test_a_budget_of_cpu_seconds_is_refused_where_nothing_counts_them(
    monkeypatch: pytest.MonkeyPatch, lacks: dict[str, str]
) -> None:
    walls = Walls(Bubblewrap(Path("bwrap")), None, lacks)
    monkeypatch.setattr(choose, "find_walls", lambda host: walls)
    ((name, reason),) = lacks.items()
    expected = rf"the budget has 'cpu_seconds', and nothing counts them here: no {name} \({reason}\)"
    with pytest.raises(PlatformError, match=expected):
        choose_sandbox("recipe", counts_cpu=True)
    assert choose_sandbox("recipe", ("cgroup",), counts_cpu=True) is walls.sandbox
    assert choose_sandbox("recipe") is walls.sandbox


TAKES_ALL_CORES = """
import os, time
os.sched_setaffinity(0, range(os.cpu_count()))
print(*os.sched_getaffinity(0), flush=True)
for i in range(3): os.fork()
until = time.monotonic() + 1
while time.monotonic() < until: pass
"""


@pytest.fixture
def one_core() -> Iterator[int]:
    """Keep this process to one of its cores."""
    before = os.sched_getaffinity(0)
    if len(before) == 1:
        pytest.skip("this machine has one core only")
    core = max(before)
    use_cores(frozenset({core}))
    yield core
    use_cores_again(before)


def use_cores_again(cores: set[int]) -> None:
    """Let every thread have more cores again, which `use_cores` does not."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), cores)


def test_a_job_cannot_leave_the_cores_of_its_worker(
    sandbox: Bubblewrap, tree: Tree, one_core: int, tmp_path: Path
) -> None:
    if tree.cpuset is None:
        pytest.skip("nothing holds jobs to cores here")
    heard: list[bytes] = []
    ended = sandbox.run(job_of(TAKES_ALL_CORES, tmp_path), LIMITS, heard.append)
    assert ended.ending == "finished", ended.log
    assert b"".join(heard) == str(one_core).encode()
    assert not groups_left(tree, os.getpid())


def test_a_job_gets_no_more_of_the_processors_than_its_worker_has_cores(
    sandbox: Bubblewrap, tree: Tree, one_core: int, tmp_path: Path
) -> None:
    if tree.cpu is None:
        pytest.skip("nothing bounds processors here")
    ended = run(replace(sandbox, tree=replace(tree, cpuset=None)), tmp_path / "out", TAKES_ALL_CORES)
    assert ended.ending == "finished", ended.log
    assert ended.cpu_seconds is not None
    assert ended.cpu_seconds < 1.2 * ended.seconds + 0.2


def test_a_tree_is_used_without_what_takes_no_groups(tree: Tree, tmp_path: Path) -> None:
    if tree.version == 2:
        pytest.skip("version 2 has one tree")
    (tmp_path / "file").write_text("no folder")
    broken = replace(tree, cpu=tmp_path / "file", cpuset=tmp_path / "file", accounts=tmp_path / "file")
    assert cgroup._without_what_fails(broken) == replace(tree, cpu=None, cpuset=None, accounts=None)
    assert cgroup._without_what_fails(tree) == tree


@pytest.mark.parametrize("text", ["", "a", "3-1", "0,", "-1", "0--1"])
def test_a_list_of_cores_is_read_strictly(text: str) -> None:
    assert read_cores("0-2,5") == {0, 1, 2, 5}
    with pytest.raises(RecipeError, match="expected a list of cores"):
        read_cores(text)


def test_cores_that_are_not_there_are_refused() -> None:
    with pytest.raises(RecipeError, match="this machine gives us the cores 0"):
        use_cores(frozenset({100_000}))


def wait_until(holds: Callable[[], bool], seconds: float = SECONDS_OVER) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.01)
    return holds()


@pytest.mark.parametrize("has_group", [True, False])
def test_a_job_dies_with_its_watcher(sandbox: Bubblewrap, walls: Walls, tmp_path: Path, *, has_group: bool) -> None:
    if has_group and sandbox.tree is None:
        pytest.skip(f"no control group here: {walls.lacks['cgroup']}")
    chosen = sandbox if has_group else replace(sandbox, tree=None)

    def watch_a_job() -> None:
        with limited_folder(tmp_path / "out", 1 << 20, mount=walls.mount):
            run(chosen, tmp_path / "out", "import time; time.sleep(60)")

    watcher = multiprocessing.get_context("fork").Process(target=watch_a_job)
    watcher.start()
    try:
        assert wait_until(lambda: len(left_running()) >= 2, 10)
        time.sleep(0.3)
    finally:
        assert watcher.pid is not None
        os.kill(watcher.pid, signal.SIGKILL)
        watcher.join()
    assert wait_until(lambda: not left_running())
    assert wait_until(lambda: not is_limited(tmp_path / "out"))
    assert sandbox.tree is None or wait_until(lambda: not groups_left(sandbox.tree, watcher.pid))


@pytest.fixture
def left(tree: Tree) -> Iterator[tuple[Group, int, int]]:
    """A group that a process has made, noted and entered; the process; its keeper."""
    group = group_of_job(tree)

    def leave() -> None:
        with noted(groups=group.folders):
            group.make(64 << 20, 10)
            group.join()
            time.sleep(60)

    watcher = multiprocessing.get_context("fork").Process(target=leave)
    watcher.start()
    assert watcher.pid is not None
    assert wait_until(lambda: keeper.processes(group.unified or group.memory) == [watcher.pid])
    children = Path(f"/proc/{watcher.pid}/task/{watcher.pid}/children").read_text(encoding="ascii")
    yield group, watcher.pid, int(children)
    watcher.kill()
    watcher.join()


def test_a_sweep_ends_what_a_dead_watcher_and_its_dead_keeper_left(left: tuple[Group, int, int]) -> None:
    group, watcher, guard = left
    os.kill(guard, signal.SIGKILL)
    sweep()
    assert keeper.processes(group.memory) == [watcher], "its note is held"
    os.kill(watcher, signal.SIGKILL)
    os.waitpid(watcher, 0)
    sweep()
    assert not group.memory.exists()


def test_a_number_is_taken_until_its_keeper_is_done(left: tuple[Group, int, int]) -> None:
    group, watcher, guard = left
    os.kill(guard, signal.SIGSTOP)
    os.kill(watcher, signal.SIGKILL)
    os.waitpid(watcher, 0)
    sweep()
    assert group.memory.exists()
    os.kill(guard, signal.SIGCONT)
    assert wait_until(lambda: not group.memory.exists())


def test_two_notes_have_two_numbers() -> None:
    if os.name == "nt":
        pytest.skip("Windows has no users by number")
    with noted() as one, noted() as another:
        assert one.number != another.number


def test_a_group_ends_what_is_in_it(tree: Tree) -> None:
    group = group_of_job(tree)
    with made(group, 64 << 20, 10):
        child = os.fork()
        if child == 0:
            group.join()
            time.sleep(60)
            os._exit(0)
        assert wait_until(lambda: group.members() == 1)
        group.end()
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert not groups_left(tree, os.getpid())


def test_calls_that_reach_beyond_a_job_are_refused(sandbox: Bubblewrap, tmp_path: Path) -> None:
    if not sandbox.filters:
        pytest.skip("this system takes no filter of calls")
    column = 0 if platform.machine() == "x86_64" else 1
    names = ("io_uring_setup", "userfaultfd", "keyctl", "add_key", "request_key", "memfd_secret", "bpf")
    numbers = {name: seccomp.CALLS[name][column] for name in names}
    personality = seccomp.PERSONALITY[seccomp.MACHINES[platform.machine()]]
    program = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def refused(number, *arguments):
    ctypes.set_errno(0)
    return libc.syscall(number, *map(ctypes.c_ulong, arguments)) == -1 and ctypes.get_errno() == 1
allowed = [name for name, number in {numbers!r}.items() if not refused(number, 0, 0, 0, 0, 0)]
assert not allowed, allowed
assert refused({personality}, 0x0040000)
assert not refused({personality}, 0xffffffff)
assert refused({seccomp.CALLS["ptrace"][column]}, 0, 0, 0, 0)
"""
    ended = run(sandbox, tmp_path / "out", program)
    assert ended.ending == "finished", ended.log


def outcome(program: bytes, architecture: int, number: int, argument: int = 0) -> int:
    """Follow a program as the kernel does; return what it gives back."""
    steps = list(struct.iter_unpack("=HBBI", program))
    data = struct.pack("=iIQ6Q", number, architecture, 0, argument, 0, 0, 0, 0, 0)
    word, position = 0, 0
    while True:
        code, yes, no, value = steps[position]
        position += 1
        if code == seccomp.RETURN:
            return value
        if code == seccomp.LOAD:
            (word,) = struct.unpack_from("=I", data, value)
        else:
            holds = word == value if code == seccomp.EQUAL else word >= value
            position += yes if holds else no


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_the_filter_refuses_its_list_and_nothing_else(machine: str) -> None:
    program, architecture = seccomp.filter_program(machine), seccomp.MACHINES[machine]
    column = 0 if machine == "x86_64" else 1
    listed = {call[column] for call in seccomp.CALLS.values()}
    if machine == "x86_64":
        listed |= set(seccomp.X86_ONLY.values())
    refused = {n for n in range(500) if outcome(program, architecture, n) == seccomp.REFUSE}
    assert refused == listed
    assert outcome(program, architecture, 0) == seccomp.ALLOW
    assert outcome(program, 0x40000003, 0) == seccomp.REFUSE, "another processor's calls"
    personality = seccomp.PERSONALITY[architecture]
    assert outcome(program, architecture, personality, 0xFFFFFFFF) == seccomp.ALLOW
    assert outcome(program, architecture, personality, 0x40000) == seccomp.REFUSE
    x32 = outcome(program, architecture, 0x40000000)
    assert x32 == (seccomp.REFUSE if machine == "x86_64" else seccomp.ALLOW)


def test_an_interpreter_by_a_roundabout_path_is_found_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    bubblewrap = find_bubblewrap()
    if bubblewrap is None or failure(bubblewrap) is not None:
        pytest.skip("no bubblewrap works on this machine")
    interpreter = Path(sys.executable)
    monkeypatch.setattr(sys, "executable", f"{interpreter.parent}/../{interpreter.parent.name}/{interpreter.name}")
    monkeypatch.setattr(sys, "prefix", f"{sys.prefix}/bin/..")
    assert ".." not in python()[0]
    assert not any(".." in place.parts for place in runtime_folders())
    assert failure(bubblewrap) is None
    assert isinstance(choose._find_sandbox.__wrapped__(None).sandbox, Bubblewrap)


def test_a_worker_says_why_another_sandbox_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "find_bubblewrap", lambda: None)
    monkeypatch.setattr(choose, "find_container", lambda runtime: Container(Path("/usr/bin/podman")))
    monkeypatch.setattr(choose, "failure", lambda sandbox: None)
    found = choose._find_sandbox.__wrapped__(None)
    assert isinstance(found.sandbox, Container)
    expected = "no bubblewrap works here, so a container engine runs the jobs: bubblewrap is not installed"
    assert list(Walls(found.sandbox, None, found.lacks).notes(["recipe"])) == [expected]


def test_code_does_not_open_where_something_is_lacking_that_no_organiser_waived(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lacking = Walls(Bubblewrap(Path("bwrap")), None, {"cgroup": "not writable", "filesystem": "only root can"})
    monkeypatch.setattr(choose, "find_walls", lambda host: lacking)
    with pytest.raises(PlatformError, match=r"cgroup \(not writable\), filesystem \(only root can\)"):
        choose_sandbox("plugin")
    with pytest.raises(PlatformError, match=r"lacks filesystem \(only root can\)"):
        choose_sandbox("program", ("cgroup",))
    assert choose_sandbox("program", ("cgroup", "filesystem")) is lacking.sandbox
    assert choose_sandbox("recipe") is lacking.sandbox
    assert list(lacking.notes()) == [
        "no control group for each job, so its memory and processes are only watched: not writable",
        "no limited file system for each job, so its disk is only watched: only root can",
    ]
