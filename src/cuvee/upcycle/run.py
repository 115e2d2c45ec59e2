"""Writes dense models as one mixture of experts. Tensors are copied as they stream; only the routers are new."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from cuvee.arguments import checks_options
from cuvee.checkpoint import StoredFile, TensorSource, TensorSpec
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.checkpoint.folders import refuse_sub_folders
from cuvee.engine.options import Options, RunOptions
from cuvee.engine.run import MergeResult, run_with
from cuvee.engine.surveys import random_key
from cuvee.errors import CheckpointError, RecipeError, several
from cuvee.foreign import open_files, readable
from cuvee.hub import Hub, open_cached
from cuvee.kernels import load
from cuvee.plan import Making, Parent, Plan, make_plan
from cuvee.plan.configs import advice, unlike
from cuvee.plan.plan import conflicts
from cuvee.plan.recipes import copy_recipe
from cuvee.plan.resolve import FoundModel, open_model
from cuvee.recipe.slips import warnings_of
from cuvee.structure import layer_of
from cuvee.upcycle.gates import gates
from cuvee.upcycle.mergekit import differences
from cuvee.upcycle.recipe import DRAWN, FITTED, Expert, Upcycling

MOST_CONDITION = 5.0
"""Routers whose rows are more alike than this condition number says hardly tell the experts apart."""


KIND = "mixture"
"""What `cuvee.json` calls the output."""

COMMAND = "cuvee upcycle recipe.yaml OUT"


@dataclass(frozen=True)
class Layout:
    """How a kind of mixture names its parts, and the settings of its config."""

    key: str
    dense: tuple[str, ...]
    said: Mapping[str, Any]

    def is_called(self, architecture: str) -> bool:
        """Say whether a recipe's `architecture` means it: its key, or the beginning of mergekit's name for it."""
        word = architecture.lower()
        return word == self.key or str(self.said["mergekit"]).lower().startswith(word)


@dataclass(frozen=True)
class _Piece:
    """A tensor of the output: that of a source, with noise and scaled, or an array.

    `noise` is the standard deviation of the added noise; `key` is the key of its draws.
    """

    source: TensorSource | None
    name: str
    scale: float = 1.0
    noise: float = 0.0
    key: tuple[int, int] = (0, 0)
    array: np.ndarray | None = None

    def spec(self, name: str, router: str) -> TensorSpec:
        """Return how the output holds the tensor; a row of a router is of the type `router`."""
        if self.source is not None:
            return replace(self.source.tensors[self.name], name=name)
        shape = () if self.array is None else self.array.shape
        return TensorSpec(name, router, shape, Path("router"), 0)

    @property
    def changes(self) -> bool:
        """Whether the source's numbers are not taken as they are."""
        return self.scale != 1.0 or self.noise != 0.0


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

    `cuvee.Options` describes the options.
    Raises RecipeError for a layout that does not exist or does not fit, CheckpointError for models of other shapes.
    """
    parents = {name: Parent(name, _opened(found), found.repository) for name, found in models.items()}
    dense = _dense(recipe, parents)
    base = recipe.base_model
    rows = gates(recipe, dense.base, models[base].place, len(dense.layers), dense.width)
    plan = _plan(recipe, text, parents, dense, rows)
    # the rows of a fitted router sum to zero, for what is the same in all of them changes no choice
    alike = () if recipe.gate_mode == FITTED else _alike(rows[:, : len(recipe.experts)])
    plan = replace(plan, hub=hub or plan.hub, warnings=(*plan.warnings, *alike, *conflicts(plan.parents)))
    # what was planned before is of one input: another recipe with the same shapes must not be gone on with
    return run_with(replace(Options(**options), resume=False), plan, Path(out))


def plan_mixture(recipe: Upcycling, text: str, *, folder: Path, hub: Hub) -> Plan:
    """Plan a mixture from the headers of its models, which are looked for as a merge's are. No router is made.

    Raises RecipeError and CheckpointError as `upcycle` does.
    """
    parents = {}
    for name in recipe.models:
        parents[name] = Parent(name, readable(open_model(name, hub, folder), name))
    plan = mixture_again(recipe, text, parents)
    return replace(plan, hub=hub, warnings=(*plan.warnings, *conflicts(plan.parents)))


def mixture_again(recipe: Upcycling, text: str, parents: Mapping[str, Parent]) -> Plan:
    """Plan a mixture that is there already, from headers: its routers are zeros, for nothing is run for them."""
    dense = _dense(recipe, parents)
    rows = np.zeros((len(dense.layers), len(recipe.gated), dense.width), np.float32)
    return _plan(recipe, text, parents, dense, rows)


def _opened(found: FoundModel) -> TensorSource:
    source = open_cached(found.repository) if found.repository is not None else open_files(found.place)
    return readable(source, str(found.place))


@dataclass(frozen=True)
class _Dense:
    """Dense models that fit together: the base, its feed-forward matrices by layer and part, and their mixture."""

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
    for name, source in sources.items():
        refuse_sub_folders(source.files(), name, "a mixture")
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
    keys = {} if recipe.dtype is None else {"dtype": recipe.dtype}
    passthrough = copy_recipe(recipe.base_model, source="upcycle", keys=keys)
    passthrough = replace(passthrough, text=text, seed=recipe.seed)
    plan = make_plan(passthrough, models={passthrough.models()[0]: mixed})
    others = ", ".join(recipe.models[1:])
    note = f"{len(recipe.experts)} experts, of {others}: {layout.key}, routers by {recipe.gate_mode}"
    making = _making(recipe, layout, [parents[name] for name in recipe.models])
    making = replace(making, unlike_mergekit=tuple(differences(recipe, layout.said, dense.base)))
    configs = unlike(recipe.base_model, {name: source.config for name, source in sources.items()})
    warnings = (*warnings_of(recipe.slips), *plan.warnings, *configs.changing)
    if configs.changing:
        warnings = (*warnings, advice(recipe.base_model))
    return replace(plan, notes=(*plan.notes, note, *configs.others), warnings=warnings, making=making)


def _making(recipe: Upcycling, layout: Layout, parents: Sequence[Parent]) -> Making:
    experts = ", ".join(f"`{expert.source_model}`" for expert in recipe.experts)
    shared = "".join(f" That of `{model.source_model}` sees every token." for model in recipe.shared_experts)
    is_exact = recipe.gate_mode in DRAWN and not _adds_noise(recipe)
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
        reproducible="bits" if is_exact else "tolerance",
        tags=("moe", layout.key),
        record={"kind": KIND, "command": COMMAND},
    )


def _adds_noise(recipe: Upcycling) -> bool:
    return any(expert.noise_scale for expert in (*recipe.experts, *recipe.shared_experts))


def _layout(recipe: Upcycling, base: TensorSource) -> Layout:
    dense = str(base.config.get("model_type"))
    fitting = [layout for layout in _layouts() if dense in layout.dense]
    if not fitting:
        known = ", ".join(chain.from_iterable(layout.dense for layout in _layouts()))
        message = f"models of the type '{dense}' have no mixture here; those of the types {known} have"
        raise CheckpointError(message, where=recipe.base_model)
    layout = fitting[0]
    if recipe.architecture is not None and not layout.is_called(recipe.architecture):
        message = f"'architecture': '{recipe.architecture}' does not fit models of the type '{dense}'"
        raise RecipeError(
            message, hint=f"leave it out, or write {layout.key}: such models become no other mixture here"
        )
    if recipe.shared_experts and "shared" not in layout.said:
        have_shared = [layout.dense for layout in _layouts() if "shared" in layout.said]
        with_shared = ", ".join(chain.from_iterable(have_shared))
        message = f"a mixture of the kind '{layout.key}' has no 'shared_experts'"
        hint = f"leave them out: only models of the type {with_shared} become a mixture with a shared expert here"
        raise RecipeError(message, hint=hint)
    if "shared" in layout.said and not recipe.shared_experts:
        hint = "name one model, the base for example, with a small 'residual_scale'"
        raise RecipeError(f"a mixture of the kind '{layout.key}' needs one of 'shared_experts'", hint=hint)
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
        if layer is None or not layer.rest.startswith("mlp."):
            continue
        if part in layout.said["parts"]:
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
    """Name every tensor of the output and its source."""
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
            new = prefix + said["expert"].format(expert=i, part=word)
            pieces[new] = _expert_piece(expert, sources[expert.source_model], name, new, recipe.seed)
        for shared in recipe.shared_experts:
            new = prefix + said["shared"].format(part=word)
            pieces[new] = _expert_piece(shared, sources[shared.source_model], name, new, recipe.seed)
        count = len(recipe.experts)
        pieces[prefix + said["router"]] = _Piece(None, "", array=rows[layer, :count])
        if recipe.shared_experts:
            gate = rows[layer, count:] if shared.positive_prompts else np.zeros((1, rows.shape[2]), np.float32)
            pieces[prefix + said["shared_router"]] = _Piece(None, "", array=gate)
    return pieces


def _expert_piece(expert: Expert, source: TensorSource, name: str, new: str, seed: int) -> _Piece:
    """Return a matrix of an expert: its last matrix, which writes to the stream, is scaled."""
    scale = 1.0
    if name.split(".")[-2] == "down_proj" and expert.residual_scale is not None:
        scale = expert.residual_scale
    key = random_key(str(seed), "noise", new)
    return _Piece(source, name, scale, expert.noise_scale or 0.0, key)


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


def _change(piece: _Piece, first: int, out: Sequence[np.ndarray]) -> None:
    """Add noise to numbers and scale them, in float32; `first` is the place in the tensor at which they begin."""
    for numbers in out:
        changed = numbers.astype(np.float32)
        if piece.noise:
            changed += np.float32(piece.noise) * _normal(piece.key, first, numbers.size)
        numbers[:] = (changed * np.float32(piece.scale)).astype(numbers.dtype)
        first += numbers.size


def _normal(key: tuple[int, int], first: int, count: int) -> np.ndarray:
    """Draw from the normal distribution, by Box and Muller: each number follows from the key and its place alone."""
    draws = np.empty((2, count), np.float32)
    kernels = load()
    kernels.uniform(key, first, draws[0])
    kernels.uniform((key[1], key[0]), first, draws[1])
    normal: np.ndarray = np.sqrt(-2 * np.log1p(-draws[0])) * np.cos(np.float32(2 * np.pi) * draws[1])
    return normal


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
        stored = [piece.name for piece in pieces.values() if piece.source is not None]
        router = base.tensors[stored[0]].dtype
        self.tensors: Mapping[str, TensorSpec] = {name: piece.spec(name, router) for name, piece in pieces.items()}

    def read_into(self, name: str, start: int, out: Sequence[np.ndarray]) -> None:
        piece, dtype = self._pieces[name], NUMPY[self.tensors[name].dtype]
        if piece.source is not None:
            piece.source.read_into(piece.name, start, out)
            if piece.changes:
                _change(piece, start // dtype.itemsize, [part.view(np.uint8).view(dtype) for part in out])
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
