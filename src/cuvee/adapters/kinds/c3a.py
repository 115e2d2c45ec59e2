"""C³A (arXiv:2407.19342): W + C / in, where C is of circulant blocks, by the fast Fourier transform of their kernels.

As in PEFT 0.21.2, tuners/c3a/layer.py and utils.py.
"""

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings, unused


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    kernels = parts["c3a_kernel"]
    rows, columns, size = kernels.shape
    if (rows * size, columns * size) != weight.shape:
        raise ValueError(f"{rows} x {columns} blocks of {size} for {list(weight.shape)}")
    # Block (m, n) has kernel[(j - i) % size] in row i and column j: the convolution that PEFT does with its transforms.
    shift = (np.arange(size)[None, :] - np.arange(size)[:, None]) % size
    blocks = kernels[:, :, shift].transpose(0, 2, 1, 3)
    return np.asarray(weight + blocks.reshape(weight.shape) / weight.shape[1])


KIND = Kind(
    "C3A",
    forms=({"c3a_kernel": "rows columns size"},),
    keys=unused("block_size", "block_size_pattern"),
    change=change,
)
