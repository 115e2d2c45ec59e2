"""Which part of a model a tensor belongs to: language, vision, audio, encoder, decoder, or what joins two of them."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from cuvee.structure.config import VOCABULARY, numbers
from cuvee.structure.structure import Module

_PROJECTOR = re.compile(
    r"^(model\.)?((multi_?modal|mm|vision|visual|audio|speech|text|image|modality)_?\w*(projector|projection|adapter)"
    r"|connector|projector|aligner|multi_modal\w*|embed_(vision|audio))\b",
    re.IGNORECASE,
)
_VISION = re.compile(r"(^|\.)(vision|visual|image)\w*\.", re.IGNORECASE)
_AUDIO = re.compile(r"(^|\.)(audio|speech)\w*\.", re.IGNORECASE)
_SIDE = re.compile(r"(^|\.)(encoder|decoder)\.")


class Modules:
    """The modules of one model, by names and config."""

    def __init__(self, names: Iterable[str], config: Mapping[str, Any]) -> None:
        self.main = main_module(config)
        sides = {match[2] for name in names if _joins(name) is None and (match := _SIDE.search(name))}
        self.two_sided = sides == {"encoder", "decoder"}

    def of(self, name: str) -> Module:
        joined = _joins(name)
        if joined is not None:
            return joined
        side = _SIDE.search(name)
        if self.two_sided and side and side.start() <= len("model.decoder"):
            return "encoder" if side[2] == "encoder" else "decoder"
        return self.main


def _joins(name: str) -> Module | None:
    if _PROJECTOR.search(name):
        return "projector"
    if _VISION.search(name):
        return "vision"
    return "audio" if _AUDIO.search(name) else None


def main_module(config: Mapping[str, Any]) -> Module:
    """Say what a model is when its names do not: by what its config counts."""
    if any("feat_extract" in key for key in config):
        return "audio"
    if "image_size" in config and not numbers(config, VOCABULARY):
        return "vision"
    return "language"
