"""One model's tensors, unchanged or scaled: the building block of stacked models."""

import numpy as np

from cuvee.method import PerModel, coefficient_method
from cuvee.ops.arrays import Array


@coefficient_method("passthrough", formula="scale · θ", models=(1, 1))
def passthrough(*, scale: PerModel = 1.0) -> Array:
    """Copy the model of each slice, multiplied by `scale`."""
    return np.asarray(scale, np.float64)
