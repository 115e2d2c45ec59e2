"""Rotary positions as a config.json says them, in the spelling of transformers 5 or an older spelling."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

_THETA = ("rope_theta", "rotary_emb_base", "rope_base")
_PARTIAL = ("partial_rotary_factor", "rotary_pct")
_SAME = {"su": "longrope", "mrope": "default", "none": "default"}
"""Older words for kinds of scaling, and those that scale nothing."""

_USUAL = {"beta_fast": 32, "beta_slow": 1, "truncate": True}
"""The settings that YaRN takes where they are left out (modeling_rope_utils.py, _compute_yarn_parameters)."""

_STARTS_FROM = ("llama3", "yarn", "longrope")
"""Kinds of scaling that depend on the length that the model was first trained for."""

_BY_KIND = {
    "sliding_attention": ("rope_local_base_freq", "local_rope_theta"),
    "full_attention": ("global_rope_theta",),
}
"""Older keys for the base of a kind of layers (configuration_gemma3.py, configuration_modernbert.py)."""

_KIND_KEYS = tuple(chain.from_iterable(_BY_KIND.values()))
_START = "original_max_position_embeddings"

KEYS = ("rope_parameters", "rope_scaling", *_THETA, *_PARTIAL, *_KIND_KEYS)
"""Keys of a config that `rope_settings` reads."""


def rope_settings(config: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return `rope_theta`, `rope_scaling` and `partial_rotary_factor`, as far as they are stated or usual.

    Where kinds of layers have their own, the kind stands before the key: `sliding_attention.rope_theta`.
    `usual` is the `rope_parameters` that the family takes where nothing is stated.
    """
    written = _first_set(config, "rope_parameters", "rope_scaling") or {}
    if not isinstance(written, Mapping):
        return {"rope_scaling": written}
    nested, usual_nested = _nested(written), _nested(usual)
    kinds = dict.fromkeys([*nested, *usual_nested])
    if _states_a_kind(config):
        kinds |= dict.fromkeys(_BY_KIND)
    if not kinds:
        return _settings(written, config, usual)
    settings: dict[str, Any] = {}
    for kind in kinds:
        own = _own(kind, written, nested, config, usual_nested)
        for key, value in _settings(own, config, usual_nested.get(kind, usual)).items():
            settings[f"{kind}.{key}"] = value
    return settings


def spread(settings: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of all layers as settings of each kind where the settings `like` are by kind."""
    kinds = _kinds(like)
    if not kinds or _kinds(settings):
        return dict(settings)
    by_kind = {}
    for kind in kinds:
        for key, value in settings.items():
            by_kind[f"{kind}.{key}"] = value
    return by_kind


def _kinds(settings: Mapping[str, Any]) -> list[str]:
    """List the kinds of layers that settings are by."""
    heads = [key.partition(".")[0] for key in settings if "." in key]
    return list(dict.fromkeys(heads))


def _first_set(settings: Mapping[str, Any], *keys: str) -> Any:
    """Return the value of the first key that is neither missing nor empty."""
    return next(filter(None, map(settings.get, keys)), None)


def _nested(written: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {kind: own for kind, own in written.items() if isinstance(own, Mapping)}


def _states_a_kind(config: Mapping[str, Any]) -> bool:
    return _first(_KIND_KEYS, config) is not None


def _own(
    kind: str,
    written: Mapping[str, Any],
    nested: Mapping[str, Mapping[str, Any]],
    config: Mapping[str, Any],
    usual: Mapping[str, Mapping[str, Any]],
) -> Mapping[str, Any]:
    """Return the settings of a kind of layers. A base or scaling for all belongs to the layers that see everything."""
    if nested:
        return nested.get(kind, {})
    sees_everything = kind == "full_attention"
    own = dict(written) if sees_everything else {}
    theta = _first(_BY_KIND.get(kind, ()), config)
    if theta is not None:
        return {**own, "rope_theta": theta}
    if sees_everything:
        return own
    # Where kinds have bases of their own, the single base of an older config is not meant for these layers.
    bases = {settings.get("rope_theta") for settings in usual.values()}
    if kind in usual and len(bases) > 1:
        return {"rope_theta": usual[kind].get("rope_theta")}
    return {}


def _settings(written: Mapping[str, Any], config: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    settings = {
        "rope_theta": _first(_THETA, written, config, usual),
        "partial_rotary_factor": _first(_PARTIAL, written, config, usual),
        "rope_scaling": _scaling(written or usual, config),
    }
    if settings["partial_rotary_factor"] == 1:
        settings["partial_rotary_factor"] = None
    return {key: value for key, value in settings.items() if value is not None}


def _scaling(written: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any] | None:
    word = str(_first_set(written, "rope_type", "type") or "default")
    kind = _SAME.get(word, word)
    settings = {key: value for key, value in written.items() if _says_more(key, value)}
    if kind == "linear" and settings.get("factor") == 1:
        kind = "default"
    if kind == "default":
        sections = {key: value for key, value in settings.items() if key.startswith("mrope")}
        return {"type": kind, **sections} if sections else None
    if kind in _STARTS_FROM:
        settings |= _start(config, settings)
    if kind == "dynamic":
        settings["max_position_embeddings"] = config.get("max_position_embeddings")
    return {"type": kind, **settings}


def _start(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the length that a model was first trained for, and the factor that follows from it."""
    longest = config.get("max_position_embeddings")
    start = _first((_START,), config, settings)
    if start is None:
        start = longest
    if not start or not longest:
        return {_START: start}
    return {_START: start, "factor": settings.get("factor", longest / start)}


def _says_more(key: str, value: Any) -> bool:
    """Say whether an entry decides anything besides the kind and base: it is neither nested nor usual."""
    if value is None or isinstance(value, Mapping):
        return False
    is_kind_or_base = key in ("rope_type", "type", *_THETA, *_PARTIAL)
    is_usual = key in _USUAL and _USUAL[key] == value
    return not is_kind_or_base and not is_usual


def _first(keys: tuple[str, ...], *mappings: Mapping[str, Any]) -> Any:
    """Return the first value of the keys in the first mapping that has any of them."""
    for mapping in mappings:
        for key in keys:
            if mapping.get(key) is not None:
                return mapping[key]
    return None
