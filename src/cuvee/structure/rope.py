"""Rotary positions as a config.json says them, in the spelling of transformers 5 or an older one."""

from collections.abc import Mapping
from typing import Any

_THETA = ("rope_theta", "rotary_emb_base", "rope_base")
_PARTIAL = ("partial_rotary_factor", "rotary_pct")
_SAME = {"su": "longrope", "mrope": "default", "none": "default"}
"""Older words for kinds of scaling, and those that scale nothing."""

_USUAL = {"beta_fast": 32, "beta_slow": 1, "truncate": True}
"""What YaRN takes for settings that are left out (modeling_rope_utils.py, _compute_yarn_parameters)."""

_STARTS_FROM = ("llama3", "yarn", "longrope")
"""Kinds of scaling that depend on the length that the model was first trained for."""

_BY_KIND = {
    "sliding_attention": ("rope_local_base_freq", "local_rope_theta"),
    "full_attention": ("global_rope_theta",),
}
"""Older keys for a base of one kind of layers (configuration_gemma3.py, configuration_modernbert.py)."""

KEYS = ("rope_parameters", "rope_scaling", *_THETA, *_PARTIAL, *(key for keys in _BY_KIND.values() for key in keys))
"""Keys of a config that `rope_settings` reads."""


def rope_settings(config: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return `rope_theta`, `rope_scaling` and `partial_rotary_factor`, as far as they are stated or usual.

    Where kinds of layers have their own, the kind stands before the key: `sliding_attention.rope_theta`.
    `usual` is the `rope_parameters` that the family takes where nothing is stated.
    """
    written = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(written, Mapping):
        return {"rope_scaling": written}
    nested, usual_nested = _nested(written), _nested(usual)
    kinds = dict.fromkeys([*nested, *usual_nested, *(_BY_KIND if _states_a_kind(config) else ())])
    if not kinds:
        return _settings(written, config, usual)
    settings: dict[str, Any] = {}
    for kind in kinds:
        own = _own(kind, written, nested, config, usual_nested)
        for key, value in _settings(own, config, usual_nested.get(kind, usual)).items():
            settings[f"{kind}.{key}"] = value
    return settings


def spread(settings: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of all layers as those of each kind, where others that they are compared with are by kind."""
    kinds = dict.fromkeys(key.partition(".")[0] for key in like if "." in key)
    if not kinds or any("." in key for key in settings):
        return dict(settings)
    return {f"{kind}.{key}": value for kind in kinds for key, value in settings.items()}


def _nested(written: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {kind: own for kind, own in written.items() if isinstance(own, Mapping)}


def _states_a_kind(config: Mapping[str, Any]) -> bool:
    return any(config.get(key) is not None for keys in _BY_KIND.values() for key in keys)


def _own(
    kind: str,
    written: Mapping[str, Any],
    nested: Mapping[str, Mapping[str, Any]],
    config: Mapping[str, Any],
    usual: Mapping[str, Mapping[str, Any]],
) -> Mapping[str, Any]:
    """Return what one kind of layers has. A base or a scaling for all is that of the layers that see everything."""
    if nested:
        return nested.get(kind, {})
    theta = _first(_BY_KIND.get(kind, ()), config)
    if theta is not None:
        return {**(written if kind == "full_attention" else {}), "rope_theta": theta}
    if kind == "full_attention":
        return written
    bases = {own.get("rope_theta") for own in usual.values()}
    # Where kinds have bases of their own, the one base of an older config is not meant for these layers.
    return {"rope_theta": usual[kind].get("rope_theta")} if len(bases) > 1 and kind in usual else {}


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
    word = str(written.get("rope_type") or written.get("type") or "default")
    kind = _SAME.get(word, word)
    settings = {key: value for key, value in written.items() if _says_more(key, value)}
    if kind == "linear" and settings.get("factor") == 1:
        kind = "default"
    if kind == "default":
        sections = {key: value for key, value in settings.items() if key.startswith("mrope")}
        return {"type": kind, **sections} if sections else None
    if kind in _STARTS_FROM:
        start = _first(("original_max_position_embeddings",), config, settings, {})
        start = start if start is not None else config.get("max_position_embeddings")
        settings["original_max_position_embeddings"] = start
        longest = config.get("max_position_embeddings")
        if start and longest:
            settings.setdefault("factor", longest / start)
    if kind == "dynamic":
        settings["max_position_embeddings"] = config.get("max_position_embeddings")
    return {"type": kind, **settings}


def _says_more(key: str, value: Any) -> bool:
    if key in ("rope_type", "type", *_THETA, *_PARTIAL) or value is None:
        return False
    return not isinstance(value, Mapping) and (key not in _USUAL or _USUAL[key] != value)


def _first(keys: tuple[str, ...], *mappings: Mapping[str, Any]) -> Any:
    """Return the first value that one of the keys has in the first mapping that has any."""
    for mapping in mappings:
        for key in keys:
            if mapping.get(key) is not None:
                return mapping[key]
    return None
