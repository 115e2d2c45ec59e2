"""FRoD: U (S + Λ) Vᵀ in the place of W: V is shared by modules of a name, and U is W V⁻ᵀ with columns of length 1.

As in PEFT 0.21.2, tuners/frod/layer.py, with V as the adapter stores it. PEFT loads that, too, but computes U from one
that it decomposes anew: the two agree where the same library has done so.
"""

from collections.abc import Collection, Mapping

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings, unused

SHARED = ("frod_V", "frod_s_indices", "frod_s_size")
NOTHING = 1e-12


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    basis, (rows, columns) = parts["frod_V"], parts["frod_s_indices"]
    size, values = weight.shape[1], parts["frod_lambda_s_values"]
    if basis.shape != (size, size) or len(rows) != len(values):
        raise ValueError(f"V of shape {list(basis.shape)} and {len(rows)} places of {len(values)} for {size} inputs")
    left = _left(weight, basis)
    middle = np.diag(parts["frod_lambda_l"])
    np.add.at(middle, (rows, columns), values)
    return np.asarray(left @ middle @ basis.T)


def _left(weight: np.ndarray, basis: np.ndarray) -> np.ndarray:
    try:
        mixed = np.linalg.solve(basis, weight.T).T
    except np.linalg.LinAlgError:
        mixed = weight @ np.linalg.pinv(basis, rcond=1e-6).T
    lengths = np.linalg.norm(mixed, axis=0)
    return np.where(lengths > NOTHING, mixed / np.where(lengths > NOTHING, lengths, 1), 0.0)


def _of_module(module: str, names: Collection[str]) -> Mapping[str, str]:
    """Return which shared tensors are a module's: those of its last two words, as PEFT groups modules."""
    category = _category(module.split("."))
    own = {part: f"{part}.{category}" for part in SHARED}
    return {part: name for part, name in own.items() if name in names}


def _category(words: list[str]) -> str:
    if len(words) == 1 or words[-2].isdigit():
        return words[-1]
    if words[-3:] == ["attention", "output", "dense"]:
        return "attention_output"
    return f"{words[-2]}_{words[-1]}"


KIND = Kind(
    "FROD",
    forms=({"frod_lambda_l": "in", "frod_lambda_s_values": "..."},),
    keys=unused(
        "projection_prng_key", "save_projection", "frod_dropout", "sparse_rate", "regularization_alpha", "progressbar",
        "runtime_offload_base_weight",
    ),
    change=change,
    shared=SHARED,
    of_module=_of_module,
)  # fmt: skip
