"""Faults planted into networks, for which a fast way gives other answers than the plain one."""

from collections.abc import Callable
from typing import Any

Plant = Callable[[Any], None]


def ignore_mask(network: Any) -> None:
    """Let one layer of three see everything before a token, whatever the mask says."""

    def drop(module: Any, positional: Any, keywords: dict[str, Any]) -> Any:
        return positional, keywords | {"attention_mask": None}

    network.model.layers[1].self_attn.register_forward_pre_hook(drop, with_kwargs=True)


def lose_first_token(network: Any) -> None:
    """Let one layer of three forget the first token once it is in the cache."""

    def crop(module: Any, positional: Any, keywords: dict[str, Any]) -> None:
        cache = keywords.get("past_key_values", keywords.get("cache"))
        if cache is not None and cache.get_seq_length(1) > 1:
            cache.layers[1].keys[:, :, 0] = 0

    network.model.layers[1].self_attn.register_forward_pre_hook(crop, with_kwargs=True)


def count_positions_by_place(network: Any) -> None:
    """Let positions be the places in the row, whatever is told of them."""

    def forget(module: Any, positional: Any, keywords: dict[str, Any]) -> Any:
        return positional, keywords | {"position_ids": None}

    network.register_forward_pre_hook(forget, with_kwargs=True)


def swallow_cache(network: Any) -> None:
    """Take every name for a cache and use none."""

    def drop(module: Any, positional: Any, keywords: dict[str, Any]) -> Any:
        return positional, {
            name: value for name, value in keywords.items() if "cache" not in name and "past" not in name
        }

    network.register_forward_pre_hook(drop, with_kwargs=True)
