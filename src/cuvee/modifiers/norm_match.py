"""norm_match: give the change the length that task vectors have; a mean of unlike vectors is shorter than each of
them."""

from collections.abc import Mapping, Sequence
from typing import Any

from cuvee.addition import MergedTensor, modifier


def _always(settings: Mapping[str, Any]) -> bool:
    return True


@modifier("norm_match", formula="Δ ← Δ·meanᵢ ‖τᵢ‖ / ‖Δ‖, each tensor by itself", measures=_always)
def norm_match(tensors: Sequence[MergedTensor]) -> list[float]:
    """Scale each tensor's change so that its norm is the mean of the models' task vectors' norms."""
    return [_factor(tensor) for tensor in tensors]


def _factor(tensor: MergedTensor) -> float:
    if tensor.merged == 0:
        return 1.0
    wanted = sum(square**0.5 for square in tensor.models) / len(tensor.models)
    return float(wanted / tensor.merged**0.5)
