"""Forward passes over rows of different length, with keys and values kept.

Rows are padded on the left, so that the distance between two tokens is the same in every batch: models whose attention
looks back over a window then see the same tokens whatever the padding.
"""

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from cuvee.evaluate.model import LanguageModel

KEPT_BYTES = 512 * 2**20
MIN_TOKENS, MAX_TOKENS = 512, 16384


@dataclass(frozen=True)
class Seen:
    """What a model has seen: its keys and values, which of them are tokens, and how many tokens each row has.

    `mask` is None where no row is padded. `logits` are those after each row's last token.
    """

    cache: Any
    mask: torch.Tensor | None
    lengths: torch.Tensor
    width: int
    logits: torch.Tensor

    def select(self, rows: torch.Tensor) -> "Seen":
        """Pick rows, some perhaps more than once. The original stays as it is."""
        cache = copy.copy(self.cache)
        cache.layers = [copy.copy(layer) for layer in self.cache.layers]
        cache.batch_select_indices(rows)
        mask = None if self.mask is None else self.mask[rows]
        return Seen(cache, mask, self.lengths[rows], self.width, self.logits[rows])


def token_budget(model: LanguageModel) -> int:
    """How many padded tokens a batch may have: their keys and values stay within half a gigabyte."""
    config = model.network.config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kept: int = 2 * config.num_hidden_layers * heads * head_size * model.network.dtype.itemsize
    return max(MIN_TOKENS, min(MAX_TOKENS, KEPT_BYTES // kept))


def read(model: LanguageModel, rows: Sequence[Sequence[int]]) -> Seen:
    """Show each row to the model from its start."""
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows], device=model.device)
    lengths = torch.tensor([len(row) for row in rows], device=model.device)
    columns = torch.arange(width, device=model.device) - (width - lengths)[:, None]
    mask = None if min(map(len, rows)) == width else (columns >= 0).long()
    cache = DynamicCache(config=model.network.config)
    logits = _forward(model, ids, cache, mask, columns.clamp(min=0), last_only=True)
    return Seen(cache, mask, lengths, width, logits[:, -1].float())


def read_on(model: LanguageModel, seen: Seen, ids: torch.Tensor, *, last_only: bool) -> tuple[torch.Tensor, Seen]:
    """Show more tokens, [rows, n], and return their logits and what has been seen then.

    Uses `seen` up: its keys and values grow. Rows may be padded on the right if nothing is read after them.
    """
    count = ids.shape[1]
    positions = seen.lengths[:, None] + torch.arange(count, device=model.device)
    mask = seen.mask if seen.mask is None else torch.nn.functional.pad(seen.mask, (0, count), value=1)
    # Padding may run past the last position that the model has an embedding for; nobody looks there.
    logits = _forward(model, ids, seen.cache, mask, positions.clamp(max=model.context_length - 1), last_only=last_only)
    return logits, Seen(seen.cache, mask, seen.lengths + count, seen.width + count, logits[:, -1].float())


def _forward(
    model: LanguageModel,
    ids: torch.Tensor,
    cache: Any,
    mask: torch.Tensor | None,
    positions: torch.Tensor,
    *,
    last_only: bool,
) -> torch.Tensor:
    offered = {"attention_mask": mask, "position_ids": positions, "logits_to_keep": int(last_only)}
    taken = inspect.signature(model.network.forward).parameters
    options = {name: value for name, value in offered.items() if name in taken}
    output = model.network(input_ids=ids, past_key_values=cache, use_cache=True, **options)
    logits: torch.Tensor = output.logits
    return logits
