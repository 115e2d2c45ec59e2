"""A competition's texts in recipes: `text: competition:math` aligns by one, `statistics: competition:math` are of it.

Texts are named and never opened by a path that a recipe writes. The judge has the competition's own files, whose
SHA-256 are in `competition.yaml`; a participant has them beside it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cuvee.checkpoint.hashes import sha256_of
from cuvee.errors import CheckpointError, PlatformError, RecipeError, SubmissionError, closest, several
from cuvee.recipe.recipe import OF_COMPETITION, ONLY_IN_COMPETITION, Recipe, Source, competition_text

if TYPE_CHECKING:
    from cuvee.submission.competition import CalibrationText, Competition

KEYS = ("text", "statistics")
"""The keys of a model that may name a text."""


@dataclass(frozen=True)
class Use:
    """A model of a recipe, and what it names under `text` or `statistics`; or a space, and what it has as a task."""

    model: str
    key: str
    reference: str

    @property
    def text(self) -> str | None:
        """The name of the competition's text; None where the recipe names a file of its own."""
        return competition_text(self.reference)


def uses_of(stages: Sequence[Recipe]) -> tuple[Use, ...]:
    """Return all that stages name under `text` and `statistics`, in order."""
    uses: list[Use] = []
    for recipe in stages:
        for part in recipe.slices:
            for source in part.sources:
                uses += _uses(source)
    return tuple(dict.fromkeys(uses))


def _uses(source: Source) -> Iterator[Use]:
    for key, reference in zip(KEYS, (source.text, source.statistics), strict=True):
        if reference is not None:
            yield Use(str(source.model), key, reference)


def texts_of(stages: Sequence[Recipe]) -> tuple[str, ...]:
    """Return the names of the competition's texts that stages name, each once."""
    names = [use.text for use in uses_of(stages) if use.text is not None]
    return tuple(dict.fromkeys(names))


def hashes_of(uses: Sequence[Use], competition: "Competition | None", where: str | None = None) -> dict[str, str]:
    """Return the SHA-256 of each text that is used, by its name.

    Raises SubmissionError for files of the author's own, which no judge has, and for texts that are not there.
    """
    known = {}
    if competition is not None:
        known = {text.name: text.sha256 for text in competition.calibration}
    hashes, problems = {}, []
    for use in uses:
        if use.text is not None and use.text in known:
            hashes[use.text] = known[use.text]
        else:
            problems.append(SubmissionError(_unknown(use), where=where, hint=_instead(use, known)))
    if problems:
        raise several(problems)
    return hashes


def _unknown(use: Use) -> str:
    if use.text is not None:
        return f"'{use.key}' of {use.model}: the competition has no text '{use.text}'"
    if use.key == "tasks":
        return f"'{use.reference}' under 'tasks' is none of the competition's texts, and a judge searches by no other"
    if use.key == "statistics":
        return f"'statistics' of {use.model} lie in a folder of yours, which no judge has"
    return f"'text' of {use.model} is a file of yours, which no judge has"


def _instead(use: Use, known: Mapping[str, str]) -> str:
    if not known:
        return "the competition hands out no texts: use a method that needs none"
    guess = closest(use.text or Path(use.reference).stem, list(known))
    if guess is not None:
        return f"did you mean '{OF_COMPETITION}{guess}'?"
    return f"its texts: {', '.join(OF_COMPETITION + name for name in known)}"


def places_of(names: Sequence[str], competition: "Competition") -> dict[str, Path]:
    """Return the file of each text by the words that recipes have for it.

    Raises PlatformError for a file that is missing or has changed: texts are the organiser's.
    """
    return {OF_COMPETITION + name: _place(_text(name, competition), competition) for name in names}


def _text(name: str, competition: "Competition") -> "CalibrationText":
    return next(text for text in competition.calibration if text.name == name)


def _place(text: "CalibrationText", competition: "Competition") -> Path:
    place = competition.folder / text.file
    try:
        sha256 = sha256_of([place])[place]
    except CheckpointError as error:
        raise PlatformError(f"the competition's text '{text.name}' is not there: {error.message}") from error
    if sha256 != text.sha256:
        raise PlatformError(f"the competition's text '{text.name}' has changed", where=str(place))
    return place


def texts_near(stages: Sequence[Recipe]) -> dict[str, Path]:
    """Return the files of the texts that recipes name, from the competition that they or the current folder lie in.

    Raises RecipeError where there is none, or it has no such text.
    """
    names = texts_of(stages)
    if not names:
        return {}
    competition = competition_near(stages[-1].folder, names[0], stages[-1].source)
    known = {text.name: text.sha256 for text in competition.calibration}
    for use in uses_of(stages):
        if use.text is not None and use.text not in known:
            raise RecipeError(_unknown(use), where=stages[-1].source, hint=_instead(use, known))
    return places_of(names, competition)


def refuse_to_plan(stages: Sequence[Recipe]) -> None:
    """Raise RecipeError for texts that are not there, and for statistics of texts: only a merge makes them."""
    texts_near(stages)
    of_texts = [use for use in uses_of(stages) if use.text is not None]
    collected = [use for use in of_texts if use.key == "statistics"]
    if not collected:
        return
    names = ", ".join(dict.fromkeys(use.reference for use in collected))
    message = (
        f"the merge makes the statistics of {names} while it runs, for {len(collected)} "
        f"{'model' if len(collected) == 1 else 'models'}; a plan asks no model, so it does not know what they hold"
    )
    hint = "`cuvee merge RECIPE OUT` makes them and merges, and so does the judge; nothing else needs to be done"
    raise RecipeError(message, where=stages[-1].source, hint=hint)


def competition_near(folder: Path | None, text: str, source: str | None) -> "Competition":
    """Return the competition that a folder or the current one lies in. Raises RecipeError that names a text of it."""
    from cuvee.submission.competition_yaml import find_competition, load_competition

    file = find_competition(folder)
    if file is None:
        message = f"'{OF_COMPETITION}{text}' is a text of a competition"
        raise RecipeError(message, where=source, hint=ONLY_IN_COMPETITION)
    return load_competition(file)
