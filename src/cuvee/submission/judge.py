"""Judges a submission: rules, a merge from the leaves, measures, a verdict. The only function that a worker calls."""

import errno
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cuvee.catalogue import registry
from cuvee.documents.document import read_document
from cuvee.errors import PlatformError, RecipeError, SubmissionError
from cuvee.hub import Hub
from cuvee.progress import Progress, Silent
from cuvee.recipe.recipe import OF_COMPETITION
from cuvee.submission.asked import METHOD_SEPARATOR, Asked, read_asked
from cuvee.submission.build import (
    EVALUATION,
    MERGE,
    SEARCH,
    WITHHELD,
    Built,
    Found,
    Rejection,
    Unclear,
    answer_inside,
    limited_work,
    merge_inside,
    search_inside,
)
from cuvee.submission.claim import compare_with_claim, read_claim
from cuvee.submission.cleaned import cleaned
from cuvee.submission.competition import Budget, Competition
from cuvee.submission.control import judge_a_parent, whole_model
from cuvee.submission.gather import gather, places
from cuvee.submission.hardware import calibrate, this_machine
from cuvee.submission.likeness import likeness_of
from cuvee.submission.lock import Lock, read_lock
from cuvee.submission.measure import Measured, Parts, load_parts, measure, measure_beside
from cuvee.submission.pack import CLAIM, LOCK, RECIPE, Submission, read_archive, strict_json
from cuvee.submission.rules import check_rules
from cuvee.submission.sandbox import Ended, Limits, Sandbox, choose_sandbox
from cuvee.submission.sandbox.choose import Host
from cuvee.submission.sandbox.runtime import PACKAGE
from cuvee.submission.searched import texts_named, write_tasks
from cuvee.submission.tuning import places_of
from cuvee.submission.verdict import Figures, Finding, PrivateScores, Reason, Searched, Tuning, Verdict

log = logging.getLogger("cuvee.submission")

SILENT: Progress = Silent()

LONGEST_LOG = 64_000
CONTROL, CONTROLS = "control", "controls"
"""The folders in which a model of ours is judged as a control, and in which a submission answers other questions."""


def judge(
    archive: Path,
    competition: Competition,
    workdir: Path,
    *,
    progress: Progress = SILENT,
    private_items: Path | None = None,
    leaderboard_items: Path | None = None,
    hub: Hub | None = None,
    sandbox: Sandbox | None = None,
    calibration_seconds: float | None = None,
) -> Verdict:
    """Check the rules, build the model again from its leaves, measure it, and return the verdict.

    `workdir` is an empty or new folder that takes all scratch; the caller removes it. `private_items` is the folder
    that the private paths of the competition lead from (`competition.folder` for the organiser), and
    `leaderboard_items` that of the leaderboard parts; without them only public parts are measured. Labels never enter
    a sandbox: answers come out and are scored here. Without a `sandbox` the judge takes the best of this machine;
    `calibration_seconds` is an earlier result of `calibrate` on it.

    Faults of the submission or of the platform are in the verdict; nothing but an interruption is raised.
    Where a job fails, or our own code for an unknown reason, a model of the competition is judged as a control. If that
    fails too, the failure is ours. If it does not, the job's failure is the submission's; where our own code failed on
    a file that no code of the participant had made, or outside the sandbox, it is `quarantined` for the organiser.
    """
    empty = Verdict("errored", "", competition.name, competition.digest, datetime.now(UTC))
    try:
        submission = read_archive(archive)
    except SubmissionError as error:
        return _cleaned(replace(empty, outcome="rejected", reason="archive", message=str(error)), (archive.parent,))
    case = _Case(submission, competition, workdir.absolute(), progress, replace(empty, submission=submission.digest))
    folders = (workdir.absolute(), competition.folder.absolute(), PACKAGE.parent, Path(sys.prefix))
    verdict = _verdict_of(case, _Places(private_items, leaderboard_items), hub, sandbox, calibration_seconds)
    return _cleaned(verdict, folders)


def _verdict_of(
    case: "_Case", hidden: "_Places", hub: Hub | None, sandbox: Sandbox | None, calibration: float | None
) -> Verdict:
    try:
        with case.folders:
            return case.judged(hidden, hub or Hub(), sandbox, calibration)
    except Rejection as rejection:
        return case.refused(rejection, sandbox)
    except PlatformError as error:
        return case.errored(str(error))
    except Unclear as failure:
        return case.unclear(failure, sandbox)
    except Exception as error:  # noqa: BLE001  # the door: whatever goes wrong here must become a verdict
        if _is_of_the_machine(error):
            return case.errored(f"{type(error).__name__}: {error}")
        return case.quarantined(f"judging failed: {case.told(error)}", "", sandbox)


OF_JOBS = frozenset({"crash", "recipe", "output"})
"""Reasons that a library which fails on this machine can give to jobs, besides the submission."""

MACHINE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE})


def _is_of_the_machine(error: Exception) -> bool:
    """Say whether an error tells of this machine: its memory, its disk, its descriptors."""
    if isinstance(error, OSError):
        return error.errno in MACHINE_ERRORS
    return isinstance(error, MemoryError)


def _cleaned(verdict: Verdict, folders: Sequence[Path]) -> Verdict:
    """Return a verdict whose texts can be stored and shown, whatever a job or a file name said.

    Paths in the message and the log lead from the machine's `folders`, whose own places are nobody's business.
    """
    texts = {name: _clean(getattr(verdict, name)) for name in ("findings", "evidence")}
    message, log_text = (_without(folders, text) for text in (verdict.message, verdict.log))
    return replace(verdict, **texts, message=cleaned(message), log=cleaned(log_text, LONGEST_LOG))


def _without(folders: Sequence[Path], text: str) -> str:
    """Return a text whose paths lead from these folders."""
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        text = text.replace(f"{folder}/", "")
    return text


def _clean(content: Any) -> Any:
    """Return data of dataclasses, mappings and tuples with every text in it cleaned."""
    if isinstance(content, str):
        return cleaned(content)
    if isinstance(content, Mapping):
        return {_clean(key): _clean(value) for key, value in content.items()}
    if isinstance(content, tuple):
        return tuple(_clean(value) for value in content)
    if is_dataclass(content) and not isinstance(content, type):
        return replace(content, **{each.name: _clean(getattr(content, each.name)) for each in fields(content)})
    return content


@dataclass(frozen=True)
class _Places:
    """The folders that private parts and leaderboard parts lead from, where this judge has them."""

    private: Path | None
    leaderboard: Path | None


@dataclass
class _Case:
    """A judgement under way: `verdict` holds the findings so far, and is left if it stops.

    `folders` holds the file systems that jobs write to, which are gone when it closes. `began` says whether a job did.
    `asked` is what the recipe or space asks for; None for submissions with code. `hides` says whether hidden items are
    in play, which no message may repeat.
    """

    submission: Submission
    competition: Competition
    workdir: Path
    progress: Progress
    verdict: Verdict
    folders: ExitStack = field(default_factory=ExitStack)
    began: bool = False
    asked: Asked | None = None
    hides: bool = False

    def judged(self, hidden: "_Places", hub: Hub, sandbox: Sandbox | None, calibration: float | None) -> Verdict:
        lock = self.read()
        self.check(lock, hub)
        sandbox = sandbox or self.chosen_sandbox()
        if self.submission.tier != "recipe" and not sandbox.isolates:
            raise PlatformError(f"the tier '{self.submission.tier}' brings code, and '{sandbox.name}' has no walls")
        parts = self.parts(hidden)
        self.workdir.mkdir(parents=True, exist_ok=True)
        models = self.placed(lock, hub)
        pace = Pace.of(self.competition.budget, calibration)
        limits = pace.limits(0.0)
        searches = self.asked is not None and self.asked.space is not None
        names = (SEARCH, MERGE, EVALUATION) if searches else (MERGE, EVALUATION)
        self.folders.enter_context(limited_work(self.workdir, limits.disk_bytes, names))
        self.began = True
        texts = places_of(tuple(lock.texts), self.competition)
        submission, jobs = self.submission, []
        found = self.searched(models, texts, sandbox, limits)
        if found is not None:
            submission = submission.with_recipe(found.recipe)
            jobs.append(found.ended)
            limits = pace.limits(*_spent(jobs))
        built = merge_inside(submission, models, sandbox, limits, self.workdir, self.progress, texts=texts)
        jobs.append(built.ended)
        self.note_model(built)
        limits = pace.limits(*_spent(jobs))
        answered = answer_inside(
            built.folder, parts.asked(), sandbox, limits, self.workdir, self.progress, withholds=self.hides
        )
        measured = measure(parts, answered.folder)
        jobs.append(answered.ended)
        figures = _figures(jobs, built, _tuning(built, found), measured, pace, sandbox)
        self.verdict = replace(self.verdict, figures=figures)
        keep_tokens(self.competition.budget, measured.tokens, figures.tuning)
        private = self.asked_beside(parts, measured, built, sandbox, pace)
        return replace(
            self.verdict,
            outcome="accepted",
            predictions_digest=measured.predictions_digest,
            public=measured.public,
            private=private,
            reproduction=self.compared(built, measured),
            likeness=likeness_of(built.folder, self.ground(), measured.wrong, self.whole_models(models)),
            log=built.ended.log,
        )

    def parts(self, hidden: "_Places") -> Parts:
        """Read the tasks. What is wrong in a file of hidden items is for this process's log alone."""
        try:
            parts = load_parts(self.competition, hidden.private, hidden.leaderboard)
        except PlatformError as error:
            if hidden.private is None and hidden.leaderboard is None:
                raise
            log.error("a task cannot be read: %r", str(error))
            raise PlatformError("a task cannot be read: see the worker's log") from error
        self.hides = bool(parts.private or parts.leaderboard)
        return parts

    def told(self, error: Exception) -> str:
        """Return what a message says of an error of this process."""
        if not self.hides:
            return f"{type(error).__name__}: {error}"
        log.error("judging %s failed: %r", self.submission.digest, error)
        return f"{type(error).__name__}; {WITHHELD}"

    def asked_beside(
        self, parts: Parts, measured: Measured, built: Built, sandbox: Sandbox, pace: "Pace"
    ) -> PrivateScores | None:
        """Ask controls, and again what is decoded by chance, with a budget of their own: they cost the team nothing.

        Where that job does not come to its end, a finding says so, and the score stands.
        """
        asked = parts.asked_beside()
        if not asked:
            return measured.private
        workdir, limits = self.workdir / CONTROLS, pace.limits(0.0)
        try:
            with limited_work(workdir, limits.disk_bytes, (EVALUATION,)):
                answered = answer_inside(built.folder, asked, sandbox, limits, workdir, self.progress, withholds=True)
                return measure_beside(parts, measured, answered.folder)
        except Rejection as rejection:
            finding = Finding("controls", "note", f"the controls were not answered: {rejection.message}")
            self.verdict = replace(self.verdict, findings=(*self.verdict.findings, finding))
            return measured.private

    def whole_models(self, models: Mapping[str, Path]) -> dict[str, Path]:
        """Return the models of a recipe that are no adapters, by its words for them."""
        if self.asked is None:
            return {}
        return {str(model): models[str(model)] for model in self.asked.models if model.adapter is None}

    def ground(self) -> Path | None:
        """Return the folder of the model that others are sketched against: the competition's first whole model."""
        model = whole_model(self.competition)
        return self.competition.folder / model.folder if model is not None else None

    def rejected(self, reason: Reason, message: str, log: str = "") -> Verdict:
        """Return the verdict of a failure that is the participant's."""
        return replace(self.verdict, outcome="rejected", reason=reason, message=message, log=log)

    def errored(self, message: str) -> Verdict:
        """Return the verdict of a failure that is ours."""
        return replace(self.verdict, outcome="errored", reason="infrastructure", message=message)

    def refused(self, rejection: Rejection, sandbox: Sandbox | None) -> Verdict:
        """Return the verdict of a rejection. What a job did is the participant's only where a model of the competition
        is judged without fault; a competition without a model of its own has to believe its jobs.
        """
        is_of_a_job = self.began and rejection.reason in OF_JOBS
        if is_of_a_job and whole_model(self.competition) is not None:
            trouble = self.trouble(sandbox)
            if trouble:
                return self.errored(f"{rejection.message}; {trouble}")
        return self.rejected(rejection.reason, rejection.message, rejection.log)

    def trouble(self, sandbox: Sandbox | None) -> str:
        """Judge a model of the competition here, and say why that fails; nothing if it does not."""
        try:
            chosen = sandbox or self.chosen_sandbox()
            limits = Pace.of(self.competition.budget, None).limits(0.0)
            judge_a_parent(self.competition, chosen, limits, self.workdir / CONTROL, self.progress)
        except PlatformError as error:
            return error.message
        return ""

    def unclear(self, failure: Unclear, sandbox: Sandbox | None) -> Verdict:
        """Return the verdict of a job of ours that failed and does not say why.

        Code of the participant can leave a model on purpose that our code fails on, so that is the participant's.
        """
        if self.submission.tier == "recipe":
            return self.quarantined(failure.message, failure.log, sandbox)
        told = "a model of the competition is judged here without fault"
        return self.refused(Rejection("crash", f"{failure.message}; {told}", failure.log), sandbox)

    def quarantined(self, message: str, log: str, sandbox: Sandbox | None) -> Verdict:
        """Return the verdict of a failure of our own code: the organiser's to decide, unless this machine is broken."""
        trouble = self.trouble(sandbox)
        if trouble:
            return self.errored(f"{message}; {trouble}")
        told = "a model of the competition is judged here without fault, so the organiser looks at this"
        message = f"{message}; {told}"
        return replace(self.verdict, outcome="quarantined", reason="crash", message=message, log=log)

    def chosen_sandbox(self) -> Sandbox:
        return choose_sandbox(
            self.submission.tier,
            self.competition.without,
            host=Host(self.workdir),
            counts_cpu=self.competition.budget.cpu_seconds is not None,
        )

    def read(self) -> Lock:
        """Read recipe and lock, and see that they belong together."""
        try:
            lock = read_lock(self.submission.lock, LOCK)
            if self.submission.manifest.competition != self.competition.name:
                message = f"this was made for the competition '{self.submission.manifest.competition}'"
                raise SubmissionError(message)
            if self.submission.tier == "recipe":
                self.read_recipe(lock)
            elif self.submission.tier == "plugin" and _method_of(self.submission.recipe_text) != lock.merge_method:
                raise SubmissionError("the lock is of another method than the recipe's")
        except SubmissionError as error:
            raise Rejection("archive", str(error)) from error
        except RecipeError as error:
            raise Rejection("recipe", str(error)) from error
        return lock

    def read_recipe(self, lock: Lock) -> None:
        asked = read_asked(self.submission.recipe_text, source=RECIPE)
        if asked.digest != lock.recipe or asked.methods != lock.merge_method:
            raise SubmissionError("the lock is of another recipe", where=LOCK, hint="lock and pack it again")
        named = {str(model) for model in asked.models}
        if named != {model.reference for model in lock.models}:
            raise SubmissionError("the lock has other models than the recipe", where=LOCK, hint="lock it again")
        if asked.hashes(self.competition).keys() != lock.texts.keys():
            raise SubmissionError("the lock has other texts than the recipe", where=LOCK, hint="lock it again")
        methods = lock.merge_method.split(METHOD_SEPARATOR)
        kinds = {registry()[method].reproducible for method in methods}
        is_exact = kinds == {"bits"} and not lock.texts
        self.verdict = replace(
            self.verdict, recipe_digest=asked.digest, reproducible="bits" if is_exact else "tolerance"
        )
        self.asked = asked

    def searched(
        self, models: Mapping[str, Path], texts: Mapping[str, Path], sandbox: Sandbox, limits: Limits
    ) -> Found | None:
        """Search the submission's space; None for a recipe. What was found is of the space's models and texts."""
        asked, most = self.asked, self.competition.budget.tuning_tokens
        if asked is None or asked.space is None or most is None:
            return None
        try:
            tasks = write_tasks(texts_named(asked), self.competition, self.workdir / "tasks")
        except SubmissionError as error:
            raise Rejection("recipe", str(error)) from error
        found = search_inside(self.submission, models, texts, tasks, most, sandbox, limits, self.workdir, self.progress)
        self.verdict = replace(self.verdict, found_recipe=found.recipe)
        recipe = read_asked(found.recipe, source="the recipe that was found")
        if not {*recipe.models} <= {*asked.models} or not {*recipe.uses} <= {*asked.uses}:
            raise Unclear("the search found a recipe of other models or texts than its space has", found.ended.log)
        return found

    def check(self, lock: Lock, hub: Hub) -> None:
        """Check the rules; a broken rule ends the case."""
        recipe = "" if self.submission.tier == "program" else self.submission.recipe_text
        evidence = gather(lock, self.submission.tier, self.competition, hub, recipe)
        findings = check_rules(self.competition.rules, evidence)
        self.verdict = replace(self.verdict, evidence=evidence, findings=findings)
        self.stop_at_broken_rules()

    def stop_at_broken_rules(self) -> None:
        broken = [finding for finding in self.verdict.findings if finding.outcome == "fail"]
        if broken:
            raise Rejection("rules", "; ".join(map(_told, broken[:5])))

    def placed(self, lock: Lock, hub: Hub) -> dict[str, Path]:
        try:
            return places(lock, self.competition, hub, self.workdir / "models", self.progress)
        except SubmissionError as error:
            raise Rejection("archive", str(error)) from error

    def note_model(self, built: Built) -> None:
        """Note the built model. A model that is larger than its leaves may be is against the rules, too."""
        self.verdict = replace(self.verdict, weights_digest=built.weights_digest)
        most = self.competition.rules.max_parameters
        if most is not None and built.parameters > most:
            message = f"the merged model has {built.parameters:,} parameters; at most {most:,} are allowed"
            finding = Finding("merged_parameters", "fail", message)
            self.verdict = replace(self.verdict, findings=(*self.verdict.findings, finding))
            self.stop_at_broken_rules()

    def compared(self, built: Built, measured: Measured) -> Any:
        """Compare with the participant's claim, if there is any."""
        if CLAIM not in self.submission.files:
            return None
        try:
            claim = read_claim(strict_json(self.submission.files[CLAIM], CLAIM), CLAIM)
        except SubmissionError as error:
            raise Rejection("archive", str(error)) from error
        digest, public = built.weights_digest, measured.claimable
        return compare_with_claim(claim, built.folder, digest, measured.predictions, public)


@dataclass(frozen=True)
class Pace:
    """A budget on this machine: seconds here are `slower` times those of the reference machine."""

    budget: Budget
    calibration_seconds: float | None
    slower: float

    @classmethod
    def of(cls, budget: Budget, calibration: float | None) -> "Pace":
        """Return the pace of this machine, calibrated now unless it was before. Without reference they are alike."""
        if budget.calibration_seconds is None:
            return cls(budget, calibration, 1.0)
        found = calibrate() if calibration is None else calibration
        return cls(budget, found, found / budget.calibration_seconds)

    def limits(self, spent_seconds: float, spent_cpu_seconds: float = 0.0) -> Limits:
        """Return the limits of the next job after some seconds are spent, by the clock and of processors."""
        budget = self.budget
        left_cpu = None
        if budget.cpu_seconds is not None:
            left_cpu = self._left(budget.cpu_seconds, spent_cpu_seconds)
        return Limits(
            self._left(budget.seconds, spent_seconds),
            budget.memory_bytes,
            budget.disk_bytes,
            budget.processes,
            budget.log_bytes,
            left_cpu,
        )

    def _left(self, seconds: float, spent: float) -> float:
        return max(1.0, seconds * self.slower - spent)


def _told(finding: Finding) -> str:
    model = f"{finding.model}: " if finding.model else ""
    return f"{finding.rule}: {model}{finding.message}"


def keep_tokens(budget: Budget, answered: int, tuning: Tuning | None) -> None:
    """Raise Rejection if answers or tuning took more tokens than the budget has of each."""
    if budget.tokens is not None and answered > budget.tokens:
        raise Rejection("tokens", f"{answered:,} tokens; the budget has {budget.tokens:,}")
    most = budget.tuning_tokens
    if tuning is None or most is None:
        return
    if tuning.tokens > most:
        message = f"{tuning.tokens:,} tokens were read to tune the recipe; the budget has {most:,}"
        raise Rejection("tokens", message)


def _tuning(built: Built, found: Found | None) -> Tuning | None:
    if not built.tokens and found is None:
        return None
    texts = {name.removeprefix(OF_COMPETITION): count for name, count in built.tokens.items()}
    if found is None:
        return Tuning(sum(texts.values()), texts)
    counts = {name: found.counts.get(name, 0) for name in ("tokens", "items", "candidates")}
    search = Searched(**counts, seconds=found.ended.seconds)
    return Tuning(search.tokens + sum(texts.values()), texts, search)


def _spent(jobs: Sequence[Ended]) -> tuple[float, float]:
    """Return the seconds that jobs took, by the clock and of processors."""
    cpu_seconds = filter(None, [job.cpu_seconds for job in jobs])
    return sum(job.seconds for job in jobs), sum(cpu_seconds, 0.0)


def _figures(
    jobs: Sequence[Ended], built: Built, tuning: Tuning | None, measured: Measured, pace: Pace, sandbox: Sandbox
) -> Figures:
    """Return the figures of all jobs, of which the last has answered."""
    seconds = _spent(jobs)[0]
    cpu_seconds = [job.cpu_seconds for job in jobs if job.cpu_seconds is not None]
    are_all_measured = len(cpu_seconds) == len(jobs)
    return Figures(
        merge_seconds=_spent(jobs[:-1])[0],
        evaluate_seconds=jobs[-1].seconds,
        calibration_seconds=pace.calibration_seconds,
        normalised_seconds=seconds / pace.slower,
        peak_memory_bytes=_most([job.peak_memory_bytes for job in jobs]),
        disk_bytes=max(job.disk_bytes for job in jobs),
        tokens=measured.tokens,
        parameters=built.parameters,
        sandbox=sandbox.name,
        hardware=this_machine(),
        normalised_cpu_seconds=sum(cpu_seconds) / pace.slower if are_all_measured else None,
        held_memory_bytes=_most([job.held_memory_bytes for job in jobs]),
        tuning=tuning,
    )


def _most(counts: Sequence[int | None]) -> int | None:
    """Return the largest count; None where any was not measured."""
    measured = [count for count in counts if count is not None]
    return max(measured) if len(measured) == len(counts) else None


def _method_of(text: str) -> str:
    """Return the merge method of a recipe that only its own plug-in can read."""
    data = read_document(text, RECIPE).data
    method = data.get("merge_method") if isinstance(data, dict) else None
    if not isinstance(method, str):
        raise RecipeError("'merge_method' is missing", where=RECIPE)
    return method
