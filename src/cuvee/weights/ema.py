"""ema: the exponential moving average of checkpoints of one training run, in their order."""

from typing import Annotated

from cuvee.addition import weight_rule
from cuvee.method import UNIT


@weight_rule("ema", formula="m₁ = θ₁; mᵢ = factor·mᵢ₋₁ + (1 − factor)·θᵢ; the result is m_N")
def ema(models: int, *, factor: Annotated[float, UNIT] = 0.5) -> list[float]:
    """Let later models count more, exponentially: `factor` is the kept share of the average at each step.

    The first model starts the average, so that the weights sum to 1.
    """
    weights = [1.0]
    for _ in range(models - 1):
        weights = [factor * weight for weight in weights] + [1 - factor]
    return weights
