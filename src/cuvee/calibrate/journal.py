"""Blocks that are done, one file each, so that a stopped repair goes on and ends with the same bytes."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cuvee.checkpoint.write import write_error

Tensor = torch.Tensor
IDENTITY = "identity.json"


@dataclass(frozen=True)
class MapFit:
    """How one map was fitted: the mean relative residual before and after, the condition of its system."""

    tensor: str
    before: float | None
    after: float | None
    condition: float


class BlockJournal:
    """The solved tensors of blocks in a folder. What was begun with other inputs or settings is removed.

    `identity` is all that the tensors depend on, in plain JSON.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        text = json.dumps(identity, sort_keys=True, indent=1)
        try:
            if _read(folder / IDENTITY) != text:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                (folder / IDENTITY).write_text(text, encoding="utf-8")
        except OSError as error:
            raise write_error(error, folder) from error

    @property
    def blocks(self) -> int:
        """How many files of blocks there are."""
        return len(list(self.folder.glob("block-*.safetensors")))

    def has(self, number: int, ridge: float) -> bool:
        """Say whether a block is done."""
        return self._file(number, ridge).exists()

    def write(self, number: int, ridge: float, tensors: Mapping[str, Tensor], fits: Sequence[MapFit]) -> None:
        """Write a block's tensors; the file appears whole or not at all."""
        file = self._file(number, ridge)
        partial = file.with_suffix(".partial")
        metadata = {"fits": json.dumps([asdict(fit) for fit in fits])}
        try:
            save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, partial, metadata)
            os.replace(partial, file)
        except OSError as error:
            raise write_error(error, file) from error

    def read(self, number: int, ridge: float) -> dict[str, Tensor]:
        """Return the tensors of a block that is done, by their names within the block."""
        with safe_open(self._file(number, ridge), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping

    def fits(self, number: int, ridge: float) -> tuple[MapFit, ...]:
        """Return how the maps of a block that is done were fitted."""
        with safe_open(self._file(number, ridge), framework="pt") as file:
            return tuple(MapFit(**fit) for fit in json.loads(file.metadata()["fits"]))

    def remove(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, number: int, ridge: float) -> Path:
        return self.folder / f"block-{number:04d}-{ridge:g}.safetensors"


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
