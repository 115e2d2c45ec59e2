"""Writes dense models as one mixture of experts. Tensors are copied as they stream; only the routers are new."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import yaml

from cuvee.addition import language
from cuvee.arguments import checks_options
from cuvee.checkpoint import StoredFile, TensorSource, TensorSpec
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.engine.options import RunOptions
from cuvee.engine.run import MergeResult, run_plan
from cuvee.errors import CheckpointError, RecipeError, several
from cuvee.foreign import open_files, readable
from cuvee.hub import Hub, open_cached
from cuvee.plan import Making, Parent, Plan, make_plan
from cuvee.plan.plan import conflicts
from cuvee.plan.resolve import FoundModel
from cuvee.recipe.load import parse_recipe
from cuvee.structure import layer_of
from cuvee.upcycle.gates import gates
from cuvee.upcycle.recipe import Upcycling

MOST_CONDITION = 5.0
"""Routers whose rows are more alike than this condition number says hardly tell the experts apart."""


KIND = "mixture"
"""What `cuvee.json` calls the output."""

COMMAND = "cuvee upcycle recipe.yaml OUT"


@dataclass(frozen=True)
class Layout:
    """How a kind of mixture names its parts, and what its config says."""

    key: str
    dense: tuple[str, ...]
    said: Mapping[str, Any]


@dataclass(frozen=True)
class _Piece:
    """A tensor of the output: that of a source, scaled, or an array."""

    source: TensorSource | None
    name: str
    scale: float = 1.0
    array: np.ndarray | None = None


@checks_options
def upcycle(
    recipe: Upcycling,
    text: str,
    models: Mapping[str, FoundModel],
    out: Path | str,
    *,
    hub: Hub | None = None,
    **options: Unpack[RunOptions],
) -> MergeResult:
    """Put dense models together. `models` has each model of the recipe by its name, some of them from `hub`.

    Options are those of `run_plan`.
    Raises RecipeError for a layout that does not exist or does not fit, CheckpointError for models of other shapes.
    """
    parents = {name: Parent(name, _opened(found), found.repository) for name, found in models.items()}
    dense = _dense(recipe, parents)
    base = recipe.base_model
    rows = gates(recipe, dense.base, models[base].place, len(dense.layers), dense.width)
    plan = _plan(recipe, text, parents, dense, rows)
    plan = replace(plan, hub=hub or plan.hub, warnings=(*plan.warnings, *_alike(rows), *conflicts(plan.parents)))
    # what was planned before is of one input: another recipe with the same shapes must not be gone on with
    options["resume"] = False
    return run_plan(plan, Path(out), **options)


def mixture_again(recipe: Upcycling, text: str, parents: Mapping[str, Parent]) -> Plan:
    """Plan a mixture that is there already, from headers: its routers are zeros, for nothing is run for them."""
    dense = _dense(recipe, parents)
    rows = np.zeros((len(dense.layers), len(recipe.experts), dense.width), np.float32)
    return _plan(recipe, text, parents, dense, rows)


def _opened(found: FoundModel) -> TensorSource:
    source = open_cached(found.repository) if found.repository is not None else open_files(found.place)
    return readable(source, str(found.place))


@dataclass(frozen=True)
class _Dense:
    """Dense models that fit together: the base, its feed-forward matrices by layer and part, and what they become."""

    base: TensorSource
    layout: Layout
    feeds: Mapping[tuple[int, str], str]

    @property
    def layers(self) -> list[int]:
        return sorted({layer for layer, _ in self.feeds})

    @property
    def width(self) -> int:
        return self.base.tensors[self.feeds[self.layers[0], "gate_proj"]].shape[-1]


def _dense(recipe: Upcycling, parents: Mapping[str, Parent]) -> _Dense:
    sources = {name: parent.source for name, parent in parents.items()}
    base = sources[recipe.base_model]
    layout = _layout(recipe, base)
    feeds = _feeds(base, layout, recipe.base_model)
    _refuse_other_shapes(recipe, sources, feeds)
    return _Dense(base, layout, feeds)


def _plan(recipe: Upcycling, text: str, parents: Mapping[str, Parent], dense: _Dense, rows: np.ndarray) -> Plan:
    sources = {name: parent.source for name, parent in parents.items()}
    layout = dense.layout
    pieces = _pieces(recipe, layout, sources, dense.feeds, rows)
    mixed = _Mixed(dense.base, sources, pieces, _config(recipe, layout, dense.base, dense.feeds, dense.layers))
    written = {"merge_method": "passthrough", "models": [{"model": recipe.base_model}]}
    if recipe.dtype is not None:
        written["dtype"] = recipe.dtype
    passthrough = parse_recipe(yaml.safe_dump(written), language(), source="upcycle")
    passthrough = replace(passthrough, text=text, seed=recipe.seed)
    plan = make_plan(passthrough, models={passthrough.models()[0]: mixed})
    others = ", ".join(recipe.models[1:])
    note = f"{len(recipe.experts)} experts, of {others}: {layout.key}, routers by {recipe.gate_mode}"
    making = _making(recipe, layout, [parents[name] for name in recipe.models])
    return replace(plan, notes=(*plan.notes, note), making=making)


def _making(recipe: Upcycling, layout: Layout, parents: Sequence[Parent]) -> Making:
    experts = ", ".join(f"`{expert.source_model}`" for expert in recipe.experts)
    shared = "".join(f" That of `{model.source_model}` sees every token." for model in recipe.shared_experts)
    return Making(
        command=COMMAND,
        title=f"{layout.key} of {len(recipe.experts)} experts",
        how=(
            f"A mixture of experts: `{recipe.base_model}` with the feed-forward parts of {experts} as its experts, in "
            f"this order. For each token {recipe.experts_per_token} of them are used, chosen by routers made with "
            f"`gate_mode: {recipe.gate_mode}`.{shared}"
        ),
        parents=tuple(parents),
        recipe_digest=hashlib.sha256(recipe.model_dump_json().encode()).hexdigest(),
        reproducible="bits" if recipe.gate_mode == "random" else "tolerance",
        tags=("moe", layout.key),
        record={"kind": KIND, "command": COMMAND},
    )


def _layout(recipe: Upcycling, base: TensorSource) -> Layout:
    dense = str(base.config.get("model_type"))
    fitting = [layout for layout in _layouts() if dense in layout.dense]
    if not fitting:
        known = ", ".join(kind for layout in _layouts() for kind in layout.dense)
        message = f"models of the type '{dense}' have no mixture here; those of the types {known} have"
        raise CheckpointError(message, where=recipe.base_model)
    if recipe.architecture not in (None, *(layout.key for layout in fitting)):
        message = f"'{recipe.architecture}' does not fit models of the type '{dense}'"
        raise RecipeError(message, hint=f"expected {', '.join(layout.key for layout in fitting)}")
    layout = fitting[0]
    if bool(recipe.shared_experts) != ("shared" in layout.said):
        needs = "needs one of 'shared_experts'" if "shared" in layout.said else "has no 'shared_experts'"
        raise RecipeError(f"a mixture of the kind '{layout.key}' {needs}")
    return layout


@cache
def _layouts() -> tuple[Layout, ...]:
    data = json.loads((Path(__file__).parent / "layouts.json").read_text(encoding="utf-8"))
    return tuple(Layout(key, tuple(said["from"]), said) for key, said in data.items())


def _feeds(base: TensorSource, layout: Layout, model: str) -> dict[tuple[int, str], str]:
    """Return the names of the feed-forward matrices by layer and part."""
    found = {}
    for name in base.tensors:
        layer = layer_of(name)
        part = name.split(".")[-2]
        if layer is not None and layer.rest.startswith("mlp.") and part in layout.said["parts"]:
            found[layer.index, part] = name
    if not found:
        raise CheckpointError("has no feed-forward parts that could become experts", where=model)
    return found


def _refuse_other_shapes(
    recipe: Upcycling, sources: Mapping[str, TensorSource], feeds: Mapping[tuple[int, str], str]
) -> None:
    base = sources[recipe.base_model]
    problems = []
    for model in recipe.models:
        for name in feeds.values():
            own = sources[model].tensors.get(name)
            if own is None or own.shape != base.tensors[name].shape:
                found = f"of shape {list(own.shape)}" if own else "missing"
                message = f"'{name}' is {found}; in {recipe.base_model} it is of {list(base.tensors[name].shape)}"
                problems.append(CheckpointError(message, where=model))
                break
    if problems:
        raise several(problems)


def _pieces(
    recipe: Upcycling,
    layout: Layout,
    sources: Mapping[str, TensorSource],
    feeds: Mapping[tuple[int, str], str],
    rows: np.ndarray,
) -> dict[str, _Piece]:
    """Name every tensor of the output and say what it is made of."""
    base, said = sources[recipe.base_model], layout.said
    replaced = set(feeds.values())
    pieces: dict[str, _Piece] = {}
    for name in base.tensors:
        if name not in replaced:
            pieces[name] = _Piece(base, name)
    for (layer, part), name in feeds.items():
        prefix = name.partition("mlp.")[0]
        word = said["parts"][part]
        for i, expert in enumerate(recipe.experts):
            pieces[prefix + said["expert"].format(expert=i, part=word)] = _Piece(sources[expert.source_model], name)
        for shared in recipe.shared_experts:
            scale = shared.residual_scale if part == "down_proj" else 1.0
            pieces[prefix + said["shared"].format(part=word)] = _Piece(sources[shared.source_model], name, scale)
        pieces[prefix + said["router"]] = _Piece(None, "", array=rows[layer])
        if recipe.shared_experts:
            pieces[prefix + said["shared_router"]] = _Piece(None, "", array=np.zeros((1, rows.shape[2]), np.float32))
    return pieces


def _config(
    recipe: Upcycling,
    layout: Layout,
    base: TensorSource,
    feeds: Mapping[tuple[int, str], str],
    layers: Sequence[int],
) -> dict[str, Any]:
    known = {
        "experts": len(recipe.experts),
        "chosen": recipe.experts_per_token,
        "width": base.tensors[feeds[layers[0], "gate_proj"]].shape[0],
    }
    own = {key: known[what] for key, what in layout.said["config"].items()}
    kind = {"architectures": [layout.said["architecture"]], "model_type": layout.key}
    return {**base.config, **kind, **own, **layout.said["constants"]}


def _alike(rows: np.ndarray) -> tuple[str, ...]:
    worst = max(float(np.linalg.cond(layer)) for layer in rows)
    if worst <= MOST_CONDITION:
        return ()
    return (f"the routers' rows are much alike (condition number {worst:.1f}): use prompts that differ more",)


class _Mixed:
    """The mixture as a checkpoint: tensors of several sources under new names."""

    def __init__(
        self,
        base: TensorSource,
        sources: Mapping[str, TensorSource],
        pieces: Mapping[str, _Piece],
        config: dict[str, Any],
    ) -> None:
        self.config = config
        self.place = base.place
        self._sources = sources
        self._pieces = pieces
        router = next(base.tensors[piece.name].dtype for piece in pieces.values() if piece.source is not None)
        self.tensors: Mapping[str, TensorSpec] = {
            name: replace(piece.source.tensors[piece.name], name=name)
            if piece.source is not None
            else TensorSpec(name, router, () if piece.array is None else piece.array.shape, Path("router"), 0)
            for name, piece in pieces.items()
        }

    def read_into(self, name: str, start: int, out: Sequence[np.ndarray]) -> None:
        piece, dtype = self._pieces[name], NUMPY[self.tensors[name].dtype]
        if piece.source is not None:
            piece.source.read_into(piece.name, start, out)
            if piece.scale != 1.0:
                for part in out:
                    numbers = part.view(np.uint8).view(dtype)
                    numbers[:] = (numbers.astype(np.float32) * np.float32(piece.scale)).astype(dtype)
            return
        assert piece.array is not None, "a piece has a source or an array"
        raw = np.ascontiguousarray(piece.array.astype(dtype)).reshape(-1).view(np.uint8)
        for part in out:
            part.view(np.uint8)[:] = raw[start : start + part.nbytes]
            start += part.nbytes

    def will_read(self, name: str, start: int, nbytes: int) -> None:
        piece = self._pieces[name]
        if piece.source is not None:
            piece.source.will_read(piece.name, start, nbytes)

    def files(self) -> dict[str, StoredFile]:
        found: dict[str, StoredFile] = {}
        for model, source in self._sources.items():
            found |= {f"{model}/{name}": file for name, file in source.files().items()}
        return found
