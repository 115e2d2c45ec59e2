"""Builds and questions a model in a sandbox: a job that merges, a job that answers. Their output is looked at first.

The merge of a submission with code and the questions never meet: the second job runs our code on the merged weights.
"""

import json
import logging
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cuvee.checkpoint import open_checkpoint, weights_digest
from cuvee.cores import usable_cores
from cuvee.errors import CheckpointError, SubmissionError
from cuvee.evaluation import Task
from cuvee.progress import Progress, Stoppable
from cuvee.submission import inside
from cuvee.submission.answers import write_without_targets
from cuvee.submission.cleaned import cleaned
from cuvee.submission.facts import code_in, configs_in
from cuvee.submission.pack import PROGRAM_FOLDER, RECIPE, Submission
from cuvee.submission.sandbox import Ended, Job, Limits, Sandbox
from cuvee.submission.sandbox.filesystem import limited_folder, look_at_scratch
from cuvee.submission.sandbox.kernels import kernel_cache
from cuvee.submission.sandbox.runtime import python, python_environment
from cuvee.submission.verdict import Reason

MEMORY_SHARE = 0.6
"""Of the memory that may be taken, the part that a merge plans its buffers with."""

MODELS_SHARE = 0.3
"""Of the memory that may be taken, the part in which a search holds models; beside them are a network and a merge."""

MAIN = "main.py"
"""A program's first file. It is told the order's file and writes a model's folder, MERGED, to the order's output."""

SEARCH, MERGE, EVALUATION = "search", "merge", "evaluation"
"""Folders in the work folder that jobs write to. They may be there, empty and of limited size."""

AUTHORS, INPUTS, FULL = 2, 3, 75
MOST_FILES = 2000

MOST_JSON_BYTES = 10 << 20
MOST_LISTING_BYTES = 128 << 20
"""Of a file that lists a whole vocabulary or all tensors."""

log = logging.getLogger("cuvee.submission")

WITHHELD = (
    "what was said is withheld, as it may hold hidden items: the worker's log has it, "
    "and `cuvee submission verify` asks the public items at home"
)
"""Stands in a message in place of what was said while hidden items were in play."""

LISTINGS = ("tokenizer.json", "vocab.json", ".index.json")


class Rejection(Exception):
    """The submission cannot go on, for a reason that is the participant's."""

    def __init__(self, reason: Reason, message: str, log: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.log = log


class Unclear(Exception):
    """Our own code failed on the files of the submission, and nobody knows yet whose fault that is."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.log = log


@dataclass(frozen=True)
class Built:
    """A merged model in a folder of ours, looked at and found to be plain files.

    `tokens` of each text of the competition's were read to tune it.
    """

    folder: Path
    weights_digest: str
    parameters: int
    warnings: tuple[str, ...]
    ended: Ended
    tokens: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """The recipe that a search has found, and how many tokens, items and candidates that took."""

    recipe: str
    counts: Mapping[str, int]
    ended: Ended


@dataclass(frozen=True)
class Answered:
    """The folder with the answers that came out of the sandbox."""

    folder: Path
    ended: Ended


@contextmanager
def limited_work(workdir: Path, disk_bytes: int, names: Sequence[str] = (MERGE, EVALUATION)) -> Iterator[None]:
    """Make the folders that jobs write to, of limited size where this machine can. Raises PlatformError."""
    mount = look_at_scratch(workdir).mount
    with ExitStack() as folders:
        for name in names:
            folders.enter_context(limited_folder(workdir / name, disk_bytes, mount=mount))
        yield


def search_inside(
    submission: Submission,
    models: Mapping[str, Path],
    texts: Mapping[str, Path],
    tasks: Mapping[str, Path],
    most_tokens: int,
    sandbox: Sandbox,
    limits: Limits,
    workdir: Path,
    progress: Progress,
) -> Found:
    """Search a submission's space in a sandbox, by the competition's texts and within so many tokens.

    `tasks` are files of tasks, beside their data, that the texts have become.

    Raises Rejection, Unclear, or PlatformError for faults of ours.
    """
    given, out = workdir / "space", workdir / SEARCH
    out.mkdir(parents=True, exist_ok=True)
    given.mkdir(parents=True)
    (given / RECIPE).write_bytes(submission.files[RECIPE])
    order = {
        "space": str(given / RECIPE),
        "places": {reference: str(place) for reference, place in models.items()},
        "texts": _absolute(texts),
        "tasks": _absolute(tasks),
        "output": str(out),
        "most_tokens": most_tokens,
        "memory_bytes": int(limits.memory_bytes * MODELS_SHARE),
    }
    folders = {place.parent for place in tasks.values()}
    readable = (given, *models.values(), *texts.values(), *folders)
    ended, said = _run("search", order, readable, out, sandbox, limits, workdir, progress)
    _refuse("searching", ended, said, trusted=True)
    place = out / inside.FOUND
    if not stat.S_ISREG(os.lstat(place).st_mode) or place.stat().st_size > MOST_JSON_BYTES:
        raise Unclear("the search gave no recipe", ended.log)
    counts = {name: count for name, count in said.tokens.items() if count >= 0}
    return Found(place.read_text(encoding="utf-8"), counts, ended)


def merge_inside(
    submission: Submission,
    models: Mapping[str, Path],
    sandbox: Sandbox,
    limits: Limits,
    workdir: Path,
    progress: Progress,
    *,
    texts: Mapping[str, Path] | None = None,
) -> Built:
    """Merge a submission's recipe in a sandbox; `texts` are the competition's that it is tuned by.

    Raises Rejection, Unclear, or PlatformError for faults of ours.
    """
    given, out = workdir / "submission", workdir / MERGE
    out.mkdir(parents=True, exist_ok=True)
    for name, data in submission.files.items():
        (given / name).parent.mkdir(parents=True, exist_ok=True)
        (given / name).write_bytes(data)
    plugin = submission.plugin
    trusted = submission.tier == "recipe"
    order = {
        "recipe": str(given / RECIPE),
        "plugin": str(given / plugin) if plugin else None,
        "places": {reference: str(place) for reference, place in models.items()},
        "output": str(out),
        "memory_bytes": int(limits.memory_bytes * MEMORY_SHARE),
        "threads": usable_cores(),
        "texts": _absolute(texts or {}),
    }
    program = given / PROGRAM_FOLDER / MAIN if submission.tier == "program" else None
    readable = (given, *models.values(), *(texts or {}).values())
    ended, said = _run("merge", order, readable, out, sandbox, limits, workdir, progress, program=program)
    _refuse("merging", ended, said, trusted=trusted)
    folder = out / inside.MERGED
    parameters = _look(folder, limits.disk_bytes, trusted=trusted)
    tokens = {name: said.tokens[name] for name in texts or {} if said.tokens.get(name, -1) >= 0}
    return Built(folder, weights_digest(folder), parameters, said.warnings, ended, tokens)


def answer_inside(
    model: Path,
    tasks: Mapping[str, Task],
    sandbox: Sandbox,
    limits: Limits,
    workdir: Path,
    progress: Progress,
    *,
    withholds: bool = False,
) -> Answered:
    """Let a model answer tasks, without their targets, in a sandbox.

    A model brings a chat template, and what a template says as it fails can be the question itself. So where some
    tasks are hidden, `withholds` keeps all that is said from the messages: it goes to the log of this process alone.

    Raises Rejection, Unclear, or PlatformError.
    """
    questions, out = workdir / "questions", workdir / EVALUATION
    out.mkdir(parents=True, exist_ok=True)
    order = {
        "model": str(model),
        "tasks": write_without_targets(tasks, questions),
        "output": str(out),
        "device": "auto",
    }
    ended, said = _run("evaluate", order, (questions, model), out, sandbox, limits, workdir, progress)
    _refuse("evaluating", ended, said, trusted=True, withholds=withholds)
    return Answered(out / inside.ANSWERS / "samples", ended)


def _absolute(places: Mapping[str, Path]) -> dict[str, str]:
    return {reference: str(place.absolute()) for reference, place in places.items()}


def _run(
    kind: str,
    order: Mapping[str, Any],
    readable: tuple[Path, ...],
    out: Path,
    sandbox: Sandbox,
    limits: Limits,
    workdir: Path,
    progress: Progress,
    *,
    program: Path | None = None,
) -> tuple[Ended, "Said"]:
    """Run one order, by our code or by a participant's `program`; return how it ended and its messages."""
    place = workdir / f"{kind}.json"
    place.write_text(json.dumps(order), encoding="utf-8")
    heard = _Heard(progress)
    start = ("-m", "cuvee.submission.inside", kind) if program is None else (str(program),)
    job = Job(
        python(*start, str(place)),
        tuple(path.absolute() for path in (place, *readable)),
        out.absolute(),
        kernel_cache(workdir / f"{kind}-kernels") if sandbox.isolates else {},
        {**python_environment(), "HF_HUB_OFFLINE": "1", "HOME": str(out.absolute())},
    )
    ended = sandbox.run(job, limits, heard.line)
    heard.finish()
    return ended, heard.said


MOST_WARNINGS = 50


@dataclass
class Said:
    """The messages of a job besides its progress: an error, and warnings. All of it is text that was cleaned.

    `tokens` were read of each text; a job with code of a participant reads none.
    """

    error: str = ""
    warnings: tuple[str, ...] = ()
    tokens: Mapping[str, int] = field(default_factory=dict)


class _Heard:
    """Takes lines of JSON from the job: progress, and its messages at the end. Anything else is dropped.

    An empty line is a moment at which nothing came: whoever hears the progress may stop the job then, too.
    """

    def __init__(self, progress: Progress) -> None:
        self.said = Said()
        self._progress = progress
        self._open = False
        self._left = 0

    def line(self, line: bytes) -> None:
        if not line:
            self._tick()
            return
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            return
        if not isinstance(content, dict):
            return
        if isinstance(content.get("start"), str):
            self._start(content)
        elif type(content.get("advance")) is int and self._open:
            amount = max(0, min(content["advance"], self._left))
            self._left -= amount
            self._progress.advance(amount)
        elif isinstance(content.get("note"), str) and self._open:
            self._progress.note(cleaned(content["note"], 100))
        elif content.get("finish") is True:
            self.finish()
        else:
            self._keep(content)

    def _tick(self) -> None:
        if isinstance(self._progress, Stoppable):
            self._progress.check()

    def _keep(self, content: Mapping[str, Any]) -> None:
        if "error" in content:
            self.said.error = cleaned(content["error"])
        warnings = content.get("warnings")
        if isinstance(warnings, list):
            self.said.warnings = tuple(cleaned(warning) for warning in warnings[:MOST_WARNINGS])
        tokens = content.get("tokens")
        if isinstance(tokens, dict):
            self.said.tokens = {cleaned(name): count for name, count in tokens.items() if type(count) is int}

    def finish(self) -> None:
        if self._open:
            self._progress.finish()
            self._open = False

    def _start(self, content: Mapping[str, Any]) -> None:
        self.finish()
        total, unit = content.get("total"), content.get("unit")
        if type(total) is int and 0 <= total < 1 << 62 and isinstance(unit, str):
            self._open, self._left = True, total
            self._progress.start(cleaned(content["start"], 100), total, cleaned(unit, 20))


def _refuse(what: str, ended: Ended, said: Said, *, trusted: bool, withholds: bool = False) -> None:
    """Raise for a job that did not end well.

    Our code is `trusted`: its complaints about recipe, inputs and budget are the participant's matter, and so is every
    failure of the participant's own code. Any other failure of our code is unclear.
    """
    if ended.ending == "finished":
        return
    message, log_text = said.error, ended.log
    if withholds:
        log.warning("%s ended with '%s', exit code %s: %r %r", what, ended.ending, ended.code, message, log_text)
        message, log_text = WITHHELD, ""
    if ended.ending != "crash":
        raise Rejection(ended.ending, f"{what} was stopped: over the budget's {ended.ending}", log_text)
    code = ended.code if said.error else None
    if code == FULL:
        raise Rejection("memory" if "memory" in said.error else "disk", f"{what} failed: {message}", log_text)
    if code in (AUTHORS, INPUTS):
        raise Rejection("recipe", f"{what} failed: {message}", log_text)
    if trusted:
        raise Unclear(f"{what} failed: {message or f'exit code {ended.code}; see the log'}", log_text)
    raise Rejection("crash", f"{what} failed with exit code {ended.code}", log_text)


def _look(folder: Path, disk_bytes: int, *, trusted: bool) -> int:
    """Check the output: plain files, headers that hold together, no code. Return the number of parameters."""
    try:
        files = plain_files(folder)
        _check_sizes(files, disk_bytes)
        _make_readable(folder, files)
        with open_checkpoint(folder) as checkpoint:
            counted = sum(spec.elements for spec in checkpoint.tensors.values())
            config = checkpoint.config
    except (SubmissionError, CheckpointError) as error:
        if trusted:
            raise Unclear(f"the merge gave no model: {error}") from error
        raise Rejection("output", f"what came out is no model: {error}") from error
    if code := code_in(files, {"config.json": config, **configs_in(folder)}):
        raise Rejection("output", f"the model brings code: {code[0]}")
    return counted


def _make_readable(folder: Path, files: Iterable[str]) -> None:
    """Let the next job read files of the last job, whose user may be another. They are plain files, and it is dead."""
    for name in files:
        path = folder / name
        path.chmod(0o644)
        for parent in (path.parent, *path.parent.parents):
            if parent.is_relative_to(folder):
                parent.chmod(0o755)


def _check_sizes(files: Mapping[str, int], disk_bytes: int) -> None:
    """Refuse files that say they are larger than the disk they were written to, and JSON that is too large to read.

    A file with holes takes little of a disk, and as much time and memory of ours to read as its size says.
    """
    total = sum(files.values())
    if total > disk_bytes:
        message = f"the model's files say they have {total:,} bytes; the budget's disk has {disk_bytes:,}"
        raise Rejection("disk", message)
    for name, size in files.items():
        most = MOST_LISTING_BYTES if name.endswith(LISTINGS) else MOST_JSON_BYTES
        if name.endswith(".json") and size > most:
            raise Rejection("output", f"'{name}' has {size:,} bytes; at most {most:,} are read")


def plain_files(folder: Path) -> dict[str, int]:
    """Return the sizes of the regular files below a folder. Raises SubmissionError for links, devices and pipes."""
    found: dict[str, int] = {}
    if not stat.S_ISDIR(os.lstat(folder).st_mode if os.path.lexists(folder) else 0):
        raise SubmissionError("the folder is not there, or is a link", where=folder.name)
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                found[os.path.relpath(path, folder)] = status.st_size
            elif not stat.S_ISDIR(status.st_mode):
                raise SubmissionError("neither file nor folder; links and devices are not taken", where=name)
        if len(found) > MOST_FILES:
            raise SubmissionError(f"more than {MOST_FILES} files", where=folder.name)
    return found
