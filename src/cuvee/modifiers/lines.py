"""lines: scale the change up with the depth of the layer (LiNeS, arXiv:2410.17146).

Shallow layers, which hold what is general, stay near the base. Tensors outside the layers (embeddings, final norm,
head) are scaled as the first layer is.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from cuvee.addition import MergedTensor, modifier
from cuvee.recipe.setting import Range


def _has_no_alpha(settings: Mapping[str, Any]) -> bool:
    return settings["alpha"] is None


@modifier(
    "lines",
    formula="Δ ← (alpha + beta·l/(L − 1))·Δ in layer l of L",
    paper="arXiv:2410.17146",
    measures=_has_no_alpha,
)
def lines(
    tensors: Sequence[MergedTensor],
    *,
    alpha: Annotated[Any, Range(low=0)] = None,
    beta: Annotated[Any, Range(low=0)] = None,
) -> list[float]:
    """Scale the merged change linearly from `alpha` in the first layer to `alpha + beta` in the last.

    Without `alpha` it is ‖Σᵢ τᵢ‖ / (N·‖Δ‖) over the whole model, the paper's choice for several models. Without
    `beta` it is 1 − alpha, but at least 0: the last layer's change stays as it is.
    """
    low = _measured_alpha(tensors) if alpha is None else alpha
    rise = max(0.0, 1 - low) if beta is None else beta
    return [low + rise * tensor.depth for tensor in tensors]


def _measured_alpha(tensors: Sequence[MergedTensor]) -> float:
    merged = sum(tensor.merged for tensor in tensors)
    if merged == 0:
        return 1.0
    summed = sum(tensor.summed for tensor in tensors)
    models = max(len(tensor.models) for tensor in tensors)
    return float((summed / merged) ** 0.5 / models)
