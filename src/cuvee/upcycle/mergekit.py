"""How a mixture comes out otherwise than that of mergekit-moe 0.1.5, as far as recipe and headers show it."""

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from cuvee.checkpoint import TensorSource
from cuvee.tokenizers.read import JSON, SETTINGS
from cuvee.upcycle.recipe import DRAWN, FITTED, Upcycling


def differences(recipe: Upcycling, layout: Mapping[str, Any], base: TensorSource) -> Iterator[str]:
    """Say in which ways mergekit's mixture of the same recipe and `layout`, an entry of layouts.json, differs."""
    if recipe.gate_mode in DRAWN:
        yield f"other random rows: they follow from `seed: {recipe.seed}` and are the same every time"
    elif recipe.gate_mode == FITTED:
        yield "mergekit has no gate_mode: fitted, and refuses this recipe"
    else:
        yield from _of_prompts(recipe, base)
    if recipe.shared_experts and len(recipe.gated) == len(recipe.experts):
        yield "without prompts the shared expert's gate is zeros, one half for each token; mergekit draws it or refuses"
    if any(expert.noise_scale for expert in (*recipe.experts, *recipe.shared_experts)):
        yield f"other noise: it follows from `seed: {recipe.seed}`, and is added in float32 and rounded once"
    if not layout.get("mergekit_keeps_window") and _has_window(base.config):
        yield "the base's sliding window stays in config.json; mergekit removes it"
    if layout.get("mergekit_stacks_experts"):
        yield "each expert's matrices are tensors of their own, as published models have them; mergekit stacks them"
    yield "the tokenizer is the base's as it is; mergekit makes its start token the padding, on the left"


def _of_prompts(recipe: Upcycling, base: TensorSource) -> Iterator[str]:
    hidden = recipe.gate_mode.startswith("hidden")
    counts = [max(len(expert.positive_prompts), len(expert.negative_prompts)) for expert in recipe.gated]
    several = max(counts, default=0) > 1
    if not (base.place is not None and _starts_as_in_mergekit(base.place)):
        yield "prompts are cut as the tokenizer does it; mergekit puts the start token, and nothing else, before each"
    if hidden:
        yield "the base model runs in float32, one prompt at a time; mergekit runs it in bfloat16, prompts padded"
    if recipe.gate_mode == "hidden_avg" and several:
        yield "the average is over a prompt's own tokens; mergekit counts the padding of shorter prompts, too"
    if recipe.gate_mode != "cheap_embed":
        return
    if several:
        yield "each prompt counts the same, as the mean of its tokens; mergekit sums all tokens of all prompts"
    if any(expert.negative_prompts for expert in recipe.gated):
        yield "means are subtracted from means; mergekit brings those of both signs to unit length before"


def _has_window(config: Mapping[str, Any]) -> bool:
    return bool(config.get("sliding_window")) and config.get("use_sliding_window", True) is not False


def _starts_as_in_mergekit(folder: Path) -> bool:
    """Say whether the tokenizer itself puts its start token, and nothing else, around a text. False if unclear."""
    try:
        content = json.loads((folder / JSON).read_text(encoding="utf-8"))
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        start = settings.get("bos_token")
        word = start["content"] if isinstance(start, dict) else start
        return _added(content.get("post_processor")) == ([word] if word else [])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _added(processor: Any) -> list[str]:
    """List the tokens that a tokenizer.json puts around a single text."""
    if processor is None:
        return []
    if processor["type"] == "Sequence":
        return list(chain.from_iterable(map(_added, processor["processors"])))
    if processor["type"] == "ByteLevel":
        return []
    if processor["type"] != "TemplateProcessing":
        raise ValueError(f"{processor['type']} is not looked into")
    return [part["SpecialToken"]["id"] for part in processor["single"] if "SpecialToken" in part]
