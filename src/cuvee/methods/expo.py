"""ExPO: go on in the direction in which alignment training went (Zheng et al. 2024).

The base model is the one before alignment (SFT), the other the aligned one. FusionBench besides leaves out embeddings,
norms and the outer layers; here a list of `{filter, value}` for `alpha` does that.
"""

from typing import Annotated

import numpy as np

from cuvee.method import coefficient_method
from cuvee.ops.arrays import Array
from cuvee.recipe.setting import Range


@coefficient_method("expo", paper="arXiv:2404.16792", formula="θ₁ + α (θ₁ − θ₀)", base="delta", models=(1, 1))
def expo(*, alpha: Annotated[float, Range(-1)] = 0.3) -> Array:
    """Extrapolate from the base model through the aligned one, by `alpha` times their difference.

    Typical are 0.1 to 0.5; 0 gives the aligned model, -1 the base.
    """
    return np.array([1 + alpha])
