"""SLURM's jobs by submitit: run really on this machine, and by a small SLURM of three commands."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

submitit = pytest.importorskip("submitit")

from cuvee.api import recipe_from_text  # noqa: E402  # this and the others need submitit
from cuvee.demo import model_folder  # noqa: E402
from cuvee.engine import merge  # noqa: E402
from cuvee.engine.by_shards import merge_by_shards  # noqa: E402
from cuvee.errors import PlatformError  # noqa: E402
from cuvee.executor import Done  # noqa: E402
from cuvee.executor.slurm_jobs import Request, SlurmJobs  # noqa: E402

from . import calls  # noqa: E402
from .test_executor import appeared, is_alive, wait_until  # noqa: E402


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that all nodes see, and let them import the tests' functions."""
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    return tmp_path


@pytest.fixture
def jobs(shared: Path) -> Iterator[SlurmJobs]:
    with SlurmJobs(Request(local=True), 2, folder=shared) as opened:
        yield opened


def call(jobs: SlurmJobs, function: Any, *arguments: object, slot: int = 0) -> Done:
    jobs.submit(slot, function, *arguments)
    return jobs.next_done()


def test_jobs_stay_with_their_state_and_tell_failures(jobs: SlurmJobs) -> None:
    assert call(jobs, calls.double, 4) == Done(0, 8)
    assert [call(jobs, calls.count, slot=slot).value for slot in (0, 0, 1)] == [1, 2, 1]
    assert call(jobs, calls.refuse, "ties") == Done(0, failure="recipe.yaml:3: there is no 'ties'")
    assert call(jobs, calls.fail) == Done(0, failure="KeyError: 'lambda'")
    assert "its result cannot be sent" in call(jobs, calls.make_function).failure


def test_busy_slots_and_slots_that_are_not_there_are_refused(jobs: SlurmJobs) -> None:
    jobs.submit(0, calls.double, 1)
    with pytest.raises(ValueError, match="slot 0 runs a call"):
        jobs.submit(0, calls.double, 1)
    with pytest.raises(ValueError, match="there is no slot 2"):
        jobs.submit(2, calls.double, 1)
    jobs.next_done()
    with pytest.raises(ValueError, match="no call runs"):
        jobs.next_done()


def test_lost_jobs_say_where_their_log_is_and_start_anew(jobs: SlurmJobs) -> None:
    assert call(jobs, calls.count).value == 1
    for function in (calls.die, calls.leave, calls.run_out_of_time):
        done = call(jobs, function)
        assert done.lost
        assert Path(done.failure.rpartition("its log is ")[2]).is_file()
    assert call(jobs, calls.count) == Done(0, 1)
    os.kill(call(jobs, calls.process).value, signal.SIGKILL)
    while not jobs._slots[0].has_ended:
        time.sleep(0.02)
    assert call(jobs, calls.count) == Done(0, 1)


def test_silent_jobs_are_lost(shared: Path) -> None:
    with SlurmJobs(Request(local=True), 1, folder=shared, silent_seconds=5) as jobs:
        done = call(jobs, calls.stand_still)
        assert done.lost
        assert "silent for 5 s" in done.failure
        assert call(jobs, calls.double, 2) == Done(0, 4)


def test_another_version_is_refused(jobs: SlurmJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cuvee.executor.slurm_jobs.__version__", "0.0")
    assert "and the caller has 0.0" in call(jobs, calls.double, 2).failure


def test_nothing_stays_behind(shared: Path) -> None:
    with SlurmJobs(Request(local=True), 1, folder=shared) as jobs:
        jobs.submit(0, calls.sleep, 60, str(shared / "mark"))
        pid = appeared(shared / "mark")
    wait_until(lambda: not is_alive(pid))
    assert [path.name for path in shared.iterdir()] == ["mark"]


def test_a_job_ends_when_its_caller_is_killed(shared: Path) -> None:
    script = shared / "caller.py"
    script.write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        "from cuvee.executor.slurm_jobs import Request, SlurmJobs\n"
        "from executor import calls\n"
        "jobs = SlurmJobs(Request(local=True), 1, folder=Path(sys.argv[1]), silent_seconds=5)\n"
        "jobs.submit(0, calls.process)\n"
        "print(jobs.next_done().value, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    with subprocess.Popen([sys.executable, script, shared], stdout=subprocess.PIPE, text=True) as caller:
        pid = int(caller.stdout.readline())
        caller.wait()
        assert is_alive(pid)
    wait_until(lambda: not is_alive(pid))


def test_a_job_that_is_killed_during_a_merge_changes_no_byte(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, expert = model_folder("base"), model_folder("sort")
    models = f"[{{model: {expert}, parameters: {{weight: 0.6}}}}]"
    recipe = recipe_from_text(f"merge_method: ties\nbase_model: {base}\nmodels: {models}\n")
    whole = merge(recipe, shared / "whole", shard_bytes=1_000_000)
    with SlurmJobs(Request(local=True), 1, folder=shared) as jobs:
        submit, victims = jobs.submit, [call(jobs, calls.process).value]

        def submit_and_kill(*arguments: Any) -> None:
            submit(*arguments)
            while victims:
                os.kill(victims.pop(), signal.SIGKILL)

        monkeypatch.setattr(jobs, "submit", submit_and_kill)
        there = merge_by_shards(recipe, shared / "there", jobs, shard_bytes=1_000_000)
        assert jobs._lost_any
    assert there.digest == whole.digest


SBATCH = """#!/usr/bin/env bash
cp "$1" "$NODES/asked.sh"
grep -q 'partition=closed' "$1" && { echo "sbatch: error: invalid partition specified: closed" >&2; exit 1; }
number=$(ls "$NODES" | wc -l)
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$1")
for task in $(seq 0 "${last:-0}"); do
  name=$number
  array=()
  [ -n "$last" ] && name=${number}_$task && array=(SLURM_ARRAY_JOB_ID=$number SLURM_ARRAY_TASK_ID=$task)
  log=$(sed -n 's/^#SBATCH --error=//p' "$1" | sed "s/%A_%a/$name/; s/%j/$name/")
  env "${array[@]}" SLURM_JOB_ID=$number SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NTASKS=1 \\
    setsid bash "$1" > /dev/null 2> "$log" &
  echo $! > "$NODES/$name"
done
echo "Submitted batch job $number"
"""

SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do [ "$1" = --unbuffered ] && shift || shift 2; done
exec "$@"
"""

SACCT = """#!/usr/bin/env bash
echo "JobID|State|NodeList"
cd "$NODES"
for job in [0-9]*; do
  kill -0 "$(cat "$job")" 2> /dev/null && state=RUNNING || state=NODE_FAIL
  echo "$job|$state|n1"
done
"""

SCANCEL = """#!/usr/bin/env bash
kill -- -"$(cat "$NODES/$1")"
"""


@pytest.fixture
def small_slurm(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which a SLURM of this machine notes its jobs; `asked.sh` is the last that it was sent."""
    commands, nodes = shared / "commands", shared / "nodes"
    commands.mkdir()
    nodes.mkdir()
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT, "scancel": SCANCEL}.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(commands), os.environ["PATH"]]))
    monkeypatch.setenv("NODES", str(nodes))
    return nodes


def test_slurm_is_asked_for_an_array_of_jobs_and_for_one_anew(small_slurm: Path, shared: Path) -> None:
    request = Request("gpu", 90, gpus=1, cpus=4, memory_bytes=64_000_000_000, further={"account": "lab"})
    with SlurmJobs(request, 2, folder=shared) as jobs:
        lines = (small_slurm / "asked.sh").read_text().splitlines()
        asked = {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")}
        wanted = {"partition=gpu", "time=90", "gpus-per-node=1", "cpus-per-task=4", "mem=61035MB", "account=lab"}
        assert {*wanted, "array=0-1%2"} <= asked
        assert call(jobs, calls.threads_of_environment, slot=1) == Done(1, "4")
        done = call(jobs, calls.die)
        assert done.lost
        assert "ended (NODE_FAIL)" in done.failure
        assert call(jobs, calls.double, 5) == Done(0, 10)
    wait_until(lambda: not any(is_alive(int(file.read_text())) for file in small_slurm.glob("[0-9]*")))


def test_what_slurm_refuses_is_told(small_slurm: Path, shared: Path) -> None:
    with pytest.raises(PlatformError, match="invalid partition specified: closed"):
        SlurmJobs(Request("closed"), 2, folder=shared)
    assert not list(shared.glob("cuvee-slurm-*"))


def test_where_no_slurm_is_it_is_told(shared: Path) -> None:
    with pytest.raises(PlatformError, match="there is no SLURM here"):
        SlurmJobs(Request(), 1, folder=shared)
