"""The results of folds over whole models, kept in a folder: for the next merge with the same question and models.

Models are known by path, size, time of the last change and header, as for taking up a stopped merge.
"""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from cuvee.engine.identity import inputs_of
from cuvee.ops.order import ROWS_AT_ONCE
from cuvee.plan import Plan
from cuvee.plan.plan import Input, merged_steps
from cuvee.version import __version__

MOST_KEPT = 64
"""Files that stay in the folder; the oldest go."""


class KnownFolds:
    """The results of folds in `folder` about a plan's inputs and steps."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        merges = merged_steps(plan.steps)
        steps = [[step.name, step.shape, list(map(_input, step.all_inputs))] for step in merges]
        places = [f"{getattr(source, 'path', '')} {getattr(source, 'orders', '')}" for source in plan.sources]
        self._about = [__version__, ROWS_AT_ONCE, plan.method.key, inputs_of(plan), places, steps]

    def get(self, question: Sequence[object], run: Callable[[], Any]) -> Any:
        """Return the result of `run`, an array, or the known array to the same question."""
        text = json.dumps([self._about, question], default=_plain).encode()
        file = self.folder / f"{blake3(text).hexdigest()}.npy"
        with suppress(OSError, ValueError):
            return np.load(file, allow_pickle=False)
        found = run()
        if isinstance(found, np.ndarray):
            with suppress(OSError):  # a full disk or a folder that cannot be written: the result is at hand anyway
                self._keep(file, found)
        return found

    def _keep(self, file: Path, found: np.ndarray) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".new", delete=False) as new:
            np.save(new, found)
        os.replace(new.name, file)
        kept = sorted(self.folder.glob("*.npy"), key=lambda path: path.stat().st_mtime)
        for old in kept[:-MOST_KEPT]:
            old.unlink(missing_ok=True)


def _input(given: Input) -> list[Any]:
    return [given.model, given.tensor, given.dtype, given.rows.digest if given.rows is not None else None]


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
