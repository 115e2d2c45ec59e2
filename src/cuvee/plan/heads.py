"""Heads that some models tie to their embedding and others do not: decided while planning, and said.

The output has a head of its own as soon as any model has; models that tie theirs then lend their embedding.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cuvee.checkpoint import TensorSource
from cuvee.errors import CheckpointError, CuveeError
from cuvee.plan.names import View
from cuvee.recipe.reference import ModelRef
from cuvee.structure import Tie
from cuvee.structure.config import is_tied, untied


@dataclass(frozen=True)
class Heads:
    """The views in which every model has the head, if any has; the changes of the config; notes and problems."""

    views: Mapping[ModelRef, View]
    changes: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    problems: tuple[CuveeError, ...] = ()


def settle_heads(views: Mapping[ModelRef, View], donor: ModelRef) -> Heads:
    """Give each model that ties its head a head by its embedding's name, where another model stores a head."""
    ties = {model: view.structure.ties[0] for model, view in views.items() if view.structure.ties}
    heads = _stored_heads(views, ties)
    if len(set(heads.values())) != 1 or len(ties) < len(views):
        return Heads(views, {})
    head = next(iter(heads.values()))
    config = views[donor].source.config
    tied = [model for model in views if model not in heads]
    if not tied:
        if not is_tied(config):
            return Heads(views, {})
        note = f"every model stores '{head}', though {donor} says that it is tied to the embedding"
        if _has_decoder(views[donor]):
            return Heads(views, {}, (f"{note}: the output stores it, too, and its config stays as it is",))
        return Heads(views, untied(config), (f"{note}: {_KEPT}",))
    if not all(_may_be_tied(views[model].source) for model in tied):
        return Heads(views, {})  # a model lacks the tensor, as the check of names says
    if _has_decoder(views[donor]):
        message = f"some models tie '{head}' to the embedding and some do not: {_list(tied)} do"
        problem = CheckpointError(message, hint="untie or tie all of them the same way first")
        return Heads(views, {}, problems=(problem,))
    with_heads = dict(views)
    for model in tied:
        with_heads[model] = _with_head(views[model], head, ties[model])
    note = f"'{head}' is tied to the embedding in {_list(tied)} and not in {_list(list(heads))}"
    return Heads(with_heads, untied(config), (f"{note}: {_KEPT}",))


_KEPT = "the output has a head of its own, and its config says tie_word_embeddings: false"


def _stored_heads(views: Mapping[ModelRef, View], ties: Mapping[ModelRef, Tie]) -> dict[ModelRef, str]:
    """Return the donor's name for the head of each model that stores a head."""
    heads = {}
    for model, tie in ties.items():
        for name, own_name in views[model].called.items():
            if own_name == tie.head:
                heads[model] = name
                break
    return heads


def _has_decoder(view: View) -> bool:
    """Say whether a model has two sides: its `tie_word_embeddings` may say more than where the head is.

    T5 scales the input of a tied head, and Switch shares the embedding of both sides only where it is tied.
    """
    return any(place.module == "decoder" for place in view.structure)


def _may_be_tied(source: TensorSource) -> bool:
    return bool(source.config) and is_tied(source.config) is not False


def _with_head(view: View, head: str, tie: Tie) -> View:
    return replace(view, called={**view.called, head: tie.embedding})


def _list(models: list[ModelRef]) -> str:
    return ", ".join(map(str, models))
