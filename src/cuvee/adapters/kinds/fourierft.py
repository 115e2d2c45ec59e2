"""FourierFT (arXiv:2405.03003): W + s times the inverse transform of a spectrum in random places, drawn from a seed.

As in PEFT 0.21.2, tuners/fourierft/layer.py.
"""

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings, number, unused
from cuvee.adapters.random_places import SEED, first_of_permutation


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    spectrum = parts["fourierft_spectrum"]
    dense = np.zeros(weight.size)
    dense[first_of_permutation(weight.size, len(spectrum), settings["random_loc_seed"])] = spectrum
    return np.asarray(weight + settings["scaling"] * np.fft.ifft2(dense.reshape(weight.shape)).real)


KIND = Kind(
    "FOURIERFT",
    forms=({"fourierft_spectrum": "frequencies"},),
    keys={"scaling": number(150.0), "random_loc_seed": SEED, **unused("n_frequency", "n_frequency_pattern")},
    change=change,
)
