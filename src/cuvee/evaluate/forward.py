"""Forward passes over rows of different length, with keys and values kept.

Rows are padded on the left, so that the distance between two tokens is the same in every batch: models whose attention
looks back over a window then see the same tokens whatever the padding. What all rows begin with can be read once, for
all batches; the padding then stands behind it.

An encoder-decoder model reads rows with its encoder, padded on the right, and starts its decoder; what is read on goes
to the decoder.
"""

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from cuvee.evaluate.model import LanguageModel

KEPT_BYTES = 512 * 2**20
LOGITS_AT_ONCE = 64 * 2**20
MIN_TOKENS, MAX_TOKENS = 512, 16384
CPU_WORK = 500 * 10**9  # parameters times tokens: measured with 135 million, where 4 items at once beat 15 by half


@dataclass(frozen=True)
class Encoded:
    """What the encoder made of each row, and which of it are tokens."""

    hidden: torch.Tensor
    mask: torch.Tensor


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
    encoded: Encoded | None = None

    def select(self, rows: torch.Tensor) -> "Seen":
        """Pick rows, some perhaps more than once. The original stays as it is."""
        cache = _copied(self.cache)
        cache.batch_select_indices(rows)
        mask = None if self.mask is None else self.mask[rows]
        encoded = self.encoded and Encoded(self.encoded.hidden[rows], self.encoded.mask[rows])
        return Seen(cache, mask, self.lengths[rows], self.width, self.logits[rows], encoded)


def token_budget(model: LanguageModel, cpu_work: int = CPU_WORK) -> int:
    """How many padded tokens a batch may have: their keys and values stay within half a gigabyte.

    A CPU is busy with a few hundred tokens of a large model, `cpu_work` parameters times tokens; more rows would only
    bring more padding.
    """
    config = model.network.config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kept: int = 2 * config.num_hidden_layers * heads * head_size * model.network.dtype.itemsize
    busy = cpu_work // model.network.num_parameters() if model.device.type == "cpu" else MAX_TOKENS
    return max(MIN_TOKENS, min(MAX_TOKENS, KEPT_BYTES // kept, busy))


def can_share(model: LanguageModel) -> bool:
    """Whether rows may stand apart from what they all begin with: positions must be told, and attention see all."""
    if model.encoder_decoder or "position_ids" not in inspect.signature(model.network.forward).parameters:
        return False
    return not any(DynamicCache(config=model.network.config).is_sliding)


@torch.inference_mode()
def read(model: LanguageModel, rows: Sequence[Sequence[int]], after: Seen | None = None) -> Seen:
    """Show each row to the model from its start, or after the one row that was seen for all of them."""
    if model.encoder_decoder:
        return _encode(model, rows)
    start = 0 if after is None else after.width
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows], device=model.device)
    lengths = torch.tensor([len(row) for row in rows], device=model.device)
    columns = torch.arange(width, device=model.device) - (width - lengths)[:, None]
    mask = None if min(map(len, rows)) == width else (columns >= 0).long()
    if mask is not None and start:
        mask = torch.nn.functional.pad(mask, (start, 0), value=1)
    cache = _begun(model, len(rows), after)
    logits = _forward(model, ids, cache, mask, start + columns.clamp(min=0), keep=1)
    return Seen(cache, mask, start + lengths, start + width, logits[:, -1].float())


@torch.inference_mode()
def read_on(model: LanguageModel, seen: Seen, ids: torch.Tensor, *, last_only: bool) -> tuple[torch.Tensor, Seen]:
    """Show more tokens, [rows, n], and return their logits and what has been seen then.

    Uses `seen` up: its keys and values grow. Rows may be padded on the right if nothing is read after them.
    """
    if seen.encoded is not None:
        return _decode(model, seen, seen.encoded, ids)
    count = ids.shape[1]
    positions = seen.lengths[:, None] + torch.arange(count, device=model.device)
    mask = seen.mask if seen.mask is None else torch.nn.functional.pad(seen.mask, (0, count), value=1)
    # Padding may run past the last position that the model has an embedding for; nobody looks there.
    logits = _forward(model, ids, seen.cache, mask, positions.clamp(max=model.context_length - 1), keep=int(last_only))
    return logits, Seen(seen.cache, mask, seen.lengths + count, seen.width + count, logits[:, -1].float())


@torch.inference_mode()
def read_branches(
    model: LanguageModel,
    ids: torch.Tensor,
    positions: torch.Tensor,
    mask: torch.Tensor | None,
    after: Seen | None,
    *,
    keep: int,
) -> torch.Tensor:
    """Show rows of ids to the model at positions of their own, [rows, n], and return the logits of the last `keep`.

    `mask`, [rows, 1, n, what was seen + n], is added to the attention.
    """
    return _forward(model, ids, _begun(model, len(ids), after), mask, positions, keep=keep)[:, -keep:]


def _begun(model: LanguageModel, rows: int, after: Seen | None) -> Any:
    """Return a cache for so many rows, empty or with what the one row before them left."""
    if after is None:
        return DynamicCache(config=model.network.config)
    return after.select(torch.zeros(rows, dtype=torch.long, device=model.device)).cache


def _forward(
    model: LanguageModel,
    ids: torch.Tensor,
    cache: Any,
    mask: torch.Tensor | None,
    positions: torch.Tensor,
    *,
    keep: int,
) -> torch.Tensor:
    offered = {"attention_mask": mask, "position_ids": positions, "logits_to_keep": keep}
    return _logits(model, {"input_ids": ids, "past_key_values": cache}, offered)


def _encode(model: LanguageModel, rows: Sequence[Sequence[int]]) -> Seen:
    width = max(map(len, rows))
    ids = torch.tensor([list(row) + [0] * (width - len(row)) for row in rows], device=model.device)
    lengths = torch.tensor([len(row) for row in rows], device=model.device)
    mask = (torch.arange(width, device=model.device) < lengths[:, None]).long()
    hidden = model.network.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    nothing = Seen(cache, None, torch.zeros_like(lengths), 0, hidden[:, 0])
    start = torch.full((len(rows), 1), model.start_token, device=model.device)
    return _decode(model, nothing, Encoded(hidden, mask), start)[1]


def _decode(model: LanguageModel, seen: Seen, encoded: Encoded, ids: torch.Tensor) -> tuple[torch.Tensor, Seen]:
    given = {
        "encoder_outputs": BaseModelOutput(last_hidden_state=encoded.hidden),
        "attention_mask": encoded.mask,
        "decoder_input_ids": ids,
        "past_key_values": seen.cache,
    }
    logits = _logits(model, given, {})
    count = ids.shape[1]
    return logits, Seen(seen.cache, None, seen.lengths + count, seen.width + count, logits[:, -1].float(), encoded)


def _logits(model: LanguageModel, given: Mapping[str, Any], offered: Mapping[str, Any]) -> torch.Tensor:
    taken = inspect.signature(model.network.forward).parameters
    options = {name: value for name, value in offered.items() if name in taken}
    logits: torch.Tensor = model.network(**given, use_cache=True, **options).logits
    return logits


def _copied(cache: Any) -> Any:
    """Copy a cache as far as picking rows changes it; the tensors stay shared."""
    new = copy.copy(cache)
    if isinstance(cache, EncoderDecoderCache):
        new.self_attention_cache = _copied(cache.self_attention_cache)
        new.cross_attention_cache = _copied(cache.cross_attention_cache)
        new.is_updated = dict(cache.is_updated)
    else:
        new.layers = [copy.copy(layer) for layer in cache.layers]
    return new
