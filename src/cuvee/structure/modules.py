"""The module that a tensor belongs to: language, vision, audio, encoder, decoder, or a projector between two."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from cuvee.structure.config import VOCABULARY, numbers
from cuvee.structure.structure import Module

_PROJECTOR = re.compile(
    r"^(model\.)?((multi_?modal|mm|vision|visual|audio|speech|text|image|modality)_?\w*(projector|projection|adapter)"
    r"|connector|projector|aligner|multi_modal\w*|embed_(vision|audio)"
    # Of LLaVA-NeXT, BLIP-2, InternVL's own code, PaddleOCR-VL, MiniCPM-V, Pixtral's own files and Step.
    r"|image_newline|view_seperator|language_projection|qformer|query_tokens|mlp1(?=\.\d)|mlp_ar|resampler"
    r"|(patch_)?merger|patch_merge_mlp|pre_mm_projector_norm|vit_\w*projector)\b",
    re.IGNORECASE,
)
_VISION = re.compile(r"(^|\.)((vision|visual|image)\w*|video_tower|vpm)\.", re.IGNORECASE)
_AUDIO = re.compile(r"(^|\.)((audio|speech)\w*|apm)\.", re.IGNORECASE)
_SIDE = re.compile(r"(^|\.)(encoder|decoder)\.")


class Modules:
    """The modules of a model, by names and config."""

    def __init__(self, names: Iterable[str], config: Mapping[str, Any]) -> None:
        self.main = main_module(config)
        language = [name for name in names if _beside_language(name) is None]
        sides = {match[2] for match in map(_SIDE.search, language) if match}
        self.two_sided = sides == {"encoder", "decoder"}

    def of(self, name: str) -> Module:
        """Return the module of a tensor."""
        beside = _beside_language(name)
        if beside is not None:
            return beside
        side = _SIDE.search(name) if self.two_sided else None
        # Further within a name, "encoder" is a word of something smaller.
        if side and side.start() <= len("model.decoder"):
            return "encoder" if side[2] == "encoder" else "decoder"
        return self.main


def _beside_language(name: str) -> Module | None:
    if _PROJECTOR.search(name):
        return "projector"
    if _VISION.search(name):
        return "vision"
    return "audio" if _AUDIO.search(name) else None


def main_module(config: Mapping[str, Any]) -> Module:
    """Return the module of tensors whose names do not say it, by the sizes that the config states."""
    if any("feat_extract" in key for key in config):
        return "audio"
    sees_only = "image_size" in config and not numbers(config, VOCABULARY)
    return "vision" if sees_only else "language"
