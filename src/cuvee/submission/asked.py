"""What a participant hands in as `recipe.yaml`: a recipe of some stages, or a search space that the judge searches.

Both name models and texts, which are locked and checked alike; neither brings code.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cuvee.api import load_stages, stages_from_text
from cuvee.documents.document import read_documents, read_text
from cuvee.errors import RecipeError, SubmissionError, several
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.reference import ModelRef, parse_reference
from cuvee.search.space import WrittenSpace, parse_space
from cuvee.submission.competition import Competition
from cuvee.submission.tuning import Use, hashes_of, uses_of

METHOD_SEPARATOR = "+"
TASKS = "tasks"
"""The key of a space that names what candidates are asked."""


@dataclass(frozen=True)
class Asked:
    """What decides a merge besides files: a digest, methods joined by "+", the models that it starts from, its texts.

    `space` is what the judge searches; None for a recipe. `chooses_tokenizer` says whether a recipe decides itself
    which vocabulary the output has.
    """

    digest: str
    methods: str
    models: tuple[ModelRef, ...]
    uses: tuple[Use, ...]
    folder: Path | None
    source: str | None
    chooses_tokenizer: bool = False
    space: WrittenSpace | None = None
    stages: tuple[Recipe, ...] = ()

    def hashes(self, competition: Competition | None) -> dict[str, str]:
        """Return the SHA-256 of the competition's texts that are named.

        Raises SubmissionError for texts that the competition does not have, and for a search where none is made.
        """
        allows_search = competition is None or competition.budget.tuning_tokens is not None
        if self.space is not None and not allows_search:
            message = "this is a search space, and the competition has no tokens for a search"
            raise SubmissionError(
                message, where=self.source, hint="search at home, and hand in the recipe that it finds"
            )
        return hashes_of(self.uses, competition, self.source)


def asked_by_stages(stages: Sequence[Recipe]) -> Asked:
    """Return what stages ask for."""
    named: list[ModelRef] = []
    for recipe in stages:
        named += [model for model in recipe.models() if str(model) not in recipe.stages]
    return Asked(
        digest=stages[-1].digest,
        methods=METHOD_SEPARATOR.join(dict.fromkeys(recipe.merge_method for recipe in stages)),
        models=tuple(dict.fromkeys(named)),
        uses=uses_of(stages),
        folder=stages[0].folder,
        source=stages[-1].source,
        chooses_tokenizer=any(recipe.tokenizer is not None for recipe in stages),
        stages=tuple(stages),
    )


def read_asked(text: str, *, folder: Path | None = None, source: str) -> Asked:
    """Read a recipe or a search space. Raises RecipeError. No path that it names is opened."""
    if is_space(text, source):
        return asked_by_space(text, folder=folder, source=source)
    return replace(asked_by_stages(stages_from_text(text, folder=folder)), source=source)


def load_asked(path: Path) -> Asked:
    """Read a file with a recipe or a search space. Raises RecipeError that holds every problem with its line."""
    text = read_text(path, "recipe")
    if is_space(text, str(path)):
        return asked_by_space(text, folder=path.parent, source=str(path))
    return asked_by_stages(load_stages(path))


def is_space(text: str, source: str) -> bool:
    """Say whether a text is a search space: it asks tasks and names no merge method. Raises RecipeError for no YAML."""
    document = read_documents(text, source)[0].data
    if not isinstance(document, dict):
        return False
    return TASKS in document and "merge_method" not in document


def asked_by_space(text: str, *, folder: Path | None, source: str) -> Asked:
    """Return what a search space asks for. Raises RecipeError for what no judge has: other files, private parts."""
    space = parse_space(text, folder=None, where=source)
    _refuse_files(space, source)
    references = [space.base_model, *(model.model for model in space.models)]
    uses = [Use(model.model, "text", model.text) for model in space.models if model.text is not None]
    uses += [Use("the space", TASKS, task) for task in space.tasks]
    return Asked(
        digest=hashlib.sha256(text.encode()).hexdigest(),
        methods=METHOD_SEPARATOR.join(dict.fromkeys(space.search.method)),
        models=tuple(dict.fromkeys(_reference(reference, source) for reference in references)),
        uses=tuple(dict.fromkeys(uses)),
        folder=folder,
        source=source,
        space=space,
    )


def _reference(written: str, source: str) -> ModelRef:
    try:
        return parse_reference(written)
    except ValueError as error:
        raise RecipeError(str(error), where=source) from error


def _refuse_files(space: WrittenSpace, source: str) -> None:
    """Raise RecipeError for anchors in files of the author's, and for a report on private parts."""
    problems = []
    for anchor in space.anchors:
        if not isinstance(anchor, str):
            message = f"anchors: '{anchor.get('file')}' is a file of yours, which no judge has"
            problems.append(RecipeError(message, where=source, hint="leave it out"))
    if space.items.report == "private":
        message = "items.report: a search in the judge sees nothing private"
        problems.append(RecipeError(message, where=source, hint="give it a share, such as 0.25"))
    if problems:
        raise several(problems)
