"""The settings of `align`."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from cuvee.errors import RecipeError

RIDGES = (3e-4, 3e-3, 3e-2)
"""What `ridge: auto` tries."""

HOLD_OUT = 10
"""Every tenth document is held out where the ridge is chosen."""


@dataclass(frozen=True)
class Alignment:
    """How a merge is repaired; the formulas are in `cuvee.calibrate.solve`.

    - `mix` in [0, 1]: the part of the expert's own inputs in the inputs that its answer is wanted for.
    - `ridge` >= 0 holds weights at the anchor; "auto" tries RIDGES and keeps that with the least divergence from the
      experts on held-out text.
    - `push` moves the anchor along the merge: 1 is the merge, 0 the base.
    - `off_diagonal` in [0, 1] shrinks Gram matrices, only where `mix` is 0.
    - `norm` makes experts count alike whatever the size of their activations.
    - `tokens` and `length` bound each expert's text and each document.
    - `inside`: whose block's maps see the merged states before it: the merge's own, or the expert's as in the code of
      RegMean++'s authors.
    - With `one_by_one` each input of a block is solved for after those before it, at a higher cost.
    """

    mix: float = 0.5
    ridge: float | Literal["auto"] = "auto"
    push: float = 1.0
    off_diagonal: float = 1.0
    norm: Literal["frobenius", "trace", "none"] = "frobenius"
    positions: Literal["all", "answer", "prompt"] = "all"
    tokens: int = 16384
    length: int = 512
    one_by_one: bool = False
    inside: Literal["merged", "expert"] = "merged"

    @property
    def ridges(self) -> tuple[float, ...]:
        return RIDGES if self.ridge == "auto" else (float(self.ridge),)

    def hold_out(self, documents: int) -> int:
        """Return which of so many documents is held out, every how manyth; 0 where none is."""
        if self.ridge != "auto" or documents < 2:
            return 0
        return min(HOLD_OUT, documents)


PRESETS = {
    "align": Alignment(),
    "regmean_pp": Alignment(mix=0.0, ridge=0.0, off_diagonal=0.9, norm="none"),
}


def alignment(preset: str = "align", **changes: Any) -> Alignment:
    """Return a preset with changes. Raises RecipeError for values that are out of range or do not go together."""
    if preset not in PRESETS:
        raise RecipeError(f"there is no preset '{preset}'", hint=f"there are {', '.join(PRESETS)}")
    chosen = replace(PRESETS[preset], **changes)
    problem = _problem(chosen)
    if problem is not None:
        raise RecipeError(problem)
    return chosen


WORDS = {
    "norm": ("frobenius", "trace", "none"),
    "positions": ("all", "answer", "prompt"),
    "inside": ("merged", "expert"),
}
"""The settings that are one of several words."""


def _problem(chosen: Alignment) -> str | None:
    for name, words in WORDS.items():
        if getattr(chosen, name) not in words:
            return f"{name} is '{getattr(chosen, name)}', expected {' or '.join(words)}"
    if not 0 <= chosen.mix <= 1:
        return f"mix is {chosen.mix}, expected a number from 0 to 1"
    if chosen.ridge != "auto" and not 0 <= float(chosen.ridge) < float("inf"):
        return f"ridge is {chosen.ridge}, expected auto or a number from 0"
    if not 0 <= chosen.off_diagonal <= 1:
        return f"off_diagonal is {chosen.off_diagonal}, expected a number from 0 to 1"
    if chosen.off_diagonal < 1 and chosen.mix > 0:
        return f"off_diagonal is {chosen.off_diagonal} and mix is {chosen.mix}: with off_diagonal below 1, mix is 0"
    if not abs(chosen.push) < float("inf"):
        return f"push is {chosen.push}, expected a number"
    if chosen.tokens < 1 or chosen.length < 2:
        return f"tokens is {chosen.tokens} and length {chosen.length}, expected at least 1 and 2"
    return None
