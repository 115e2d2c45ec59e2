"""OSF (arXiv:2504.07097): the strongest directions of W as they are, and learnt ones in the place of the others.

As in PEFT 0.21.2, tuners/osf/layer.py: W - W_low + U S V, where W_low is what W has beside its strongest directions.
"""

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings, unused


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    learnt = parts["osf_svd_params.U_low"] * parts["osf_svd_params.S_low"] @ parts["osf_svd_params.V_low"]
    strongest = min(weight.shape) - len(parts["osf_svd_params.S_low"])
    if strongest < 0:
        raise ValueError(f"{len(parts['osf_svd_params.S_low'])} directions for {list(weight.shape)}")
    left, values, right = np.linalg.svd(weight, full_matrices=False)
    return np.asarray((left[:, :strongest] * values[:strongest]) @ right[:strongest] + learnt)


KIND = Kind(
    "OSF",
    forms=(
        {"osf_svd_params.U_low": "out low", "osf_svd_params.S_low": "low", "osf_svd_params.V_low": "low in"},
    ),
    keys=unused("effective_rank", "rank_pattern", "target_svd_config"),
    change=change,
)  # fmt: skip
