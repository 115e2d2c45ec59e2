"""Random recipes for each of mergekit's methods, the same for the same seed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from parity.models import CHANGES, LAYERS

Random = np.random.Generator
Draw = Callable[[Random], Any]

Loaded = Literal["fp32", "bf16"]

FILTERS = (
    "self_attn", "mlp", "layernorm", "embed_tokens", "lm_head", "q_proj", "down_proj", "layers.1.", "layers.2.",
)  # fmt: skip


def between(low: float, high: float) -> Draw:
    return lambda random: round(float(random.uniform(low, high)), 3)


def one_of(*options: Any) -> Draw:
    return lambda random: options[random.integers(len(options))]


def density(random: Random) -> float:
    return 1.0 if random.random() < 0.15 else between(0.1, 0.95)(random)


BOOLEAN = one_of(True, False)
WEIGHT = between(0.4, 1.2)
ARITHMETIC: Mapping[str, Draw] = {"lambda": between(0.3, 1.5), "normalize": BOOLEAN, "int8_mask": BOOLEAN}


@dataclass(frozen=True)
class Drawn:
    """How a method's recipes are drawn.

    `fixed` are parameters that are one plain value for the whole merge; `extra` are what Cuvée's recipe says besides.
    For number types in `exactly` mergekit is also asked to compute in float64, which takes its own rounding away.
    """

    models: tuple[int, int]
    base: Literal["never", "may", "must"]
    own: Mapping[str, Draw] = field(default_factory=dict)
    shared: Mapping[str, Draw] = field(default_factory=dict)
    fixed: Mapping[str, Draw] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    signed: bool = False
    unrelated: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    exactly: tuple[Loaded, ...] = ()


def _arithmetic(own: Mapping[str, Draw], *, rescale: bool = True, signed: bool = True) -> Drawn:
    shared = {**ARITHMETIC, "rescale": BOOLEAN} if rescale else ARITHMETIC
    return Drawn((1, 4), "must", {"weight": WEIGHT, **own}, shared, required=("weight",), signed=signed)


AT_ONE = {"density": one_of(1.0)}
"""Random masks differ: with density 1 there is none, and all else of these methods can be compared."""

MIDDLE = {"density": density, "gamma": between(0, 0.2)}
WEIGHTED = {"weight": WEIGHT}
INTERPOLATION = {"t": between(0, 1)}

DRAWN: Mapping[str, Drawn] = {
    "linear": Drawn(
        (1, 4), "may", WEIGHTED, {"normalize": BOOLEAN}, required=("weight",), signed=True, unrelated=True
    ),
    "slerp": Drawn((1, 1), "must", shared=INTERPOLATION, required=("t",), unrelated=True),
    "nuslerp": Drawn(
        (2, 2), "may", WEIGHTED, {"nuslerp_flatten": BOOLEAN, "nuslerp_row_wise": BOOLEAN},
        required=("weight",), signed=True, unrelated=True,
    ),
    "multislerp": Drawn(
        (2, 4), "may", WEIGHTED, {"normalize_weights": BOOLEAN}, required=("weight",), unrelated=True
    ),
    "karcher": Drawn(
        (2, 4), "may", fixed={"max_iter": one_of(1, 3, 10), "tol": one_of(1e-5, 1e-6)}, unrelated=True,
        # a step about as long as `tol` may be the last one or not, as the rounding will have it
        exactly=("fp32",),
    ),
    "task_arithmetic": _arithmetic({}, rescale=False),
    "ties": _arithmetic({"density": density}, signed=False),
    "dare_linear": _arithmetic(AT_ONE),
    "dare_ties": _arithmetic(AT_ONE, signed=False),
    "della": _arithmetic(AT_ONE, signed=False),
    "della_linear": _arithmetic(AT_ONE),
    "breadcrumbs": _arithmetic(MIDDLE),
    "breadcrumbs_ties": _arithmetic(MIDDLE, signed=False),
    "sce": Drawn((1, 4), "must", shared={"select_topk": between(0.1, 1), "int8_mask": BOOLEAN}),
    # mergekit lets t leave [0, 1]
    "model_stock": Drawn((2, 4), "must", shared={"filter_wise": BOOLEAN}, extra={"clamp": False}),
    "nearswap": Drawn((1, 1), "must", shared={"t": between(0.001, 0.05)}, required=("t",)),
    # the scores of small changes are differences of nearly equal numbers: in float32 or less they are noise
    "arcee_fusion": Drawn((1, 1), "must", exactly=("fp32", "bf16")),
    "ram": Drawn((1, 4), "must", shared={"epsilon": one_of(1e-5, 0.001, 0.01)}),
    "ramplus_tl": Drawn(
        (1, 4), "must", shared={"epsilon": one_of(1e-5, 0.001, 0.01), "r": between(0, 0.5), "alpha": between(0, 1)}
    ),
    "passthrough": Drawn((1, 1), "never", {"scale": between(-1, 2)}, unrelated=True),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A recipe in mergekit's words and what Cuvée's has besides."""

    key: str
    loaded: Loaded
    number: int
    document: Mapping[str, Any]

    @property
    def id(self) -> str:
        return f"{self.key}-{self.loaded}-{self.number}"

    @property
    def text(self) -> str:
        """The recipe as mergekit reads it."""
        return yaml.safe_dump(dict(self.document), sort_keys=False)

    @property
    def reference(self) -> str:
        """The recipe as mergekit reads it for the result that Cuvée has to match, equal magnitudes by position."""
        exact = {"dtype": "float64"} if self.loaded in DRAWN[self.key].exactly else {}
        return yaml.safe_dump({**self.document, **exact}, sort_keys=False)

    def ours(self, compute_dtype: str) -> str:
        """Return the recipe with the keys that only Cuvée has."""
        parameters = {**self.document.get("parameters", {}), **DRAWN[self.key].extra}
        document = {**self.document, "parameters": parameters, "compute_dtype": compute_dtype}
        return yaml.safe_dump(document, sort_keys=False)


def case(key: str, loaded: Loaded, number: int, root: Path) -> Case:
    """Draw a recipe of models that lie in `root`; most of what it computes with is of the type `loaded`."""
    random = np.random.default_rng([*key.encode(), len(loaded), ord(loaded[0]), number])
    document = _Recipe(key, DRAWN[key], random).document()
    chosen, types = _types(loaded, random, exactly=loaded in DRAWN[key].exactly)
    return Case(key, loaded, number, {**_placed(document, root / chosen), **types})


def _types(loaded: Loaded, random: Random, *, exactly: bool) -> tuple[str, dict[str, str]]:
    """Choose a set of models and what the recipe says of types."""
    name = {"fp32": "float32", "bf16": "bfloat16"}[loaded]
    wider = {"fp32": "float64", "bf16": "float32"}[loaded]
    pairs: list[tuple[str, dict[str, str]]] = [(loaded, {}), (loaded, {"dtype": name})]
    if not exactly:  # where inputs are not rounded
        pairs += [("mixed", {"dtype": name}), ("mixed", {}) if loaded == "fp32" else ("fp32", {"dtype": name})]
    chosen, types = pairs[random.integers(len(pairs))]
    return chosen, types | ({"out_dtype": wider} if random.random() < 0.15 else {})


def _placed(document: Any, folder: Path) -> Any:
    """Put the folder before the models' names."""
    if isinstance(document, dict):
        return {k: str(folder / v) if k in ("model", "base_model") else _placed(v, folder) for k, v in document.items()}
    return [_placed(entry, folder) for entry in document] if isinstance(document, list) else document


class _Recipe:
    """Draws the parts of one recipe. State: the generator, and whether a weight may be negative in it."""

    def __init__(self, key: str, drawn: Drawn, random: Random) -> None:
        self.key = key
        self.drawn = drawn
        self.random = random

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def document(self) -> dict[str, Any]:
        low, high = self.drawn.models
        count = int(self.random.integers(low, high + 1))
        base = self.drawn.base == "must" or (self.drawn.base == "may" and self.chance(0.5))
        parameters = self.parameters()
        result: dict[str, Any] = {"merge_method": self.key, "parameters": parameters}
        if base:
            result["base_model"] = "base"
        if self.chance(0.4):
            return result | {"slices": self.slices(count, base)}
        return result | {"models": self.listed(self.chosen(count), base and self.chance(0.5))}

    def chosen(self, count: int) -> list[str]:
        names = [*CHANGES, "other"] if self.drawn.unrelated else list(CHANGES)
        return [str(name) for name in self.random.permutation(names)[:count]]

    def listed(self, models: list[str], with_base: bool) -> list[dict[str, Any]]:
        names = [*models, "base"] if with_base and self.chance(0.5) else ["base"] * with_base + models
        return [{"model": name, **self.own(name, first=name == models[0])} for name in names]

    def own(self, model: str, *, first: bool) -> dict[str, Any]:
        """Draw a model's own parameters. The first one's weight may be negative where that has a meaning."""
        result = {name: self.value(draw) for name, draw in self.drawn.own.items() if self.chance(0.7)}
        if first and self.drawn.signed and self.chance(0.3):
            result["weight"] = -between(0.05, 0.3)(self.random)
        return {"parameters": result} if result else {}

    def slices(self, count: int, base: bool) -> list[dict[str, Any]]:
        return [self.slice(count, base) for _ in range(self.random.integers(1, 4))]

    def slice(self, count: int, base: bool) -> dict[str, Any]:
        length = int(self.random.integers(1, LAYERS))
        models = self.chosen(count)
        own_base = base and self.drawn.base == "must" and self.chance(0.3)
        sources = self.listed(models, base)
        result: dict[str, Any] = {"sources": [{**source, "layer_range": self.layers(length)} for source in sources]}
        if own_base:
            other = next(name for name in CHANGES if name not in models) if count < len(CHANGES) else "base"
            result = {"base_model": other, "sources": [_renamed(s, "base", other) for s in result["sources"]]}
        if self.chance(0.4):
            inner = {name: self.value(draw) for name, draw in self.drawn.own.items() if self.chance(0.5)}
            result["parameters"] = inner | {n: self.value(d) for n, d in self.drawn.shared.items() if self.chance(0.3)}
        return result

    def layers(self, length: int) -> list[int]:
        start = int(self.random.integers(0, LAYERS - length + 1))
        return [start, start + length]

    def parameters(self) -> dict[str, Any]:
        drawn = self.drawn
        result = {name: draw(self.random) for name, draw in drawn.fixed.items() if self.chance(0.5)}
        for name, draw in {**drawn.own, **drawn.shared}.items():
            if name in drawn.required:
                result[name] = self.complete(draw)
            elif self.chance(0.5):
                result[name] = self.value(draw)
        return result

    def value(self, draw: Draw) -> Any:
        """Draw a value in any of its forms; it may not cover all tensors."""
        if self.chance(0.15):
            return {"filter": self.filter(), "value": self.scalar_or_gradient(draw)}
        if self.chance(0.15):
            return [{"filter": self.filter(), "value": self.scalar_or_gradient(draw)} for _ in range(2)]
        return self.complete(draw)

    def complete(self, draw: Draw) -> Any:
        """Draw a value that covers all tensors."""
        if not self.chance(0.3):
            return self.scalar_or_gradient(draw)
        last = {"value": self.scalar_or_gradient(draw)} | ({"filter": "*"} if self.chance(0.5) else {})
        return [{"filter": self.filter(), "value": self.scalar_or_gradient(draw)}, last]

    def scalar_or_gradient(self, draw: Draw) -> Any:
        if self.chance(0.6):
            return draw(self.random)
        return [draw(self.random) for _ in range(self.random.integers(1, 5))]

    def filter(self) -> str:
        return str(self.random.choice(FILTERS))


def _renamed(source: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    return {**source, "model": new} if source["model"] == old else source
