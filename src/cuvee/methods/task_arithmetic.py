"""Sum of task vectors (Ilharco et al. 2023)."""

import numpy as np

from cuvee.method import PerModel, coefficient_method
from cuvee.ops.task_vectors import Weights


@coefficient_method("task_arithmetic", paper="arXiv:2212.04089", formula="θ₀ + λ Σ wᵢ (θᵢ − θ₀)", base="delta")
def task_arithmetic(*, weight: PerModel, normalize: bool = False) -> Weights:
    """Add the weighted differences to the base model.

    With `normalize` the weights are divided by their sum, unless that is about zero. A negative weight unlearns.
    """
    return Weights(np.asarray(weight, np.float64), normalize)
