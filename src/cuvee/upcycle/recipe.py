"""A recipe for a mixture of experts, in the words of mergekit-moe, read strictly."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr

from cuvee.documents.checked import checked
from cuvee.documents.document import Document, read_document, read_documents, read_text
from cuvee.errors import CuveeError, RecipeError, several
from cuvee.recipe.keys import WrittenDType
from cuvee.recipe.slips import Slip, plain_numbers

GateMode = Literal["random", "uniform_random", "cheap_embed", "hidden", "hidden_last", "hidden_avg", "fitted"]
DRAWN = ("random", "uniform_random")
"""Modes that draw the routers and look at no prompts."""

FITTED = "fitted"
"""The mode that solves routers from the experts' texts."""

NUMBERS = ("experts_per_token", "residual_scale", "noise_scale", "seed")
"""Keys with a number, which mergekit-moe reads in quotes, too."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _or_none(written: Any) -> Any:
    """Let an empty key be an empty list."""
    return [] if written is None else written


Prompts = Annotated[list[str], BeforeValidator(_or_none)]


class Expert(_Strict):
    """A dense model whose feed-forward parts become one expert, and the texts that it is for.

    `residual_scale` multiplies their addend to the stream. `noise_scale` is the standard deviation of normal noise
    that is added to their numbers.
    """

    source_model: str
    positive_prompts: Prompts = Field(default_factory=list)
    negative_prompts: Prompts = Field(default_factory=list)
    residual_scale: float | None = Field(None, allow_inf_nan=False)
    noise_scale: float | None = Field(None, ge=0, allow_inf_nan=False)


class Upcycling(_Strict):
    """The roles of dense models: all but the experts comes from the base model. Shared experts see every token."""

    base_model: str
    experts: list[Expert] = Field(min_length=2)
    shared_experts: Annotated[list[Expert], BeforeValidator(_or_none)] = Field(default_factory=list, max_length=1)
    gate_mode: GateMode = "hidden"
    experts_per_token: int = Field(2, ge=1)
    architecture: str | None = None
    dtype: WrittenDType | None = None
    seed: int = Field(0, ge=0, lt=2**63)
    _slips: tuple[Slip, ...] = PrivateAttr(())

    @property
    def slips(self) -> tuple[Slip, ...]:
        """Mistakes that change nothing, as those of other recipes."""
        return self._slips

    @property
    def gated(self) -> tuple[Expert, ...]:
        """The experts that have a row in a router or a gate: all of `experts`, and shared experts with prompts."""
        return (*self.experts, *(shared for shared in self.shared_experts if shared.positive_prompts))

    @property
    def models(self) -> tuple[str, ...]:
        """Every model named, the base first, each once."""
        named = [expert.source_model for expert in self.experts]
        named += [shared.source_model for shared in self.shared_experts]
        return tuple(dict.fromkeys([self.base_model, *named]))


def is_mixture(path: Path) -> bool:
    """Say whether a file is the recipe of a mixture, not of a merge. Raises RecipeError for files that are no YAML."""
    document, *others = read_documents(read_text(path, "recipe"), str(path))
    if others or not isinstance(document.data, dict):
        return False
    return "experts" in document.data and "merge_method" not in document.data


def read_upcycling(path: Path) -> tuple[Upcycling, str]:
    """Read a file; returns its text, too. Raises RecipeError that holds every problem with its line."""
    text = read_text(path, "recipe")
    document, slips = plain_numbers(read_document(text, str(path)), NUMBERS)
    recipe = checked(Upcycling, document)
    problems = list(_problems(recipe, document))
    if problems:
        raise several(problems)
    recipe._slips = tuple(slips)
    return recipe, text


def _problems(recipe: Upcycling, document: Document) -> list[CuveeError]:
    problems: list[CuveeError] = []
    if recipe.experts_per_token > len(recipe.experts):
        message = f"'experts_per_token' is {recipe.experts_per_token}, and there are {len(recipe.experts)} experts"
        problems.append(RecipeError(message, where=document.place(("experts_per_token",))))
    for i, expert in enumerate(recipe.experts):
        if recipe.gate_mode not in DRAWN and not expert.positive_prompts:
            hint = "or use gate_mode: random, which needs training"
            message = f"gate_mode: {recipe.gate_mode} needs 'positive_prompts' for each expert"
            problems.append(RecipeError(message, where=document.place(("experts", i)), hint=hint))
    problems += _problems_of_fitting(recipe, document) if recipe.gate_mode == FITTED else []
    for i, shared in enumerate(recipe.shared_experts):
        if shared.negative_prompts and not shared.positive_prompts:
            message = "'negative_prompts' of a shared expert need 'positive_prompts', too"
            problems.append(RecipeError(message, where=document.place(("shared_experts", i))))
    return problems


def _problems_of_fitting(recipe: Upcycling, document: Document) -> list[CuveeError]:
    """Find texts that a fitted router has no use for."""
    problems: list[CuveeError] = []
    for i, expert in enumerate(recipe.experts):
        if expert.negative_prompts:
            message = "gate_mode: fitted takes no 'negative_prompts': the other experts' texts are what one is not for"
            problems.append(RecipeError(message, where=document.place(("experts", i)), hint="leave them out"))
    for i, shared in enumerate(recipe.shared_experts):
        if shared.positive_prompts:
            message = "gate_mode: fitted makes no gate for a shared expert from 'positive_prompts'"
            hint = "leave them out: the gate is one half then"
            problems.append(RecipeError(message, where=document.place(("shared_experts", i)), hint=hint))
    return problems
