"""The name of the head that reads from an embedding, which a base with tied weights does not store."""

import re
from collections.abc import Mapping
from typing import Any

from cuvee.structure import Tie

_WITH_HEADS = ("ForCausalLM", "LMHeadModel")
_SEEING = "ForConditionalGeneration"
_TEXT_EMBEDDINGS = re.compile(r"^(model\.language_model|language_model\.model|model)\.embed_tokens\.weight$")
"""Embeddings of models that see, beside which transformers has a head of a known name."""


def head_name(tie: Tie, config: Mapping[str, Any]) -> str | None:
    """Return the name of the head that reads from an embedding; None where it is not known."""
    if tie.head:
        return tie.head
    if not _is_called_lm_head(tie, config):
        return None
    if tie.embedding.startswith("language_model.model."):
        return "language_model.lm_head.weight"
    return "lm_head.weight"


def _is_called_lm_head(tie: Tie, config: Mapping[str, Any]) -> bool:
    """Tell by its classes whether a model calls its head `lm_head`."""
    classes = config.get("architectures")
    if not isinstance(classes, list) or not classes:
        return False
    endings: tuple[str, ...] = _WITH_HEADS
    has_text_part = isinstance(config.get("text_config"), dict) and not config.get("is_encoder_decoder")
    if has_text_part and _TEXT_EMBEDDINGS.match(tie.embedding):
        endings = (*_WITH_HEADS, _SEEING)
    return all(str(name).endswith(endings) for name in classes)
