"""loss: weights from what each model loses on one text (LM-Cocktail, arXiv:2311.13534).

`cuvee calibrate` measures the losses; the merge reads them from the statistics that the recipe names.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np

from cuvee.addition import weight_rule
from cuvee.recipe.setting import Range


@weight_rule("loss", formula="wᵢ = softmax(−ℓᵢ/temperature)", paper="arXiv:2311.13534", by_loss=True)
def loss(losses: Sequence[float], *, temperature: Annotated[float, Range(0, open_low=True)] = 5.0) -> list[float]:
    """Weigh models by their loss on a text that shows what the merge is for: the better it is, the more it counts.

    Needs `statistics` of each model on the same text. Losses are means over the tokens of answers, in nats; a lower
    `temperature` tells models more apart.
    """
    scores = -np.asarray(losses, np.float64) / temperature
    powers = np.exp(scores - scores.max())
    weights: list[float] = (powers / powers.sum()).tolist()
    return weights
