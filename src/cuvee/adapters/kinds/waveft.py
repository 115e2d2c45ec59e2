"""WaveFT (arXiv:2505.12532): W + s times a sparse matrix in random places, or its inverse Haar transform.

As in PEFT 0.21.2, tuners/waveft/layer.py, for the wavelet "db1", the default.
"""

import numpy as np

from cuvee.adapters.kind import Key, Kind, Parts, Settings, number, switch, unused
from cuvee.adapters.random_places import SEED, first_of_permutation


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    out, into = weight.shape
    spectrum = parts["waveft_spectrum"]
    places = first_of_permutation(weight.size, len(spectrum), settings["random_loc_seed"])
    dense = np.zeros((out + out % 2, into + into % 2))
    dense[places // into, places % into] = spectrum
    if settings["use_idwt"]:
        dense = _inverse_haar(dense)
    return np.asarray(weight + settings["scaling"] * dense[:out, :into])


def _inverse_haar(bands: np.ndarray) -> np.ndarray:
    """Put four bands together: means top left, then differences along columns, along rows, and of both."""
    rows, columns = bands.shape[0] // 2, bands.shape[1] // 2
    mean, across = bands[:rows, :columns], bands[:rows, columns:]
    down, both = bands[rows:, :columns], bands[rows:, columns:]
    whole = np.empty_like(bands)
    whole[0::2, 0::2] = (mean + across + down + both) / 2
    whole[0::2, 1::2] = (mean + across - down - both) / 2
    whole[1::2, 0::2] = (mean - across + down - both) / 2
    whole[1::2, 1::2] = (mean - across - down + both) / 2
    return whole


def refusal(settings: Settings) -> str | None:
    if settings["use_idwt"] and settings["wavelet_family"] != "db1":
        return f"the wavelet '{settings['wavelet_family']}' is not db1: merge it with PEFT's merge_and_unload"
    return None


KIND = Kind(
    "WAVEFT",
    forms=({"waveft_spectrum": "frequencies"},),
    keys={
        "scaling": number(25.0),
        "random_loc_seed": SEED,
        "use_idwt": switch(True),
        "wavelet_family": Key("db1", lambda value: isinstance(value, str) and value.isalnum(), "a wavelet's name"),
        **unused("n_frequency", "n_frequency_pattern", "proportional_parameters"),
    },
    change=change,
    refusal=refusal,
)
