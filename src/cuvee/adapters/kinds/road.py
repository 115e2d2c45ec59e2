"""RoAd (arXiv:2409.00119): outputs rotated and scaled in pairs, so that rows of W and the bias are.

As in PEFT 0.21.2, tuners/road/layer.py: within a group of outputs the first half pairs with the second.
"""

import numpy as np

from cuvee.adapters.kind import Kind, Parts, Settings, choice, count


def change(weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    first, second = _columns(parts, settings, len(weight))
    pairs = weight.reshape(-1, 2, settings["group_size"] // 2, weight.shape[1])
    turned = np.stack((-pairs[:, 1], pairs[:, 0]), axis=1).reshape(weight.shape)
    return np.asarray(first[:, None] * weight + second[:, None] * turned)


def bias(bias: np.ndarray, weight: np.ndarray, parts: Parts, settings: Settings) -> np.ndarray:
    return change(bias[:, None], parts, settings)[:, 0]


def _columns(parts: Parts, settings: Settings, out: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what each output and its partner are multiplied by."""
    size, variant = settings["group_size"], settings["variant"]
    angles, lengths = parts["road_theta"], parts["road_alpha"]
    expected = {"road_1": out // 2, "road_2": out, "road_4": 2 * out}[variant]
    fits = angles.shape == lengths.shape == (expected,)
    if size % 2 or out % size or not fits:
        raise ValueError(f"{variant} in groups of {size} for {out} outputs, with {len(angles)} angles")
    if variant == "road_1":
        angles, lengths = (np.repeat(v.reshape(-1, size // 2), 2, axis=0).reshape(-1) for v in (angles, lengths))
    if variant != "road_4":
        return lengths * np.cos(angles), lengths * np.sin(angles)
    angles, lengths = angles.reshape(-1, 2, size), lengths.reshape(-1, 2, size)
    first, second = lengths[:, 0] * np.cos(angles[:, 0]), lengths[:, 1] * np.sin(angles[:, 1])
    return first.reshape(-1), second.reshape(-1)


KIND = Kind(
    "ROAD",
    forms=({"road_theta": "angles", "road_alpha": "angles"},),
    keys={"variant": choice("road_1", "road_2", "road_4"), "group_size": count(64)},
    change=change,
    bias=bias,
)
