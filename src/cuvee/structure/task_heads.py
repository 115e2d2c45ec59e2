"""Heads that do not predict tokens: classifiers, and heads for values, rewards, spans and boxes, by their names."""

import re
from collections.abc import Mapping
from typing import Any

from cuvee.structure.config import VOCABULARY, numbers

_WORDS = (
    r"(pre_)?classifier", r"classif(ier|ication)_head", r"score", r"qa_outputs", r"(start|end)_logits", r"answer_class",
    r"(v|value|reward|rm|regression|critic|score|cls|multiple_choice|ranking|scalar)_head", r"sequence_summary",
    r"logits_proj", r"class_labels_classifier", r"class_predictor", r"class_embed", r"bbox_(predictor|embed)",
)  # fmt: skip

_HEAD = re.compile(rf"^(?P<head>([^.\d][^.]*\.)*?({'|'.join(_WORDS)}))\.")
"""A head's word stands before every number: a tensor that has such a word within a layer is no head."""

_BARE = re.compile(r"^(?P<head>([^.\d][^.]*\.)*(head|fc))\.(weight|bias)$")
"""A head of a model with no tokens to predict, such as one that sees."""


def task_head(name: str, *, has_tokens: bool = True) -> str | None:
    """Return the name of the head that a tensor belongs to, such as "classifier" or "v_head"; None for the others.

    In a model that `has_tokens`, the module that is just called "head" predicts them.
    """
    match = _HEAD.match(name)
    if match is None and not has_tokens:
        match = _BARE.match(name)
    return match["head"] if match else None


def has_tokens(config: Mapping[str, Any]) -> bool:
    """Say whether a model, by its config, has a vocabulary."""
    return bool(numbers(config, VOCABULARY))
