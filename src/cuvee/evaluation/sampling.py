"""Which token comes next: the most likely, or one drawn by its probability.

A draw is a function of the prompt's seed, the item's id and the position in its text, and so the same in any batch.
"""

from collections.abc import Sequence

import numpy as np
import torch
from blake3 import blake3

from cuvee.evaluation.prompt import Prompt


class Sampler:
    """Picks tokens for the rows of a batch."""

    def __init__(self, prompt: Prompt, ids: Sequence[str]) -> None:
        self._prompt = prompt
        self._draws = np.array([_uniform(prompt.seed, name, prompt.max_new_tokens) for name in ids])

    def pick(self, logits: torch.Tensor, rows: Sequence[int], positions: Sequence[int]) -> torch.Tensor:
        """Pick a token for each line of logits, [lines, vocabulary].

        `rows` says to which row a line belongs, and `positions` how many tokens that row has written before. Without a
        temperature it is the most likely, the lowest id of equals.
        """
        if self._prompt.temperature == 0:
            return logits.argmax(-1)
        likely = (logits.double() / self._prompt.temperature).softmax(-1)
        probability, order = likely.sort(dim=-1, descending=True, stable=True)
        reached = probability.cumsum(-1)
        cumulative = probability.where(reached - probability < self._prompt.top_p, 0.0).cumsum(-1)
        draws = torch.from_numpy(self._draws[list(rows), list(positions)]).to(logits.device)
        place = torch.searchsorted(cumulative, draws[:, None] * cumulative[:, -1:], right=True)
        last = (cumulative < cumulative[:, -1:]).sum(-1, keepdim=True)
        picked: torch.Tensor = order.gather(-1, torch.minimum(place, last)).squeeze(-1)
        return picked


def _uniform(seed: int, name: str, count: int) -> np.ndarray:
    key = int.from_bytes(blake3(f"{seed}\0{name}".encode()).digest(16))
    return np.random.Generator(np.random.Philox(key=key)).random(count)
