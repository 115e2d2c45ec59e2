"""The caches of transformers: rows picked and joined, columns trimmed, and layers that grow in place.

A cache holds keys and values for tokens, [rows, heads, columns, dimensions], and recurrent layers a state for each row.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cuvee.errors import MissingExtra
from cuvee.versions import unknown_version

try:
    import torch
    from transformers.cache_utils import DynamicLayer
except ModuleNotFoundError as error:
    if error.name in ("torch", "transformers"):
        raise MissingExtra("eval", missing=error.name) from error
    raise unknown_version("transformers", f"{type(error).__name__}: {error}") from error

SLACK = 64
"""Columns that are set aside for tokens to come."""


@dataclass
class Room:
    """A tensor with more columns than are in use."""

    tensor: torch.Tensor

    def holds(self, held: torch.Tensor, columns: int) -> bool:
        """Whether `held` are the first columns of this room, and it has `columns` in all."""
        same = self.tensor.data_ptr() == held.data_ptr() and self.tensor.shape[:2] == held.shape[:2]
        return same and self.tensor.shape[2] >= columns

    @staticmethod
    def of(tensors: list[torch.Tensor], columns: int, slack: int = SLACK) -> "Room":
        """Set aside room for the rows of tensors, whose columns stand at the end of the first `columns`."""
        shapes = [tensor.shape for tensor in tensors]
        rows = sum(shape[0] for shape in shapes)
        room = tensors[0].new_empty(rows, shapes[0][1], columns + slack, shapes[0][3])
        first = 0
        for tensor in tensors:
            target = room[first : first + tensor.shape[0], :, :columns]
            padding = columns - tensor.shape[2]
            target[:, :, :padding] = 0
            target[:, :, padding:] = tensor
            first += tensor.shape[0]
        return Room(room)


class GrowingLayer(DynamicLayer):  # type: ignore[misc]  # transformers is not typed
    """Keys and values that are written behind those before. A layer of transformers copies all of them each time."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: Any = None
        self.values: Any = None
        self._rooms: dict[str, Room] = {}

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **keywords: Any) -> Any:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys = self._appended("keys", self.keys, key_states)
        self.values = self._appended("values", self.values, value_states)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        self._rooms = {}
        super().reorder_cache(beam_idx)

    def hold(self, name: str, tensors: list[torch.Tensor], columns: int) -> torch.Tensor:
        """Set aside room for the rows of tensors, and return the columns in use."""
        self._rooms[name] = Room.of(tensors, columns)
        return self._rooms[name].tensor[:, :, :columns]

    def _appended(self, name: str, held: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        if not held.numel():
            return new.contiguous()
        before, after = held.shape[2], held.shape[2] + new.shape[2]
        if name not in self._rooms or not self._rooms[name].holds(held, after):
            self._rooms[name] = Room.of([held], before, slack=max(SLACK, new.shape[2]))
        room = self._rooms[name].tensor
        room[:, :, before:after] = new
        return room[:, :, :after]


def growing(cache: Any) -> Any:
    """Let the layers of a new cache that keep every token grow in place."""
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def select_rows(cache: Any, rows: torch.Tensor) -> Any:
    """Return a cache of some rows, each perhaps more than once. The original stays as it is.

    `reorder_cache` does it for every kind of layer; `batch_select_indices` raises for recurrent layers after it has
    changed the layers before them.
    """
    picked = _copied(cache)
    picked.reorder_cache(rows)
    return picked


def _copied(value: Any) -> Any:
    """Copy a cache with its layers and lists; the tensors stay shared, for `reorder_cache` makes new tensors."""
    if isinstance(value, list):
        return [_copied(item) for item in value]
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if _is_of_cache(value):
        new = copy.copy(value)
        for name, attribute in vars(value).items():
            setattr(new, name, _copied(attribute))
        return new
    return value


def held_bytes(cache: Any) -> int:
    """Return the size of all tensors in a cache. An empty cache may hold some: the length of a window, for example."""
    return sum(tensor.nbytes for _, tensor in _tensors("", cache))


def attends_only(cache: Any, tokens: int) -> bool:
    """Whether a cache that was filled with one row of `tokens` holds nothing but keys and values for each of them."""
    shaped = [(name, tensor) for name, tensor in _tensors("", cache) if tensor.dim()]
    return all(name in ("keys", "values") and tensor.shape[-2] == tokens for name, tensor in shaped)


def _tensors(name: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Give each tensor that a cache holds, with the name of the attribute that holds it."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(name, item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(name, item)
    elif _is_of_cache(value):
        for attribute, item in vars(value).items():
            yield from _tensors(attribute, item)


def _is_of_cache(value: Any) -> bool:
    kinds = type(value).__mro__
    return any(kind.__module__.startswith("transformers.") for kind in kinds) and hasattr(value, "__dict__")


WHOLE = {"GrowingLayer", "DynamicLayer", "LinearAttentionAndFullAttentionLayer"}
SLIDING = {"DynamicSlidingWindowLayer", "LinearAttentionAndSlidingWindowAttentionLayer"}
STATES = {
    "LinearAttentionLayer", "LinearAttentionAndFullAttentionLayer", "LinearAttentionAndSlidingWindowAttentionLayer",
}  # fmt: skip
"""Kinds of layers by name, for not every release of transformers has all of them: those that keep the columns of all
tokens or of a window, and those that have a state for each row."""

KNOWN = WHOLE | SLIDING | STATES | {"DummyLayer"}


def join_rows(one: Any, other: Any, columns: int) -> Any:
    """Return a cache with the rows of both, those with fewer columns than `columns` padded on the left.

    Raises TypeError for a layer of a kind that is not known here.
    """
    joined = _copied(one)
    for layer, more in zip(joined.layers, other.layers, strict=True):
        _check_known(layer)
        if _kind(layer) in STATES:
            _join_states(layer, more)
        if _has_columns(layer):
            _join_columns(layer, more, columns)
    return joined


def trim_columns(cache: Any, columns: int) -> Any:
    """Return a cache without so many columns on the left. Raises TypeError as `join_rows` does."""
    trimmed = _copied(cache)
    for layer in trimmed.layers:
        _check_known(layer)
        if not _has_columns(layer):
            continue
        length = layer.get_seq_length() - columns
        if _kind(layer) in SLIDING:
            layer.cumulative_length = length
            length = min(length, layer.sliding_window - 1)
        layer.keys, layer.values = layer.keys[:, :, -length:], layer.values[:, :, -length:]
    return trimmed


def _check_known(layer: Any) -> None:
    if _kind(layer) not in KNOWN:
        raise TypeError(f"rows of a {_kind(layer)} cannot be joined")


def _kind(layer: Any) -> str:
    return type(layer).__name__


def _has_columns(layer: Any) -> bool:
    """Whether a layer holds keys and values. A layer that borrows them from another is never filled."""
    if _kind(layer) not in WHOLE | SLIDING:
        return False
    return isinstance(layer.keys, torch.Tensor) and layer.keys.numel() > 0


def _join_states(layer: Any, more: Any) -> None:
    for name in ("conv_states", "recurrent_states"):
        states, others = getattr(layer, name), getattr(more, name)
        for key, state in states.items():
            if isinstance(state, torch.Tensor):
                states[key] = torch.cat([state, others[key]])


def _join_columns(layer: Any, more: Any, columns: int) -> None:
    if _kind(layer) in SLIDING:
        layer.cumulative_length = columns
        columns = min(columns, layer.sliding_window - 1)
    for name in ("keys", "values"):
        tensors = [getattr(layer, name), getattr(more, name)]
        if isinstance(layer, GrowingLayer):
            joined = layer.hold(name, tensors, columns)
        else:
            joined = torch.cat([_padded(tensor, columns) for tensor in tensors])
        setattr(layer, name, joined)


def _padded(tensor: torch.Tensor, columns: int) -> torch.Tensor:
    return torch.nn.functional.pad(tensor, (0, 0, columns - tensor.shape[2], 0))
