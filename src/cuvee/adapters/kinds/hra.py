"""HRA (arXiv:2405.17484): W times a chain of Householder reflections. As in PEFT 0.21.2, tuners/hra/layer.py."""

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings, switch, unused


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    vectors = parts["hra_u"]
    if settings["apply_GS"]:
        basis = _orthonormal(vectors)
        return np.asarray(weight - 2 * (weight @ basis) @ basis.T)
    units = vectors / np.linalg.norm(vectors, axis=0)
    for unit in units.T:
        weight = weight - 2 * np.outer(weight @ unit, unit)
    return weight


def _orthonormal(vectors: np.ndarray) -> np.ndarray:
    """Orthonormalise by the modified Gram-Schmidt process, in order."""
    basis: list[np.ndarray] = []
    for column in vectors.T:
        rest = column
        for unit in basis:
            rest = rest - (unit @ rest) * unit
        basis.append(rest / np.linalg.norm(rest))
    return np.stack(basis, axis=1)


KIND = Kind("HRA", forms=({"hra_u": "in rank"},), keys={"apply_GS": switch(False), **unused("r")}, change=change)
