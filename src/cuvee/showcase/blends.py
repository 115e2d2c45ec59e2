"""The recipes of the demo: a handful of methods, each with a few settings a user would try."""

from collections.abc import Sequence
from dataclasses import dataclass, field

Scalar = float | int | bool


@dataclass(frozen=True)
class Blend:
    """One recipe of the demo: the method, what every model is told, and what the merge is told."""

    name: str
    method: str
    each: dict[str, Scalar] = field(default_factory=dict)
    whole: dict[str, Scalar] = field(default_factory=dict)


BLENDS = (
    Blend("average", "linear", {"weight": 1.0}),
    Blend("sum-0.3", "task_arithmetic", {"weight": 1.0}, {"lambda": 0.3}),
    Blend("sum-0.4", "task_arithmetic", {"weight": 1.0}, {"lambda": 0.4}),
    Blend("sum-0.5", "task_arithmetic", {"weight": 1.0}, {"lambda": 0.5}),
    Blend("sum-1.0", "task_arithmetic", {"weight": 1.0}, {"lambda": 1.0}),
    Blend("ties-50", "ties", {"weight": 1.0, "density": 0.5}),
    Blend("ties-50-0.6", "ties", {"weight": 1.0, "density": 0.5}, {"lambda": 0.6}),
    Blend("ties-20", "ties", {"weight": 1.0, "density": 0.2}),
    Blend("ties-20-0.6", "ties", {"weight": 1.0, "density": 0.2}, {"lambda": 0.6}),
    Blend("dare-0.3", "dare_linear", {"weight": 1.0, "density": 0.5}, {"lambda": 0.3}),
    Blend("dare-0.4", "dare_linear", {"weight": 1.0, "density": 0.5}, {"lambda": 0.4}),
    Blend("dare-ties-0.4", "dare_ties", {"weight": 1.0, "density": 0.5}, {"lambda": 0.4}),
    Blend("median", "geometric_median"),
    Blend("median-1.5", "geometric_median", {}, {"lambda": 1.5}),
)
"""At least one is meant to fail: adding whole task vectors is too much for a family of this size."""


def recipe_text(blend: Blend, experts: Sequence[str], models: str) -> str:
    """Write a blend's recipe. `models` is the folder of the family as seen from the recipe."""
    lines = [f"merge_method: {blend.method}"]
    if blend.method != "linear":
        lines.append(f"base_model: {models}/base")
    lines.append("models:")
    lines += [f"  - model: {models}/{expert}" for expert in experts]
    settings = {**blend.each, **blend.whole}
    if settings:
        lines.append("parameters:")
        lines += [f"  {name}: {value}" for name, value in settings.items()]
    return "\n".join([*lines, "dtype: bfloat16"]) + "\n"
