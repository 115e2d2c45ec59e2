"""uniform: the same weight for every model, all together 1."""

from cuvee.addition import weight_rule


@weight_rule("uniform", formula="wᵢ = 1/N")
def uniform(models: int) -> list[float]:
    """Give every model the same weight."""
    return [1 / models] * models
