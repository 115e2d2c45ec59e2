"""A merge that was stopped goes on where it was, ends as if it had not been, and is never mixed with another."""

import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cuvee
from cuvee.checkpoint import weights_digest
from cuvee.engine.journal import Journal, read_journal
from cuvee.engine.run import run_plan
from cuvee.errors import CheckpointError, CuveeError, OutOfBudget, RecipeError
from cuvee.plan import make_plan
from cuvee.testing import write_model

TENSORS = 30
MANY = 3_000_001
"""Elements of the largest tensor: a merge takes long enough to be killed at any of its moments."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    generator = np.random.default_rng(0)
    sizes = [MANY, *(int(n) for n in generator.integers(1000, 400_000, TENSORS - 1))]
    for name in ("base", "a", "b"):
        weights = {f"t{i:02}": generator.standard_normal(n, np.float32) for i, n in enumerate(sizes)}
        write_model(root / name, weights, dtype="BF16")
        (root / name / "tokenizer.json").write_text("{}" * 1000)
    return root


def text(models: Path, method: str = "ties", density: float = 0.3) -> str:
    inputs = f"base_model: {models}/base\nmodels: [{{model: {models}/a}}, {{model: {models}/b}}]\n"
    thinning = "" if method == "task_arithmetic" else f", density: {density}"
    return f"merge_method: {method}\n{inputs}parameters: {{weight: 0.5{thinning}}}\n"


def merge(models: Path, out: Path, method: str = "ties", density: float = 0.3, **options: Any) -> cuvee.MergeResult:
    return run_plan(make_plan(cuvee.recipe_from_text(text(models, method, density))), out, **options)


def contents(folder: Path) -> dict[str, Any]:
    """Return all that a folder holds, but for the figures, which differ from run to run."""
    found: dict[str, Any] = {path.name: path.read_bytes() for path in folder.iterdir()}
    record = json.loads(found.pop("cuvee.json"))
    loss = record.pop("figures")["cast_loss"]
    return found | {"record": record, "cast_loss": loss}


class Stopping:
    """Progress that stops the merge once so many tensors are finished."""

    def __init__(self, out: Path, after: int, error: BaseException) -> None:
        self.journal = out.parent / f".{out.name}.partial" / "journal.jsonl"
        self.after = after
        self.error = error
        self.advanced: list[int] = []

    def start(self, what: str, total: int, unit: str) -> None:
        self.total = total

    def advance(self, amount: int) -> None:
        self.advanced.append(amount)
        if len(read_journal(self.journal).finished) >= self.after:
            raise self.error

    def note(self, text: str) -> None:
        pass

    def finish(self) -> None:
        pass


def stopped(models: Path, out: Path, after: int = 3, **options: Any) -> Path:
    """Run a merge that is interrupted after some tensors. Returns the folder that it leaves."""
    with pytest.raises(KeyboardInterrupt):
        merge(models, out, progress=Stopping(out, after, KeyboardInterrupt()), **options)
    return out.parent / f".{out.name}.partial"


@pytest.fixture(scope="module")
def uninterrupted(models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return contents(merge(models, tmp_path_factory.mktemp("whole") / "out").folder)


def test_an_interrupted_merge_goes_on_and_says_so(models: Path, tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt, match=rf"3 of {TENSORS} tensors are done, and the same command goes on"):
        merge(models, out, progress=Stopping(out, 3, KeyboardInterrupt()))
    assert os.listdir(tmp_path) == [".out.partial"]
    watched = Stopping(out, TENSORS + 1, KeyboardInterrupt())
    result = merge(models, out, progress=watched)
    assert contents(out) == uninterrupted
    assert os.listdir(tmp_path) == ["out"]
    assert watched.advanced[0] > 0
    assert result.figures.bytes_read < watched.total


def test_a_merge_that_finished_nothing_leaves_nothing(models: Path, tmp_path: Path) -> None:
    stopped(models, tmp_path / "out", after=0)
    assert os.listdir(tmp_path) == []


def test_errors_that_another_try_would_meet_again_leave_nothing(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(CheckpointError):
        merge(models, out, progress=Stopping(out, 3, CheckpointError("nan")))
    assert os.listdir(tmp_path) == []


def run_and_die(models: Path, out: Path, options: dict[str, Any], after_seconds: float) -> bool:
    """Merge in a process that is killed after a time. Says whether it was."""
    process = multiprocessing.get_context("fork").Process(target=merge, args=(models, out), kwargs=options)
    process.start()
    time.sleep(after_seconds)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "options"),
    [("ties", {}), ("dare_ties", {"threads": 2, "shard_bytes": 3_000_000}), ("task_arithmetic", {"chunk": 1 << 16})],
)
def test_a_merge_killed_at_any_moment_ends_as_if_it_had_not_been(
    method: str, options: dict[str, Any], models: Path, tmp_path: Path
) -> None:
    options = {"method": method, **options}
    expected = contents(merge(models, tmp_path / "whole", **options).folder)
    started = time.perf_counter()
    merge(models, tmp_path / "warm", **options)
    seconds = time.perf_counter() - started
    moments = random.Random(0)
    killed = 0
    for i in range(10):
        out = tmp_path / f"out{i}"
        for _ in range(moments.choice((1, 1, 2))):
            killed += not out.exists() and run_and_die(models, out, options, moments.uniform(0, 1.1) * seconds)
        if not out.exists():
            merge(models, out, **options)
        assert contents(out) == expected
        # killed after the rename: the model is complete, and at most a journal of nothing is left
        assert not (tmp_path / f".out{i}.partial" / "model").exists()
    assert killed >= 1  # of 10 and more; how many are too late depends on what else the machine does


KILL_AT_RENAME = """
import os, signal, sys, pathlib
import cuvee
victim, when = sys.argv[3], sys.argv[4]
whole = getattr(pathlib.Path, victim)
def dying(self, *rest, **named):
    if when == "after":
        whole(self, *rest, **named)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(pathlib.Path, victim, dying)
cuvee.merge(cuvee.load_recipe(sys.argv[1]), sys.argv[2], overwrite=True)
"""


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize(("victim", "when"), [("write_text", "after"), ("rename", "before"), ("rename", "after")])
def test_a_kill_at_the_very_end_leaves_what_is_complete_or_goes_on(
    victim: str, when: str, earlier: bool, models: Path, tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    (tmp_path / "recipe.yaml").write_text(text(models))
    out = tmp_path / "out"
    before = contents(merge(models, out, density=0.9).folder) if earlier else None
    command = [sys.executable, "-c", KILL_AT_RENAME, tmp_path / "recipe.yaml", out, victim, when]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    if out.exists():
        assert contents(out) in (before, uninterrupted)
    merge(models, out, overwrite=True)
    assert contents(out) == uninterrupted
    assert sorted(os.listdir(tmp_path)) == ["out", "recipe.yaml"]


def test_an_earlier_merge_that_was_moved_aside_when_all_stopped_comes_back(models: Path, tmp_path: Path) -> None:
    before = contents(merge(models, tmp_path / "out").folder)
    (tmp_path / "out").rename(tmp_path / ".out.replaced")
    with pytest.raises(RecipeError, match="exists already"):
        merge(models, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_a_torn_journal_costs_the_torn_tensor_only(models: Path, tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    journal = stopped(models, tmp_path / "out", 5) / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-3])
    watched = Stopping(tmp_path / "out", TENSORS + 1, KeyboardInterrupt())
    merge(models, tmp_path / "out", progress=watched)
    assert contents(tmp_path / "out") == uninterrupted


def test_a_lost_shard_is_made_anew_even_if_that_is_killed_too(models: Path, tmp_path: Path) -> None:
    cut = {"shard_bytes": 3_000_000}
    expected = contents(merge(models, tmp_path / "whole", **cut).folder)
    assert len([name for name in expected if name.endswith(".safetensors")]) > 2
    partial = stopped(models, tmp_path / "out", 20, **cut)
    min((partial / "model").glob("*.safetensors")).unlink()
    done = len(read_journal(partial / "journal.jsonl").finished)
    stopped(models, tmp_path / "out", 1, **cut)
    assert 0 < len(read_journal(partial / "journal.jsonl").finished) < done
    assert contents(merge(models, tmp_path / "out", **cut).folder) == expected


@pytest.mark.parametrize("change", ["recipe", "layout", "option", "version"])
def test_another_merge_is_refused_until_asked_to_start_anew(
    change: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = stopped(models, tmp_path / "out")
    before = (partial / "journal.jsonl").read_bytes()
    options: dict[str, Any] = {
        "recipe": {"density": 0.4},
        "layout": {"shard_bytes": 5_000_000},
        "option": {"allow_nonfinite": True},
        "version": {},
    }[change]
    if change == "version":
        monkeypatch.setattr("cuvee.engine.identity.__version__", "9.9")
    said = {"recipe": "another recipe", "layout": "--shard-size", "option": "--allow-nonfinite", "version": "9.9"}
    with pytest.raises(RecipeError, match=said[change]) as caught:
        merge(models, tmp_path / "out", **options)
    assert "--no-resume" in str(caught.value.hint)
    assert (partial / "journal.jsonl").read_bytes() == before
    anew = merge(models, tmp_path / "out", resume=False, **options)
    assert anew.digest == merge(models, tmp_path / "other", **options).digest
    assert sorted(os.listdir(tmp_path)) == ["other", "out"]


def test_a_changed_input_is_refused_and_named(models: Path, tmp_path: Path) -> None:
    stopped(models, tmp_path / "out")
    file = models / "a" / "model.safetensors"
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    try:
        with pytest.raises(RecipeError, match=r"an input has changed since: .*/a: model\.safetensors") as caught:
            merge(models, tmp_path / "out")
        assert "--no-resume" in str(caught.value.hint)
        assert merge(models, tmp_path / "out", resume=False).folder.exists()
    finally:
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def spoil(partial: Path, tensor: str, shards: str = "*.safetensors") -> None:
    """Flip a bit in the middle of a tensor in the files of a stopped merge."""
    for path in sorted((partial / "model").glob(shards)):
        size = int.from_bytes(path.read_bytes()[:8], "little")
        header = json.loads(path.read_bytes()[8 : 8 + size])
        if tensor in header:
            first, last = header[tensor]["data_offsets"]
            with path.open("r+b") as file:
                file.seek(8 + size + (first + last) // 2)
                byte = file.read(1)[0]
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte ^ 1]))


def test_a_finished_tensor_that_is_damaged_is_merged_again(
    models: Path, tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    partial = stopped(models, tmp_path / "out", 5)
    first = next(iter(read_journal(partial / "journal.jsonl").finished))
    spoil(partial, first)
    result = merge(models, tmp_path / "out")
    assert any(f"'{first}' had changed on the disk" in warning for warning in result.warnings)
    assert contents(tmp_path / "out") == uninterrupted
    assert result.digest == weights_digest(tmp_path / "out")


@pytest.fixture
def own_models(models: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(models, tmp_path / "own"))


def other_numbers(file: Path) -> None:
    """Write finite numbers over some of a file's, in place."""
    with file.open("r+b") as opened:
        opened.seek(-4096, os.SEEK_END)
        opened.write(b"\x00\x3f" * 2048)


def put_back(file: Path) -> None:
    copy = file.with_suffix(".copy")
    shutil.copy2(file, copy)
    copy.rename(file)


def with_its_time_set_back(file: Path) -> None:
    status = file.stat()
    other_numbers(file)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


CHANGES = {
    "it was written to": other_numbers,
    "another file is in its place": put_back,
    "its time set back": with_its_time_set_back,
    "it has": lambda file: os.truncate(file, file.stat().st_size + 1),
    "the file is gone": Path.unlink,
}


class Changing(Stopping):
    """Changes an input once a tensor is finished."""

    change: Any = None

    def advance(self, amount: int) -> None:
        if self.change and len(read_journal(self.journal).finished) >= self.after:
            self.change()
            self.change = None


@pytest.mark.parametrize("said", CHANGES)
def test_an_input_that_changes_during_the_merge_is_seen(said: str, own_models: Path, tmp_path: Path) -> None:
    watching = Changing(tmp_path / "out", 1, KeyboardInterrupt())
    watching.change = lambda: CHANGES[said](own_models / "a" / "model.safetensors")
    with pytest.raises(CheckpointError, match=said) as caught:
        merge(own_models, tmp_path / "out", progress=watching)
    assert caught.value.exit_code == 3
    assert "a/model.safetensors" in str(caught.value.where)
    assert watching.change is None
    assert os.listdir(tmp_path) == ["own"]


def test_an_input_that_is_cut_during_the_merge_is_seen_and_put_back_gives_the_same(
    own_models: Path, tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    file = own_models / "a" / "model.safetensors"
    whole = file.read_bytes()
    watching = Changing(tmp_path / "out", 1, KeyboardInterrupt())
    watching.change = lambda: os.truncate(file, len(whole) // 2)
    with pytest.raises(CheckpointError, match=r"own/a/model\.safetensors: .*it has (changed|\d+ bytes)"):
        merge(own_models, tmp_path / "out", progress=watching)
    assert not (tmp_path / "out").exists()
    file.write_bytes(whole)
    merged = merge(own_models, tmp_path / "out").folder
    assert contents(merged)["model.safetensors"] == uninterrupted["model.safetensors"]


def test_an_input_that_is_linked_elsewhere_during_the_merge_is_the_same(own_models: Path, tmp_path: Path) -> None:
    watching = Changing(tmp_path / "out", 1, KeyboardInterrupt())
    watching.change = lambda: os.link(own_models / "a" / "model.safetensors", tmp_path / "link")
    assert merge(own_models, tmp_path / "out", progress=watching).folder.exists()
    assert watching.change is None


def test_two_merges_to_one_output_do_not_mix(models: Path, tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    out = tmp_path / "out"
    refusals: list[CuveeError] = []

    class Second(Stopping):
        def advance(self, amount: int) -> None:
            for resume in (True, False) if len(self.advanced) == 1 else ():
                with pytest.raises(RecipeError, match="another merge is writing this output now") as caught:
                    merge(models, out, density=0.9, resume=resume)
                refusals.append(caught.value)
            super().advance(amount)

    merge(models, out, progress=Second(out, TENSORS + 1, KeyboardInterrupt()))
    assert len(refusals) == 2
    assert contents(out) == uninterrupted


def test_the_lock_of_a_process_that_is_gone_is_free(models: Path, tmp_path: Path) -> None:
    partial = stopped(models, tmp_path / "out")
    held = Journal(partial / "journal.jsonl")
    with pytest.raises(RecipeError, match="another merge"):
        merge(models, tmp_path / "out")
    held.close()
    assert merge(models, tmp_path / "out").folder.exists()


def test_a_disk_that_cannot_be_read_names_the_file_and_another_try_goes_on(
    models: Path, tmp_path: Path, uninterrupted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = os.preadv

    def failing(*arguments: Any) -> int:
        if len(read_journal(tmp_path / ".out.partial" / "journal.jsonl").finished) >= 2:
            raise OSError(errno.EIO, "Input/output error")
        return read(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", failing)
        with pytest.raises(CheckpointError, match=r"model\.safetensors: .*Input/output error"):
            merge(models, tmp_path / "out", threads=1)
    merge(models, tmp_path / "out")
    assert contents(tmp_path / "out") == uninterrupted


def test_inputs_that_nobody_may_write_to_are_merged(
    read_only_models: Path, tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    merged = merge(read_only_models, tmp_path / "out").folder
    assert contents(merged)["model.safetensors"] == uninterrupted["model.safetensors"]


@pytest.fixture
def read_only_models(own_models: Path) -> Iterator[Path]:
    """Models in a folder that is mounted so that root, too, cannot write to it."""
    bind = ["mount", "--bind", str(own_models), str(own_models)]
    if os.geteuid() != 0 or subprocess.run(bind, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a folder that root cannot write to")
    subprocess.run(["mount", "-o", "remount,bind,ro", str(own_models)], check=True)
    yield own_models
    subprocess.run(["umount", str(own_models)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


class Filling(Stopping):
    """Fills the disk once so many tensors are finished."""

    def advance(self, amount: int) -> None:
        if self.after and len(read_journal(self.journal).finished) >= self.after:
            self.after = 0
            with (self.journal.parent.parent / "ballast").open("wb", buffering=0) as ballast:
                try:
                    while True:
                        ballast.write(b"x" * 4096)
                except OSError:
                    pass


def test_a_full_disk_stops_the_merge_and_with_more_room_it_goes_on(
    models: Path, small_disk: Path, uninterrupted: dict[str, Any]
) -> None:
    out = small_disk / "out"
    with pytest.raises(OutOfBudget, match="No space left on device") as caught:
        merge(models, out, progress=Filling(out, 3, KeyboardInterrupt()))
    assert caught.value.exit_code == 75
    assert "free some space; the same command then goes on: " in str(caught.value.hint)
    done = len(read_journal(small_disk / ".out.partial" / "journal.jsonl").finished)
    assert 3 <= done <= TENSORS
    with pytest.raises(OutOfBudget, match="are free"):
        merge(models, out)
    assert len(read_journal(small_disk / ".out.partial" / "journal.jsonl").finished) == done
    subprocess.run(["mount", "-o", "remount,size=128m", str(small_disk)], check=True)
    merge(models, out)
    assert contents(out) == uninterrupted


def heed_interrupts() -> None:
    """Undo what a shell does to jobs in the background: their Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupted_after_the_first_tensor(command: list[Any], journal: Path) -> tuple[int, str]:
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts)
    while running.poll() is None and len(read_journal(journal).finished) < 1:
        time.sleep(0.002)
    running.send_signal(signal.SIGINT)
    said = running.communicate()[1]
    return running.returncode, said


def test_ctrl_c_on_the_command_line_gives_130_and_the_same_command_goes_on(
    models: Path, tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    (tmp_path / "recipe.yaml").write_text(text(models))
    door = "from cuvee.cli import main; main()"
    command = [sys.executable, "-c", door, "merge", tmp_path / "recipe.yaml", tmp_path / "out", "--threads", "1"]
    for _ in range(20):  # a merge may end before the signal reaches it
        code, said = interrupted_after_the_first_tensor(command, tmp_path / ".out.partial" / "journal.jsonl")
        if code:
            break
        shutil.rmtree(tmp_path / "out")
    assert code == 130, said
    assert "the same command goes on" in said or "interrupted" in said  # whichever moment it was
    subprocess.run(command, check=True, capture_output=True)
    assert contents(tmp_path / "out") == uninterrupted
