"""A prompt from the settings in a `task.yaml` or a recipe."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from cuvee.documents.checked import first_problem
from cuvee.errors import EvaluationError
from cuvee.evaluation.extract import Extraction
from cuvee.evaluation.prompt import Prompt, Shot
from cuvee.recipe.prompt import WrittenPrompt


def as_prompt(written: WrittenPrompt, otherwise: Prompt) -> Prompt:
    """Return the prompt that is written, and `otherwise` where nothing is."""
    settings = written.model_dump(include=written.model_fields_set - {"few_shot", "stop", "extract"})
    if "few_shot" in written.model_fields_set:
        settings["few_shot"] = tuple(Shot(shot.input, shot.target, tuple(shot.choices)) for shot in written.few_shot)
    if "stop" in written.model_fields_set:
        settings["stop"] = tuple(written.stop)
    if "extract" in written.model_fields_set:
        settings["extract"] = tuple(Extraction(rule.pattern, rule.match, rule.find) for rule in written.extract)
    return replace(otherwise, **settings)


def written_prompt(given: Mapping[str, Any], where: str) -> WrittenPrompt:
    """Check a file's settings of a prompt. Raises EvaluationError."""
    try:
        return WrittenPrompt.model_validate(given)
    except ValidationError as error:
        raise EvaluationError(f"prompt.{first_problem(error)}", where=where) from error
