"""Executors: one call a slot, results as they come, failures as sentences, and slots that start anew."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cuvee.cli import main
from cuvee.cli.executors import cluster_of, parse_request
from cuvee.errors import RecipeError
from cuvee.executor import Done, Executor, Here, Processes
from cuvee.executor.slurm_jobs import Request

from . import calls


@pytest.fixture(params=["here", "processes"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with Here() if request.param == "here" else Processes(2) as opened:
        yield opened


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes(2) as opened:
        yield opened


def call(executor: Executor, function: Callable[..., Any], *arguments: object, slot: int = 0) -> Done:
    executor.submit(slot, function, *arguments)
    return executor.next_done()


def test_a_call_gives_its_value(executor: Executor) -> None:
    assert call(executor, calls.double, 4) == Done(0, 8)


def test_processes_share_the_cores_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("cuvee.executor.processes.usable_cores", lambda: 6)
    with Processes(3) as executor:
        assert call(executor, calls.torch_threads) == Done(0, 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with Processes(1) as executor:
        assert call(executor, calls.torch_threads) == Done(0, 1)


def test_a_script_that_imports_torch_shares_the_cores_out_too(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import torch\n"
        "from cuvee.executor import Processes\n"
        "if __name__ == '__main__':\n"
        "    with Processes(64) as executor:\n"
        "        executor.submit(0, torch.get_num_threads)\n"
        "        print(executor.next_done().value)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    printed = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, env=environment)
    assert printed.stdout == "1\n"


def test_an_expected_error_is_its_message(executor: Executor) -> None:
    assert call(executor, calls.refuse, "ties") == Done(0, failure="recipe.yaml:3: there is no 'ties'")
    assert "transformers" in call(executor, calls.lack).failure


def test_an_unexpected_error_names_its_kind(executor: Executor) -> None:
    assert call(executor, calls.fail) == Done(0, failure="KeyError: 'lambda'")


def test_a_slot_keeps_what_its_functions_keep(executor: Executor) -> None:
    first = call(executor, calls.count).value
    assert call(executor, calls.count).value == first + 1


def test_a_busy_slot_and_one_that_is_not_there_are_refused(executor: Executor) -> None:
    executor.submit(0, calls.double, 1)
    with pytest.raises(ValueError, match="slot 0 runs a call"):
        executor.submit(0, calls.double, 1)
    with pytest.raises(ValueError, match="there is no slot 2"):
        executor.submit(2, calls.double, 1)
    executor.next_done()
    with pytest.raises(ValueError, match="no call runs"):
        executor.next_done()


def test_slots_are_processes_of_their_own_with_states_of_their_own(processes: Processes) -> None:
    pids = [call(processes, calls.process, slot=slot).value for slot in (0, 1, 0, 1)]
    assert pids[:2] == pids[2:]
    assert len({*pids, os.getpid()}) == 3
    assert [call(processes, calls.count, slot=slot).value for slot in (0, 0, 1)] == [1, 2, 1]


def test_results_come_in_the_order_in_which_calls_end(processes: Processes, tmp_path: Path) -> None:
    processes.submit(0, calls.sleep, 30, str(tmp_path / "mark"))
    processes.submit(1, calls.double, 2)
    assert processes.next_done() == Done(1, 4)


def test_a_slot_that_is_killed_says_so_and_starts_anew(processes: Processes) -> None:
    assert call(processes, calls.count).value == 1
    assert call(processes, calls.die) == Done(0, failure="the process that ran this was killed by SIGKILL", lost=True)
    assert call(processes, calls.count) == Done(0, 1)
    assert call(processes, calls.leave).failure == "the process that ran this ended with exit code 3"
    assert call(processes, calls.double, 3, slot=0) == Done(0, 6)


def test_a_slot_that_dies_between_two_calls_starts_anew(processes: Processes) -> None:
    pid = call(processes, calls.process).value
    os.kill(pid, 9)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert call(processes, calls.process).value != pid


def test_a_result_that_cannot_be_sent_is_a_failure(processes: Processes) -> None:
    assert "its result cannot be sent" in call(processes, calls.make_function).failure
    assert call(processes, calls.double, 1) == Done(0, 2)


def test_closing_ends_running_calls(tmp_path: Path) -> None:
    started = time.monotonic()
    with Processes(1) as processes:
        processes.submit(0, calls.sleep, 60, str(tmp_path / "mark"))
        pid = appeared(tmp_path / "mark")
    assert not is_alive(pid)
    assert time.monotonic() - started < 50


def test_processes_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    code = "import sys; from executor import calls; from cuvee.executor import Processes\n"
    code += "if __name__ == '__main__':\n p = Processes(1); p.submit(0, calls.sleep, 1, sys.argv[1]); p.next_done()\n"
    code += " print(p.process_ids()[0], flush=True); import os; os.kill(os.getpid(), 9)\n"
    script = tmp_path / "parent.py"
    script.write_text(code)
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "mark")],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -9, done.stderr
    pid = int(done.stdout)
    wait_until(lambda: not is_alive(pid))


def test_a_process_in_the_middle_of_a_call_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys; from executor import calls; from cuvee.executor import Processes\n"
        "if __name__ == '__main__':\n"
        "    with Processes(1) as executor:\n"
        "        executor.submit(0, calls.sleep, 600, sys.argv[1])\n"
        "        executor.next_done()\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    parent = subprocess.Popen([sys.executable, script, mark], env={**os.environ, "PYTHONPATH": paths})
    child = appeared(mark)
    parent.kill()
    parent.wait()
    wait_until(lambda: not is_alive(child))


def appeared(mark: Path) -> int:
    wait_until(lambda: mark.exists() and mark.read_text() != "")
    return int(mark.read_text())


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(("option", "package"), [("--ray", "ray"), ("--slurm", "submitit")])
def test_a_merge_over_a_cluster_says_what_to_install(
    option: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert merged(tmp_path, monkeypatch, option, "127.0.0.1:1") == 2
    message = capsys.readouterr().err
    assert f"this needs the package '{package}', which is not installed" in message
    assert f"[{option.removeprefix('--')}]'" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--ray", "auto", "--part", "1/2"), "--ray does all of them"),
        (("--slurm", "auto", "--part", "1/2"), "--slurm does all of them"),
        (("--workers", "2"), "--workers is for --ray and --slurm"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert merged(tmp_path, monkeypatch, *options) == 2
    assert message in capsys.readouterr().err


def merged(folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    recipe = folder / "recipe.yaml"
    recipe.write_text("merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\n")
    monkeypatch.setattr(sys, "argv", ["cuvee", "merge", str(recipe), str(folder / "out"), *options])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("auto", Request()),
        ("gpu", Request("gpu")),
        (
            "partition=gpu,time=2h,gpus=1,cpus=8,memory=64GB,account=lab",
            Request("gpu", 120, 1, 8, 64_000_000_000, {"account": "lab"}),
        ),
        ("time=1-02:00:30", Request(minutes=1561)),
        ("time=90m,cluster=local", Request(minutes=90, local=True)),
    ],
)
def test_a_request_of_slurm_is_read(text: str, wanted: Request) -> None:
    assert parse_request(text) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu,time=2h", "expected key=value, found 'gpu'"),
        ("partiton=gpu", "there is no 'partiton'"),
        ("gpus=two", "gpus is a number from 1, found 'two'"),
        ("time=2", "expected a time such as"),
        ("time=0h", "expected a time above 0"),
        ("memory=much", "--slurm: memory"),
        ("cluster=mine", "cluster is local"),
        ("partition=", "expected key=value"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        parse_request(text)


def test_two_clusters_are_one_too_many() -> None:
    with pytest.raises(RecipeError, match="--ray is one cluster"):
        cluster_of(1, "auto", "auto")
