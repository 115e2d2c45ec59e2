"""RAM: average shared changes, keep the changes of a single model (for sparse changes of reinforcement learning)."""

from typing import Annotated

from cuvee.method import element_method
from cuvee.ops.arrays import Array
from cuvee.ops.task_vectors import active, mean_where
from cuvee.recipe.setting import Range


@element_method("ram", paper="arXiv:2601.13572", formula="θ₀ + λ Σ aᵢ τᵢ / Σ aᵢ,  aᵢ = [|τᵢ| > epsilon]")
def ram(deltas: Array, *, epsilon: Annotated[float, Range(0)] = 1e-5) -> Array:
    """Average each entry over the models that changed it by more than `epsilon`.

    So an entry that a single model changed is taken as it is. In bfloat16, 1e-5 is less than the spacing of weights
    above 0.003: there an entry counts as changed if it differs at all.
    """
    return mean_where(deltas, active(deltas, epsilon))
