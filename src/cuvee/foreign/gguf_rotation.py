"""Rotary embeddings as transformers' configs and as GGUF files say them: bases, and how positions are scaled.

llama.cpp computes linear scaling and YaRN from keys, and Llama 3's from the tensor `rope_freqs.weight`, by whose
numbers it divides the frequencies. The keys were tried with llama.cpp b11549; the formulas of transformers are those
of `modeling_rope_utils.py`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cuvee.errors import CheckpointError
from cuvee.foreign.gguf_names import Family

FACTORS = "rope_freqs.weight"

LOCAL_BASE = 10000.0
"""By which every llama.cpp turns the layers of Gemma 3 that have a window."""

FULL, WINDOW = "full_attention", "sliding_attention"

_ORIGINAL = "original_max_position_embeddings"
_TYPES = ("rope_type", "type")
_KEYS: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": (
        "factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale",
        "mscale_all_dim", "truncate",
    ),
}  # fmt: skip
_YARN_AS_LLAMA_CPP_HAS_IT = {"beta_fast": 32, "beta_slow": 1, "truncate": True}

_ROUNDED = (
    "llama.cpp rounds the bounds of YaRN to whole numbers, and config.json says not to ('truncate'): in every file of "
    "this type, its own converter's among them, positions are turned by other angles"
)

_LLAMA_3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
"""What all models of Meta's have. A file has the factors alone, which do not say it."""

_CONTEXTS = tuple(1 << power for power in range(6, 21))


@dataclass(frozen=True)
class Rotation:
    """GGUF's keys, without the name of the architecture, and the numbers that divide the frequencies if any do.

    `note` is for the reader of the file.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    factors: np.ndarray | None = None
    note: str | None = None


def rotation_to_gguf(config: Mapping[str, Any], known: Family, defaults: Mapping[str, Any], where: str) -> Rotation:
    """Return how a GGUF file says the rotary embedding of a config that has `head_dim`.

    `defaults` has the bases where the config has none. Raises CheckpointError for settings that llama.cpp lacks.
    """
    written = config.get("rope_scaling") or config.get("rope_parameters") or {}
    bases = dict(defaults)
    for key in defaults:
        if config.get(key):
            bases[key] = config[key]
    if "rope_local_base_freq" in defaults:
        return _by_kind_of_layer(config, known, bases, where)
    has_kinds = any(isinstance(value, Mapping) for value in written.values())
    if has_kinds:
        message = f"config.json: the rotary embedding differs by kind of layer, which no {known.key} file can say"
        raise CheckpointError(message, where=where)
    return _rotation({"rope_theta": bases["rope_theta"], **written}, config, known, where)


def _by_kind_of_layer(config: Mapping[str, Any], known: Family, bases: Mapping[str, Any], where: str) -> Rotation:
    nested = config.get("rope_parameters") or {}
    strays = [key for key in nested if key not in (FULL, WINDOW)]
    if strays:
        raise CheckpointError(f"config.json: 'rope_parameters' has '{strays[0]}', not kinds of layers", where=where)
    full = {**(nested.get(FULL) or {}), **(config.get("rope_scaling") or {})}
    window = nested.get(WINDOW) or {}
    if _kind(window) != "default":
        message = f"config.json: the layers with a window have a rotary embedding of the kind '{_kind(window)}'"
        hint = f"llama.cpp scales the positions of the other layers of {known.key} alone"
        raise CheckpointError(message, where=where, hint=hint)
    rotation = _rotation({"rope_theta": bases["rope_theta"], **full}, config, known, where)
    local = _rotation({"rope_theta": bases["rope_local_base_freq"], **window}, config, known, where)
    base = local.settings["rope.freq_base"]
    if base != LOCAL_BASE:
        message = f"config.json: the layers with a window are turned by the base {base:g}, not {LOCAL_BASE:g}"
        hint = "only newer releases of llama.cpp read another one from a file; older ones would compute another model"
        raise CheckpointError(message, where=where, hint=hint)
    return Rotation({**rotation.settings, "rope.freq_base_swa": base}, rotation.factors)


def _kind(written: Mapping[str, Any]) -> str:
    return str(written.get("rope_type") or written.get("type") or "default")


def _rotation(written: Mapping[str, Any], config: Mapping[str, Any], known: Family, where: str) -> Rotation:
    kind = _kind(written)
    if kind != "default" and kind not in known.scalings:
        can = ", ".join(("default", *known.scalings))
        message = (
            f"config.json: a rotary embedding of the kind '{kind}' has no form in a GGUF file of the type '{known.key}'"
        )
        raise CheckpointError(message, where=where, hint=f"llama.cpp computes there: {can}")
    is_rounded = known.rounds_yarn and kind == "yarn" and written.get("truncate") is False
    _check_keys({**written, "truncate": True} if is_rounded else written, kind, where)
    base = {"rope.freq_base": _number(written, "rope_theta", where)}
    if kind == "linear":
        factor = _number(written, "factor", where)
        return Rotation({**base, "rope.scaling.type": "linear", "rope.scaling.factor": factor})
    if kind == "yarn":
        return Rotation(base | _yarn(written, config, where), note=_ROUNDED if is_rounded else None)
    if kind == "llama3":
        values = {key: _number(written, key, where) for key in ("rope_theta", *_KEYS["llama3"])}
        return Rotation(base, llama3_factors(values, config["head_dim"]))
    return Rotation(base)


def _check_keys(written: Mapping[str, Any], kind: str, where: str) -> None:
    for key, value in written.items():
        if key in (*_TYPES, "rope_theta", *_KEYS[kind]) or value is None:
            continue
        if key == "partial_rotary_factor" and value == 1:
            continue
        message = f"config.json: the rotary embedding has '{key}' ({value!r}), which is not known for the kind '{kind}'"
        raise CheckpointError(message, where=where, hint="llama.cpp would compute it without")
    for key, value in _YARN_AS_LLAMA_CPP_HAS_IT.items():
        if key in _KEYS[kind] and written.get(key) not in (None, value):
            message = f"config.json: YaRN's '{key}' is {written[key]!r}, and llama.cpp computes with {value!r}"
            raise CheckpointError(message, where=where)


def _number(written: Mapping[str, Any], key: str, where: str) -> float:
    value = written.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        message = f"config.json: the rotary embedding's '{key}' is {value!r}; expected a positive number"
        raise CheckpointError(message, where=where)
    return float(value)


def _yarn(written: Mapping[str, Any], config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """llama.cpp turns by 0.1 ln(factor) + 1 itself; `attn_factor` is what else the cosines are multiplied by."""
    factor = _number(written, "factor", where)
    contexts = (config.get(_ORIGINAL), written.get(_ORIGINAL), config.get("max_position_embeddings"))
    context = next(filter(None, contexts), contexts[-1])
    settings = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": factor,
        "rope.scaling.original_context_length": int(_number({_ORIGINAL: context}, _ORIGINAL, where)),
    }
    wanted = written.get("attention_factor")
    if wanted is None and written.get("mscale") and written.get("mscale_all_dim"):
        wanted = _magnitude(factor, written["mscale"]) / _magnitude(factor, written["mscale_all_dim"])
    if wanted is not None:
        settings["rope.scaling.attn_factor"] = float(wanted) / _magnitude(factor)
    return settings


def _magnitude(factor: float, scale: float = 1.0) -> float:
    return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0


def llama3_factors(written: Mapping[str, float], head_dim: int) -> np.ndarray:
    """Return the numbers by which Llama 3's scaling divides each frequency: 1 for short waves, `factor` for long."""
    frequencies = written["rope_theta"] ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    turns = written["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    low, high = written["low_freq_factor"], written["high_freq_factor"]
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / written["factor"] + smooth)).astype(np.float32)


def rotation_from_gguf(
    settings: Mapping[str, Any], factors: np.ndarray | None, known: Family, head_dim: int, where: str
) -> dict[str, Any]:
    """Return transformers' `rope_parameters` for the settings of a GGUF file, given without the architecture's name.

    Raises CheckpointError for settings that transformers' models of the family cannot compute.
    """
    base = float(settings.get("rope.freq_base", 10000.0))
    full = _scaling_from_gguf(settings, factors, base, head_dim, where)
    if full["rope_type"] != "default" and full["rope_type"] not in known.scalings:
        message = f"scales positions by '{full['rope_type']}', which is not known for {known.model_type} models"
        raise CheckpointError(message, where=where)
    if not known.local_rotation:
        return full
    local = {"rope_type": "default", "rope_theta": float(settings.get("rope.freq_base_swa", LOCAL_BASE))}
    return {FULL: full, WINDOW: local}


def _scaling_from_gguf(
    settings: Mapping[str, Any], factors: np.ndarray | None, base: float, head_dim: int, where: str
) -> dict[str, Any]:
    usual = "linear" if "rope.scale_linear" in settings else "none"
    kind = settings.get("rope.scaling.type") or usual
    factor = float(settings.get("rope.scaling.factor", settings.get("rope.scale_linear", 0.0)))
    default = {"rope_type": "default", "rope_theta": base}
    if factors is not None:
        if kind not in ("none", "linear") or factor not in (0.0, 1.0):
            raise CheckpointError(f"scales positions by '{FACTORS}' and by '{kind}' at once", where=where)
        return _llama3_from_factors(factors, base, head_dim, where)
    if kind != "yarn" and settings.get("rope.scaling.attn_factor", 1.0) != 1.0:
        raise CheckpointError(f"multiplies rotated vectors with a scaling of the kind '{kind}'", where=where)
    if kind == "none":
        return default
    if kind == "linear":
        scales_nothing = factor in (0.0, 1.0)
        return default if scales_nothing else {**default, "rope_type": "linear", "factor": factor}
    if kind == "yarn":
        return {**default, **_yarn_from_gguf(settings, factor, where)}
    raise CheckpointError(f"scales positions by '{kind}', which is not known here", where=where)


def _yarn_from_gguf(settings: Mapping[str, Any], factor: float, where: str) -> dict[str, Any]:
    original = settings.get("rope.scaling.original_context_length", settings.get("context_length"))
    if factor <= 0 or type(original) is not int:
        raise CheckpointError("scales positions by YaRN, but does not say how far", where=where)
    parameters: dict[str, Any] = {
        "rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original,
    }  # fmt: skip
    if "rope.scaling.attn_factor" in settings:
        parameters["attention_factor"] = float(settings["rope.scaling.attn_factor"]) * _magnitude(factor)
    return parameters


def _llama3_from_factors(factors: np.ndarray, base: float, head_dim: int, where: str) -> dict[str, Any]:
    """Find the context that these factors were made for. Nothing else of Llama 3's scaling differs between models."""
    factor = float(factors.max())
    for context in _CONTEXTS:
        values = {"rope_theta": base, "factor": factor, **_LLAMA_3, "original_max_position_embeddings": context}
        if len(factors) * 2 == head_dim and np.allclose(llama3_factors(values, head_dim), factors, rtol=1e-3):
            return {"rope_type": "llama3", **values}
    message = f"the numbers of '{FACTORS}' are no scaling that is known here"
    raise CheckpointError(message, where=where, hint="use the model's safetensors files")
