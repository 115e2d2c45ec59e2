"""What the soak judges: archives of each tier, built by real jobs in the sandbox, and what a killed worker leaves.

The jobs merge models of the bundled family, by a recipe, by a method file and by a program. Only the answers are made
up: a job that questions a model takes the same way through the sandbox, and ten times as long.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from competition.serving import FakeJudge
from cuvee.hub import Hub
from cuvee.progress import Progress
from cuvee.submission.assemble import Entry, pack_entry
from cuvee.submission.build import MERGE, merge_inside
from cuvee.submission.competition import Competition, Tier
from cuvee.submission.competition_yaml import load_competition
from cuvee.submission.gather import places
from cuvee.submission.lock import read_lock
from cuvee.submission.pack import LOCK, Submission, make_archive, read_archive
from cuvee.submission.sandbox import Limits
from cuvee.submission.sandbox.choose import choose_sandbox, find_walls
from cuvee.submission.sandbox.filesystem import limited_folder
from cuvee.submission.sandbox.keeper import processes
from cuvee.submission.sandbox.leftovers import notes_folder
from cuvee.submission.verdict import Verdict

JOB_LIMITS = Limits(seconds=300, memory_bytes=2 << 30, disk_bytes=100 << 20)
RECIPE = "merge_method: linear\nmodels: [{{model: {sort}}}, {{model: {odd}}}]\nparameters: {{weight: 1.0}}\n"
PLUGIN = "merge_method: middle\nmodels: [{{model: {sort}}}, {{model: {odd}}}]\n"
METHOD = '''
"""The mean, and some time to be killed in."""
import time

from cuvee.method import element_method
from cuvee.ops.arrays import Array


@element_method("middle", formula="the mean", base="none")
def middle(models: Array) -> Array:
    """Take the mean."""
    time.sleep(0.02)
    return models.mean(axis=0)
'''
PROGRAM = """
import json, os, shutil, subprocess, sys, time
from pathlib import Path

order = json.loads(Path(sys.argv[1]).read_text())
for _ in range(3):  # processes that a killed worker must not leave, one of them in a session of its own
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
time.sleep(1.5)
shutil.copytree(next(iter(order["places"].values())), Path(order["output"]) / "model")
os._exit(0)
"""
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class RealJudge:
    """Builds each submission in the sandbox, and makes up its answers."""

    family: Competition
    answers: FakeJudge

    def __call__(self, archive: Path, workdir: Path, purpose: str, progress: Progress) -> Verdict:
        submission = read_archive(archive)
        workdir.mkdir(parents=True, exist_ok=True)
        digest = self.built(submission, workdir, progress)
        return replace(self.answers(archive, workdir, purpose, progress), weights_digest=digest)

    def built(self, submission: Submission, workdir: Path, progress: Progress) -> str:
        """Build a submission's model in the sandbox and return the digest of its weights."""
        sandbox = choose_sandbox(submission.tier)
        lock = read_lock(submission.lock, LOCK)
        models = places(lock, self.family, Hub(offline=True), workdir / "models", progress)
        with limited_folder(workdir / MERGE, JOB_LIMITS.disk_bytes, mount=find_walls().mount):
            return merge_inside(submission, models, sandbox, JOB_LIMITS, workdir, progress).weights_digest


def real_judge(family: Path, answers: FakeJudge) -> RealJudge:
    """Return a judge for archives of `write_archives`."""
    return RealJudge(load_competition(family), answers)


def write_archives(folder: Path, family: Competition, tiers: Sequence[Tier]) -> None:
    """Write a submission of each tier to a folder, to be sent under many names."""
    models = {name: str(family.folder.absolute() / "models" / name) for name in ("sort", "odd")}
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(RECIPE.format(**models))
    (folder / "plugin.yaml").write_text(PLUGIN.format(**models))
    (folder / "middle.py").write_text(METHOD)
    (folder / "program").mkdir()
    (folder / "program/main.py").write_text(PROGRAM)
    entries: dict[Tier, Entry] = {
        "recipe": Entry(folder / "recipe.yaml"),
        "plugin": Entry(folder / "plugin.yaml", method_file=folder / "middle.py"),
        "program": Entry(program=folder / "program", models=(models["sort"],)),
    }
    for tier in tiers:
        (folder / f"{tier}.tar").write_bytes(pack_entry(entries[tier], family, name="soak", hub=Hub(offline=True)))


def named_archive(folder: Path, tier: Tier, name: str, competition: str) -> bytes:
    """Return the submission of a tier under a name of its own, for a competition."""
    return make_archive(name, tier, competition, read_archive(folder / f"{tier}.tar").files)


@dataclass(frozen=True)
class Traces:
    """What a worker has started, as it was seen before it was killed: processes, and control groups of its jobs."""

    started: tuple[psutil.Process, ...]
    groups: tuple[Path, ...]

    @property
    def has_job(self) -> bool:
        """Tell whether a job was under way."""
        return any(processes(group) for group in self.groups)

    def seconds_until_gone(self) -> float:
        """Wait until nothing of it is left, and return how long that took. A process's number may be another's now."""
        began = time.monotonic()
        while self.left():
            waited = time.monotonic() - began
            assert waited < PATIENCE_SECONDS, f"left after {waited:.0f} s: {self.left()}"
            time.sleep(0.01)
        return time.monotonic() - began

    def left(self) -> list[str]:
        """List what is still there."""
        alive = [str(process) for process in self.started if _runs(process)]
        return alive + [f"{group}: {processes(group)}" for group in self.groups if processes(group)]


def traces_of(worker: int) -> Traces:
    """Return what a worker has started. The keepers of its jobs are not among it: they end after the jobs."""
    started = [process for process in psutil.Process(worker).children(recursive=True) if not _is_keeper(process)]
    notes = notes_folder()
    texts = [note.read_text() for note in notes.glob("*.json")] if notes.is_dir() else []
    return Traces(tuple(started), tuple(_groups_named(texts, f"cuvee-job-{worker}-")))


def _groups_named(notes: Sequence[str], prefix: str) -> list[Path]:
    import json

    groups = []
    for note in notes:
        content = json.loads(note or "{}")
        groups += [Path(group) for group in content.get("groups", ()) if Path(group).name.startswith(prefix)]
    return groups


def _is_keeper(process: psutil.Process) -> bool:
    try:
        return any(word.endswith("keeper.py") for word in process.cmdline())
    except psutil.NoSuchProcess:
        return True


def _runs(process: psutil.Process) -> bool:
    """Tell whether a process is still there. Waiting for its parent to look, it does nothing any more."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
