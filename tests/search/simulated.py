"""Made-up candidates whose true score is known: a smooth function of parameters, and items that answer by chance."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def at_most(events: int, runs: int) -> float:
    """Return the rate above which fewer than 1 of 1,000 series of `runs` would show so few events (Wilson)."""
    z, share = 3.09, events / runs
    middle = (share + z**2 / (2 * runs)) / (1 + z**2 / runs)
    return float(middle + z / (1 + z**2 / runs) * np.sqrt(share * (1 - share) / runs + z**2 / (4 * runs**2)))


def answers(chance: Array, items: int, generator: np.random.Generator) -> Array:
    """Draw right and wrong answers, [candidates, items], of candidates with these chances, [candidates].

    Candidates share the difficulty of an item, so they agree more often than by chance. The mean over all items that
    there could be is the chance itself.
    """
    shared = generator.random(items)
    own = generator.random((len(chance), items))
    difficulty = np.where(generator.random((len(chance), items)) < 0.6, shared, own)
    return (difficulty < chance[:, None]).astype(np.float64)
