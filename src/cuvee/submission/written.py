"""Recipes that are written on the competition's site: checked, locked and packed there, without a look at any path.

A recipe is data here. The models that it names are looked up among the competition's by their names, so nothing that a
stranger writes is opened, and their SHA-256 come from `competition.yaml`.
"""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cuvee.errors import CuveeError, RecipeError, SubmissionError, closest, several
from cuvee.recipe.reference import ModelRef, parse_reference
from cuvee.submission.asked import Asked, read_asked
from cuvee.submission.competition import Competition, Model
from cuvee.submission.evidence import Evidence, ModelFacts
from cuvee.submission.facts import competition_facts
from cuvee.submission.gather import text_facts
from cuvee.submission.leaks import refuse_leaks
from cuvee.submission.lock import CARDS, Lock, LockedFile, LockedModel, lock_of
from cuvee.submission.pack import LOCK, RECIPE, canonical_json, make_archive
from cuvee.submission.rules import check_rules
from cuvee.submission.tuning import hashes_of
from cuvee.submission.verdict import Finding

MOST_CHARACTERS = 32_000
"""A recipe for the site. Longer ones are sent from a terminal, where nobody else waits while they are read."""

ELSEWHERE = "send it from a terminal, where models of a hub are pinned: cuvee submission send RECIPE"


@dataclass(frozen=True)
class Problem:
    """What is wrong, and in which line of the recipe, where it is one line's matter."""

    line: int | None
    message: str
    hint: str | None = None


@dataclass(frozen=True)
class Check:
    """What a recipe is, and what the rules say of it. With `problems` it cannot be sent."""

    method: str
    models: tuple[str, ...]
    findings: tuple[Finding, ...]
    problems: tuple[Problem, ...]

    @property
    def passed(self) -> int:
        """How many checks found nothing against it."""
        return sum(finding.outcome == "pass" for finding in self.findings)

    @property
    def notes(self) -> tuple[Finding, ...]:
        """What is taken, and said beside the submission."""
        return tuple(finding for finding in self.findings if finding.outcome == "note")


class WrittenRecipes:
    """Checks and packs recipes of one competition. What headers say of its models is read once."""

    def __init__(self, competition: Competition) -> None:
        self._competition = competition
        self._facts: dict[str, ModelFacts] = {}
        self._lock = threading.Lock()

    def check(self, text: str) -> Check:
        """Check a recipe against the language and the competition's rules. Raises nothing for what an author does."""
        try:
            asked = self._read(text)
            models = self._models(asked, text)
            self._texts(asked, text)
        except CuveeError as error:
            return Check("", (), (), _problems(error))
        findings = check_rules(self._competition.rules, self._evidence(asked, models))
        problems = tuple(_broken(finding, text) for finding in findings if finding.outcome == "fail")
        return Check(asked.methods, tuple(models), findings, problems)

    def pack(self, text: str, title: str) -> bytes:
        """Lock a recipe and pack it, to the bytes that `cuvee submission pack` would make. Raises CuveeError."""
        check = self.check(text)
        if check.problems:
            raise several([_error(problem) for problem in check.problems])
        lock = self._locked(self._read(text), text)
        files = {RECIPE: text.encode(), LOCK: canonical_json(lock.to_json())}
        refuse_leaks(files)
        return make_archive(title, "recipe", self._competition.name, files)

    def _read(self, text: str) -> Asked:
        if len(text) > MOST_CHARACTERS:
            message = f"the recipe has {len(text)} characters, and {MOST_CHARACTERS} are read here"
            raise RecipeError(message, hint="send it from a terminal: cuvee submission send RECIPE")
        if "\0" in text:
            raise RecipeError("the recipe holds a zero byte")
        return read_asked(text if text.endswith("\n") else f"{text}\n", source=RECIPE)

    def _models(self, asked: Asked, text: str) -> dict[str, tuple[Model, Model | None]]:
        """Return the competition's models that a recipe names, by its references. Raises RecipeError for others."""
        found, unknown = {}, []
        for reference in asked.models:
            try:
                found[str(reference)] = self._named(reference)
            except RecipeError as error:
                line = line_of(text, reference.path)
                unknown.append(RecipeError(error.message, where=f"{RECIPE}:{line}" if line else None, hint=error.hint))
        if unknown:
            raise several(unknown)
        return found

    def _texts(self, asked: Asked, text: str) -> None:
        """Raise RecipeError for each text that a recipe names and the competition does not have."""
        unknown = []
        for use in asked.uses:
            try:
                hashes_of((use,), self._competition)
            except SubmissionError as error:
                line = line_of(text, use.reference)
                unknown.append(RecipeError(error.message, where=f"{RECIPE}:{line}" if line else None, hint=error.hint))
        if unknown:
            raise several(unknown)
        asked.hashes(self._competition)

    def _named(self, reference: ModelRef) -> tuple[Model, Model | None]:
        if reference.revision or reference.adapter_revision:
            raise RecipeError(f"'{reference}' names a revision, and the competition's own models have none")
        adapter = self._model(reference.adapter) if reference.adapter else None
        return self._model(reference.path), adapter

    def _model(self, path: str) -> Model:
        """Find a model by the name in `competition.yaml`, or by its folder, as a recipe beside others names it."""
        known = self._competition.models
        name = re.sub(r"^(\.{1,2}/)+", "", path).rstrip("/")
        for model in known:
            if name in (model.name, model.folder):
                return model
        names = [model.name for model in known]
        guess = closest(name, names)
        hint = f"there are: {', '.join(names)}" if names else ELSEWHERE
        if guess:
            hint = f"did you mean '{guess}'?"
        if self._competition.rules.hub:
            hint = f"{hint}; a model of a hub: {ELSEWHERE}" if names else ELSEWHERE
        raise RecipeError(f"'{path}' is not one of the competition's models", hint=hint)

    def _evidence(self, asked: Asked, models: Mapping[str, tuple[Model, Model | None]]) -> Evidence:
        facts = []
        for reference, (model, adapter) in models.items():
            own = replace(self._known(model), reference=reference)
            if adapter is not None:
                theirs = replace(self._known(adapter), reference=f"+{reference.partition('+')[2]}")
                own = replace(own, adapter=theirs, missing=own.missing or theirs.missing)
            facts.append(own)
        texts = text_facts(asked.hashes(self._competition), self._competition)
        return Evidence("recipe", asked.methods, tuple(facts), datetime.now(UTC), asked.chooses_tokenizer, texts)

    def _known(self, model: Model) -> ModelFacts:
        with self._lock:
            if model.name not in self._facts:
                self._facts[model.name] = self._look(model)
            return self._facts[model.name]

    def _look(self, model: Model) -> ModelFacts:
        try:
            return competition_facts(self._competition, model, model.name)
        except OSError:
            return ModelFacts(model.name, "competition", missing="the server does not have its files")

    def _locked(self, asked: Asked, text: str) -> Lock:
        models = []
        for reference, (model, adapter) in self._models(asked, text).items():
            locked = LockedModel(reference, self._files(model))
            if adapter is not None:
                own = LockedModel(f"+{reference.partition('+')[2]}", self._files(adapter))
                locked = replace(locked, adapter=own)
            models.append(locked)
        return lock_of(asked, tuple(models), self._competition)

    def _files(self, model: Model) -> dict[str, LockedFile]:
        folder = self._competition.folder / model.folder
        try:
            return {
                name: LockedFile((folder / name).stat().st_size, sha256)
                for name, sha256 in sorted(model.files.items())
                if name not in CARDS
            }
        except OSError as error:
            raise SubmissionError(f"the server does not have the files of {model.name}", hint=ELSEWHERE) from error


def line_of(text: str, words: str) -> int | None:
    """Return the first line in which these words stand as a value, from 1."""
    pattern = re.compile(rf"(?<![\w./-]){re.escape(words)}(?![\w./-])")
    for number, line in enumerate(text.splitlines(), start=1):
        if pattern.search(line.partition(" #")[0]):
            return number
    return None


def _broken(finding: Finding, text: str) -> Problem:
    line = line_of(text, parse_reference(finding.model).path) if finding.model else None
    if finding.rule == "method":
        line = line_of(text, "merge_method")
    subject = f"{finding.model}: " if finding.model else ""
    return Problem(line, f"{subject}{finding.message}", f"the competition's rule '{finding.rule}'")


def _problems(error: CuveeError) -> tuple[Problem, ...]:
    return tuple(map(_problem, error.problems or (error,)))


def _problem(error: CuveeError) -> Problem:
    _, _, last = (error.where or "").rpartition(":")
    return Problem(int(last) if last.isdecimal() else None, error.message, error.hint)


def _error(problem: Problem) -> RecipeError:
    where = f"line {problem.line}" if problem.line else None
    return RecipeError(problem.message, where=where, hint=problem.hint)
