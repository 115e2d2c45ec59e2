"""A factor of zero, so that PEFT loads an adapter that has no other: it loads none without any."""

from collections.abc import Iterable

import numpy as np

from cuvee.adapters.low_rank import Product
from cuvee.adapters.write import AdapterFile
from cuvee.checkpoint import TensorSource
from cuvee.errors import CheckpointError
from cuvee.structure import infer
from cuvee.structure.config import in_memory


def put_nothing(base: TensorSource, file: AdapterFile, names: Iterable[str] | None = None) -> None:
    """Add factors of zero for the smallest of some matrices, or of all linear maps. Raises CheckpointError for none."""
    structure = infer(base)
    linear = [place.name for place in structure if place.role == "linear" and place.name.endswith(".weight")]
    candidates = [name for name in (linear if names is None else names) if len(base.tensors[name].shape) == 2]
    name = min(candidates, key=lambda name: base.tensors[name].elements, default=None)
    if name is None:
        raise CheckpointError("no matrix is left that could have factors, and PEFT loads no adapter without any")
    rows, columns = base.tensors[name].shape
    place = structure.of(name)
    out, into = (columns, rows) if place.input_first else (rows, columns)
    nothing = Product(np.zeros((out, 0)), np.zeros((0, into)))
    module = in_memory(name.removesuffix(".weight"), base.config)
    file.put_factors(module, nothing, embeds=place.role == "embedding")
