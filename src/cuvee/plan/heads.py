"""Heads that some models tie to their embedding and others do not: decided while planning, and said.

A head is a matrix of its own in the output as soon as one model has one; the tied ones then lend their embedding.
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
    """The views in which every model has the head, if any has; what must change in the config; what to say."""

    views: Mapping[ModelRef, View]
    changes: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    problems: tuple[CuveeError, ...] = ()


def settle_heads(views: Mapping[ModelRef, View], donor: ModelRef) -> Heads:
    """Give each model that ties its head a head by its embedding's name, where another model stores one."""
    ties = {model: view.structure.ties[0] for model, view in views.items() if view.structure.ties}
    heads = {model: name for model, tie in ties.items() if (name := _shared_name(views[model], tie.head)) is not None}
    if not heads or len(ties) < len(views) or len(set(heads.values())) > 1:
        return Heads(views, {})
    head = next(iter(heads.values()))
    config = views[donor].source.config
    tied = [model for model in views if model not in heads]
    if not tied:
        if not is_tied(config):
            return Heads(views, {})
        note = f"every model stores '{head}', though {donor} says that it is tied to the embedding"
        return Heads(views, untied(config), (f"{note}: {_KEPT}",))
    refused = [model for model in tied if not _may_be_tied(views[model].source)]
    if refused:
        return Heads(views, {})  # it lacks the tensor, as the check of names says
    if any(place.module == "decoder" for place in views[donor].structure):
        # Some of these scale what goes into a tied head, and their config alone does not say so.
        message = f"some models tie '{head}' to the embedding and some do not: {_list(tied)} do"
        return Heads(views, {}, (), (CheckpointError(message, hint="untie or tie all of them the same way first"),))
    given = {model: _with_head(view, head, ties[model]) if model in tied else view for model, view in views.items()}
    note = f"'{head}' is tied to the embedding in {_list(tied)} and not in {_list(list(heads))}"
    return Heads(given, untied(config), (f"{note}: {_KEPT}",))


_KEPT = "the output has a head of its own, and its config says tie_word_embeddings: false"


def _shared_name(view: View, own: str | None) -> str | None:
    """Return the name under which the donor knows a tensor."""
    return next((name for name, called in view.called.items() if called == own), None)


def _may_be_tied(source: TensorSource) -> bool:
    return bool(source.config) and is_tied(source.config) is not False


def _with_head(view: View, head: str, tie: Tie) -> View:
    return replace(view, called={**view.called, head: tie.embedding})


def _list(models: list[ModelRef]) -> str:
    return ", ".join(map(str, models))
