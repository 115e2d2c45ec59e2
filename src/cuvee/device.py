"""Another device than the main processor: whole tensors go there as torch tensors, and one result comes back.

The only room besides those of foreign files and of evaluation that imports torch, and only when a device is asked for.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from cuvee.errors import MissingExtra, RecipeError

DeviceName = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class TorchDevice:
    """A device by torch's name. "torch" is the main processor, where the same way is tested without a GPU."""

    name: str

    def take(self, array: np.ndarray) -> Any:
        """Return the numbers as a tensor on the device. They leave from page-locked memory where that is faster."""
        import torch

        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self.name == "torch":
            return tensor
        return tensor.pin_memory().to(self.name, non_blocking=True)

    def give(self, tensor: Any) -> np.ndarray:
        """Return a tensor's numbers in the main memory, once they are calculated."""
        array: np.ndarray = tensor.cpu().numpy()
        return array


def device_called(name: str, *, useful: bool) -> str:
    """Return "cpu" or "cuda". "auto" is a GPU if torch finds one and it is `useful`: where much is calculated.

    Raises RecipeError for other names, or if there is no such device; MissingExtra without torch.
    """
    if name not in get_args(DeviceName):
        raise RecipeError(f"'--device' is one of {', '.join(get_args(DeviceName))}, found '{name}'")
    if name == "cpu" or (name == "auto" and not useful):
        return "cpu"
    try:
        import torch
    except ImportError as error:
        if name == "auto":
            return "cpu"
        raise MissingExtra("torch", missing="torch") from error
    if torch.cuda.is_available():
        return "cuda"
    if name == "auto":
        return "cpu"
    raise RecipeError("torch finds no CUDA device here", hint="leave out --device, or install torch for your GPU")
