"""SHiRA (arXiv:2406.13175): numbers added to W in some places, which are stored. As in PEFT 0.21.2, tuners/shira."""

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings, unused


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    rows, columns = parts["shira_indices"].astype(np.int64)
    ends_outside = rows.max() >= len(weight) or columns.max() >= weight.shape[1]
    if min(rows.min(), columns.min()) < 0 or ends_outside:
        raise ValueError("places outside of the matrix")
    changed = weight.copy()
    np.add.at(changed, (rows, columns), parts["shira_weight"])
    return changed


KIND = Kind(
    "SHIRA",
    forms=({"shira_weight": "places", "shira_indices": "2 places"},),
    keys=unused("r", "mask_type", "random_seed"),
    change=change,
)
