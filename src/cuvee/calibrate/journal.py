"""Blocks that are done, one file each, so that a stopped repair goes on and ends with the same bytes."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cuvee.calibrate.outcome import MapFit
from cuvee.checkpoint.write import remove_empty, write_error
from cuvee.descriptors import lock
from cuvee.documents.whole import replacing
from cuvee.errors import RecipeError

Tensor = torch.Tensor
IDENTITY, LOCK = "identity.json", "aligned.lock"


class BlockJournal:
    """The solved tensors of blocks in a folder. A journal that was begun with other inputs or settings is removed.

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
        return self.file(number, ridge).exists()

    def write(self, number: int, ridge: float, tensors: Mapping[str, Tensor], fits: Sequence[MapFit]) -> None:
        """Write a block's tensors; the file appears whole or not at all."""
        file = self.file(number, ridge)
        metadata = {"fits": json.dumps([asdict(fit) for fit in fits])}
        try:
            with replacing(file) as partial:
                save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, partial, metadata)
        except OSError as error:
            raise write_error(error, file) from error

    def read(self, number: int, ridge: float) -> dict[str, Tensor]:
        """Return the tensors of a block that is done, by their names within the block."""
        with safe_open(self.file(number, ridge), framework="pt") as file:
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  # it is no mapping

    def fits(self, number: int, ridge: float) -> tuple[MapFit, ...]:
        """Return how the maps of a block that is done were fitted."""
        with safe_open(self.file(number, ridge), framework="pt") as file:
            return tuple(MapFit(**fit) for fit in json.loads(file.metadata()["fits"]))

    def remove(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def file(self, number: int, ridge: float) -> Path:
        """Return the file of a block."""
        return self.folder / f"block-{number:04d}-{ridge:g}.safetensors"


@contextmanager
def locked(partial: Path, out: Path) -> Iterator[None]:
    """Hold the lock of an output's hidden folder. Raises RecipeError if another repair holds it."""
    try:
        partial.mkdir(parents=True, exist_ok=True)
        file = (partial / LOCK).open("a")
    except OSError as error:
        raise write_error(error, out) from error
    with file:
        try:
            lock(file.fileno())
        except BlockingIOError as error:
            hint = "wait for it, or name another output"
            raise RecipeError("another repair is writing this output now", where=str(out), hint=hint) from error
        except OSError:
            pass  # a file system without locks; two repairs at once are then the author's to avoid
        try:
            yield
        finally:
            (partial / LOCK).unlink(missing_ok=True)
            remove_empty(partial)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
