"""wma: linearly increasing weights, for checkpoints of one training run in their order."""

from cuvee.addition import weight_rule


@weight_rule("wma", formula="wᵢ = i / (1 + 2 + ... + N)")
def wma(models: int) -> list[float]:
    """Let later models count more, linearly."""
    total = models * (models + 1) / 2
    return [i / total for i in range(1, models + 1)]
