"""aim: hold a merged change back where the base is most active (Nobari et al. 2025), by the base's own statistics.

The paper scales norms' weights too; here it is matrices whose inputs the statistics know. One channel that is far above
the others, which large models have, leaves nothing to the rest with `scale: max`, the paper's; `log` and `rank` do.
"""

from typing import Annotated, Literal

from cuvee.addition import matrix_modifier
from cuvee.method import UNIT, InputMeanAbs
from cuvee.ops.arrays import Array, array_namespace
from cuvee.ops.work import Work


def _work(models: int, out: int, size: int) -> Work:
    return Work(float(out * size), (), out * size + 8 * size)


@matrix_modifier(
    "aim",
    formula="Δ ← Δ·diag(1 − r·(1 − omega)),  r = s/max s of the base's mean |x| in each channel",
    paper="arXiv:2502.02421",
    work=_work,
)
def aim(
    merged: Array,
    deltas: Array,
    *,
    omega: Annotated[float, UNIT] = 0.4,
    scale: Literal["max", "log", "rank"] = "max",
    activity: InputMeanAbs,
) -> Array:
    """Shrink the change of each input channel by how active it is in the base: `omega` is left of the most active one.

    Needs `statistics` of the base model, on general text. 1 changes nothing, 0 keeps the base's most active channel.
    """
    xp = array_namespace(merged)
    if float(xp.max(activity)) == 0:
        return merged
    relative = _relative(activity, scale)
    return merged * xp.astype(1 - relative * (1 - omega), merged.dtype)


def _relative(activity: Array, scale: str) -> Array:
    """Return for each channel a number in [0, 1], 1 for the most active one."""
    xp = array_namespace(activity)
    if scale == "rank":
        places = xp.argsort(xp.argsort(activity, stable=True), stable=True)
        return (xp.astype(places, activity.dtype) + 1) / activity.shape[0]
    if scale == "log":
        grown = xp.log1p(activity / xp.mean(activity))
        return grown / xp.max(grown)
    return activity / xp.max(activity)
