"""A recipe for a mixture of experts, in the words of mergekit-moe, read strictly."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cuvee.errors import CuveeError, RecipeError, closest, several
from cuvee.recipe.document import Document, read_document
from cuvee.recipe.load import read_text
from cuvee.recipe.recipe import DType

GateMode = Literal["random", "cheap_embed", "hidden"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Expert(_Strict):
    """A dense model whose feed-forward parts become one expert, and the texts that it is for."""

    source_model: str
    positive_prompts: list[str] = Field(default_factory=list)
    negative_prompts: list[str] = Field(default_factory=list)


class SharedExpert(_Strict):
    """A dense model whose feed-forward parts see every token; `residual_scale` multiplies what they add."""

    source_model: str
    residual_scale: float = 1.0


class Upcycling(_Strict):
    """What becomes of dense models: all but the experts comes from the base model."""

    base_model: str
    experts: list[Expert] = Field(min_length=2)
    shared_experts: list[SharedExpert] = Field(default_factory=list, max_length=1)
    gate_mode: GateMode = "hidden"
    experts_per_token: int = Field(2, ge=1)
    architecture: str | None = None
    dtype: DType | None = None
    seed: int = Field(0, ge=0, lt=2**63)

    @property
    def models(self) -> tuple[str, ...]:
        """Every model named, the base first, each once."""
        named = [expert.source_model for expert in self.experts]
        named += [shared.source_model for shared in self.shared_experts]
        return tuple(dict.fromkeys([self.base_model, *named]))


_KINDS: dict[str, type[BaseModel]] = {"experts": Expert, "shared_experts": SharedExpert}


def read_upcycling(path: Path) -> tuple[Upcycling, str]:
    """Read a file; returns its text, too. Raises RecipeError that holds every problem with its line."""
    text = read_text(path)
    document = read_document(text, str(path))
    try:
        found = Upcycling.model_validate(document.data)
    except ValidationError as error:
        raise several([_translated(detail, document) for detail in error.errors()]) from error
    problems = list(_problems(found, document))
    if problems:
        raise several(problems)
    return found, text


def _translated(detail: Any, document: Document) -> CuveeError:
    place = tuple(detail["loc"])
    what, where = ".".join(map(str, place)), document.place(place)
    if detail["type"] == "extra_forbidden":
        kind = _KINDS.get(str(place[0]), Upcycling) if len(place) > 1 else Upcycling
        guess = closest(str(place[-1]), list(kind.model_fields))
        return RecipeError(f"unknown key '{what}'", where=where, hint=f"did you mean '{guess}'?" if guess else None)
    return RecipeError(f"'{what}': {detail['msg'][:1].lower()}{detail['msg'][1:]}", where=where)


def _problems(found: Upcycling, document: Document) -> list[CuveeError]:
    problems: list[CuveeError] = []
    if found.experts_per_token > len(found.experts):
        message = f"'experts_per_token' is {found.experts_per_token}, and there are {len(found.experts)} experts"
        problems.append(RecipeError(message, where=document.place(("experts_per_token",))))
    for i, expert in enumerate(found.experts):
        if found.gate_mode != "random" and not expert.positive_prompts:
            hint = "or use gate_mode: random, which needs training"
            message = f"gate_mode: {found.gate_mode} needs 'positive_prompts' for each expert"
            problems.append(RecipeError(message, where=document.place(("experts", i)), hint=hint))
    return problems
