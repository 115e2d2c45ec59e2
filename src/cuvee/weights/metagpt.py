"""metagpt: weights from the lengths of the task vectors (arXiv:2406.11385), without data.

The paper minimises a bound on the loss of all tasks together; task vectors are taken as orthogonal.
"""

from collections.abc import Sequence

from cuvee.addition import weight_rule


@weight_rule("metagpt", formula="wᵢ = ‖τᵢ‖² / Σₖ ‖τₖ‖², over the whole model", paper="arXiv:2406.11385", measures=True)
def metagpt(squared_norms: Sequence[float]) -> list[float]:
    """Weigh models by the squared norms of their task vectors.

    The weights sum to 1, which is cautious for many models: `lambda` makes the change larger.
    """
    total = sum(squared_norms)
    if total == 0:
        return [1 / len(squared_norms)] * len(squared_norms)
    return [square / total for square in squared_norms]
