"""The blends of the demo: a handful of methods, each with a setting or two that a user would try.

Settings are those that do best on the public part of the tasks, or near them, in docs/explanation/which-method.md. None
was chosen on the private part.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

Scalar = float | int | bool


@dataclass(frozen=True)
class Blend:
    """A recipe: the merge method, the settings of each model, those of the merge, and a modifier after it.

    `aligns` names the blend of the same recipe that this blend is after `cuvee align`.
    """

    name: str
    method: str
    each: dict[str, Scalar] = field(default_factory=dict)
    whole: dict[str, Scalar] = field(default_factory=dict)
    post: str = ""
    aligns: str = ""

    @property
    def label(self) -> str:
        """The method with its modifier or repair, as tables name it."""
        if self.aligns:
            return f"{self.method} + align"
        return f"{self.method} + {self.post}" if self.post else self.method


BLENDS = (
    Blend("average", "linear", {"weight": 1.0}),
    Blend("sum-0.4", "task_arithmetic", {"weight": 1.0}, {"lambda": 0.4}),
    Blend("sum-0.5", "task_arithmetic", {"weight": 1.0}, {"lambda": 0.5}),
    Blend("sum-1.0", "task_arithmetic", {"weight": 1.0}, {"lambda": 1.0}),
    Blend("boost-0.3", "task_arithmetic", {"weight": 1.0}, {"lambda": 0.3}, "subspace_boost"),
    Blend("ties-50", "ties", {"weight": 1.0, "density": 0.5}),
    Blend("dare-0.4", "dare_linear", {"weight": 1.0, "density": 0.5}, {"lambda": 0.4}),
    Blend("dare-ties-0.4", "dare_ties", {"weight": 1.0, "density": 0.5}, {"lambda": 0.4}),
    Blend("median-1.5", "geometric_median", {}, {"lambda": 1.5}),
    Blend("cart-1.2", "cart", {}, {"lambda": 1.2}),
    Blend("actmat-0.8", "actmat", {}, {"lambda": 0.8}),
    Blend("wudi-0.8", "wudi", {}, {"lambda": 0.8}),
    Blend("tsv-1.0", "tsv_m", {}, {"lambda": 1.0}),
    Blend("tsv-1.2", "tsv_m", {}, {"lambda": 1.2}),
    Blend("aligned-0.5", "task_arithmetic", {"weight": 1.0}, {"lambda": 0.5}, aligns="sum-0.5"),
)
"""The first is measured first, for a first verdict: the plainest blend there is. At least one is meant to fail: adding
whole task vectors is too much for a family of this size."""

REPAIR = {"mix": 0.3, "ridge": 3e-4}
"""What `cuvee align` is told."""


def align_command(merged: str, out: str, experts: Sequence[str]) -> str:
    """Write the command that repairs a blend with the texts of the demo."""
    named = "".join(f" \\\n  --expert models/{expert}=texts/{expert}.jsonl" for expert in experts)
    settings = " ".join(f"--{name} {value}" for name, value in REPAIR.items())
    return f"cuvee align {merged} {out} {settings}{named}"


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
    if blend.post:
        lines += ["post:", f"  - {blend.post}"]
    return "\n".join([*lines, "dtype: bfloat16"]) + "\n"
