"""A factor of zero, so that PEFT loads an adapter that has no other: it loads none without any."""

from collections.abc import Sequence

import numpy as np

from cuvee.adapters.low_rank import Product
from cuvee.adapters.write import AdapterFile
from cuvee.checkpoint import TensorSource
from cuvee.engine.extract_targets import RENAMED_BY_PEFT
from cuvee.errors import CheckpointError
from cuvee.structure import TensorPlace, infer
from cuvee.structure.config import hint, in_memory


def put_nothing(base: TensorSource, file: AdapterFile, saved: Sequence[str] = ()) -> str | None:
    """Add factors of zero for some matrix outside the modules that are `saved` whole.

    If there is none, they are for a saved module, which is returned: it must not be saved, but put below the factors.
    Raises CheckpointError where no module is such.
    """
    structure = infer(base)
    inside = tuple(f"{module}." for module in saved)
    for roles in (("linear",), ("embedding", "head")):
        matrices = [place for place in structure if _is_matrix(place, base, roles)]
        outside = [place for place in matrices if not place.name.startswith(inside)]
        if outside:
            _put(min(outside, key=lambda place: base.tensors[place.name].elements), base, file)
            return None
    for place in structure:
        if _module(place) in saved and _is_matrix(place, base, ("embedding",)):
            _put(place, base, file)
            return _module(place)
    raise CheckpointError("no matrix is left that could have factors, and PEFT loads no adapter without any")


def _is_matrix(place: TensorPlace, base: TensorSource, roles: Sequence[str]) -> bool:
    is_matrix = place.name.endswith(".weight") and len(base.tensors[place.name].shape) == 2
    if place.role not in roles or not is_matrix:
        return False
    unfit = (*RENAMED_BY_PEFT, *hint(base.config, "peft_whole"))
    return place.expert is None and place.name.split(".")[-2] not in unfit


def _module(place: TensorPlace) -> str:
    return place.name.removesuffix(".weight")


def _put(place: TensorPlace, base: TensorSource, file: AdapterFile) -> None:
    rows, columns = base.tensors[place.name].shape
    out, into = (columns, rows) if place.input_first else (rows, columns)
    nothing = Product(np.zeros((out, 0)), np.zeros((0, into)))
    file.put_factors(in_memory(_module(place), base.config), nothing, embeds=place.role == "embedding")
