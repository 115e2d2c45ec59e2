"""What each layer of a model computes, whatever the family: the same numbers are put into every layer in its place.

A layer is called as the model calls it, with the masks, positions and embeddings that the model makes for it. Only the
hidden states are replaced, so that two layers of different models can be compared.
"""

import inspect
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

import cuvee
from cuvee.errors import CuveeError
from cuvee.structure import layer_of, stacks

from .deep import Deep

TOKENS = 14
"""More than any window here is long."""


@dataclass(frozen=True)
class Source:
    """A saved model of a family: what its layers compute, and where they are."""

    folder: Path
    kind: Any

    @cached_property
    def outputs(self) -> list[torch.Tensor]:
        return layer_outputs(self.loaded()[0])

    def loaded(self, folder: Path | None = None) -> tuple[Any, dict[str, Any]]:
        model, report = self.kind.from_pretrained(folder or self.folder, output_loading_info=True)
        return model.eval(), report


def written(deep: Deep, folder: Path, seed: int = 0) -> Source:
    """Save a model with numbers that make its layers differ, its config as it is published."""
    torch.manual_seed(seed)
    model = deep.make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    model.save_pretrained(folder)
    file = folder / "config.json"
    config = json.loads(file.read_text())
    kept = {key: value for key, value in config.items() if key not in deep.dropped}
    file.write_text(json.dumps({**kept, **deep.published}))
    return Source(folder, type(model))


def layer_outputs(model: Any) -> list[torch.Tensor]:
    """Return what each layer makes of the same hidden states."""
    names = [name for name in model.state_dict() if "vision" not in name and "visual" not in name]
    prefix = stacks(names)[0].prefix
    depth = 1 + max(layer.index for name in names if (layer := layer_of(name)) and layer.prefix == prefix)
    outputs: list[torch.Tensor] = [torch.empty(0)] * depth
    handles = []
    for index in range(depth):
        module = model.get_submodule(f"{prefix}.{index}")
        name = next(iter(inspect.signature(module.forward).parameters))
        handles.append(module.register_forward_pre_hook(_replacing(name), with_kwargs=True))
        handles.append(module.register_forward_hook(_keeping(outputs, index)))
    ids = torch.arange(3, 3 + TOKENS)[None]
    with torch.no_grad():
        # transformers 5.24.0 cannot run a Llama 4 that sees without pictures; its part for the language it can.
        writer = getattr(model, "language_model", model)
        writer(ids, use_cache=False) if "use_cache" in inspect.signature(writer.forward).parameters else writer(ids)
    for handle in handles:
        handle.remove()
    return outputs


def _replacing(name: str) -> Any:
    """A hook that puts random numbers, always the same, in the place of a layer's hidden states."""

    def replace(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        hidden = arguments[0] if arguments else named[name]
        same = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(0), dtype=hidden.dtype)
        return ((same, *arguments[1:]), named) if arguments else ((), {**named, name: same})

    return replace


def _keeping(outputs: list[torch.Tensor], index: int) -> Any:
    def keep(_: Any, __: Any, output: Any) -> None:
        outputs[index] = (output[0] if isinstance(output, tuple | list) else output).clone()

    return keep


def random_ranges(draw: random.Random, depth: int) -> list[tuple[int, int]]:
    """Draw a cut, a repeat or a stack of one to three ranges of layers; often at the places where kinds change."""
    ranges = []
    for _ in range(draw.choice([1, 1, 2, 2, 3])):
        first = draw.choice([0, 0, draw.randrange(depth)])
        last = draw.choice([depth, depth, draw.randrange(first, depth) + 1])
        ranges.append((first, last))
    return ranges


def stacked(source: Source, ranges: Sequence[tuple[int, int]]) -> "cuvee.Recipe":
    parts = "".join(f"- sources: [{{model: {source.folder}, layer_range: [{a}, {b}]}}]\n" for a, b in ranges)
    return cuvee.recipe_from_text(f"merge_method: passthrough\nslices:\n{parts}")


def wrong_layers(source: Source, ranges: Sequence[tuple[int, int]], out: Path) -> list[str] | str:
    """Stack layers; return what is wrong with what comes out, or why the recipe is refused."""
    try:
        cuvee.merge(stacked(source, ranges), out, threads=1)
    except CuveeError as error:
        return str(error)
    model, report = source.loaded(out)
    wrong = [f"{key}: {sorted(map(str, names))[:2]}" for key, names in report.items() if names]
    order = [layer for first, last in ranges for layer in range(first, last)]
    outputs = layer_outputs(model)
    if len(outputs) != len(order):
        return [*wrong, f"{len(outputs)} layers, expected {len(order)}"]
    for place, layer in enumerate(order):
        if not torch.allclose(outputs[place], source.outputs[layer], rtol=1e-4, atol=1e-4):
            wrong.append(f"layer {place} computes otherwise than {layer} of its source")
    return wrong
