"""Parts of a model by words that people have for them, to extract only some: attention, experts, norms."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

from cuvee.errors import RecipeError, closest
from cuvee.structure import TensorPlace

_ATTENTION = re.compile(r"attn|attention")
_MLP = re.compile(r"(^|\.)(mlp|ffn|feed_forward|moe|block_sparse_moe|fc1|fc2|DenseReluDense|ffn_.*|.*experts?)(\.|$)")

NAMED: Mapping[str, Callable[[TensorPlace], bool]] = {
    "attention": lambda place: bool(_ATTENTION.search(place.name)),
    "mlp": lambda place: bool(_MLP.search(place.name)),
    "experts": lambda place: "expert" in place.name and place.role != "router",
    "routers": lambda place: place.role == "router",
    "embeddings": lambda place: place.role == "embedding",
    "heads": lambda place: place.role == "head",
    "norms": lambda place: place.role == "norm",
    "biases": lambda place: place.role == "bias",
    "language": lambda place: place.module == "language",
    "vision": lambda place: place.module == "vision",
    "audio": lambda place: place.module == "audio",
    "projector": lambda place: place.module == "projector",
}
"""What belongs to a part, by its word."""


@dataclass(frozen=True)
class Parts:
    """Which tensors of a model are meant: those of `only`, or else all, but for those of `without`.

    A word is in `NAMED`, or stands between two dots of names, or is several of these: `q_proj`, `layers.3`.
    """

    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def has(self, place: TensorPlace) -> bool:
        """Say whether a tensor is meant."""
        if any(_is_of(word, place) for word in self.without):
            return False
        return not self.only or any(_is_of(word, place) for word in self.only)

    def check(self, places: Iterable[TensorPlace]) -> None:
        """Raise RecipeError for a word that no tensor of a model has."""
        listed = list(places)
        for word in (*self.only, *self.without):
            if not any(_is_of(word, place) for place in listed):
                words = set(chain.from_iterable(place.name.split(".") for place in listed))
                guess = closest(word, [*NAMED, *words])
                hint = f"did you mean '{guess}'?" if guess else f"there are: {', '.join(NAMED)}, and parts of names"
                raise RecipeError(f"'{word}' is no part of this model", hint=hint)


def _is_of(word: str, place: TensorPlace) -> bool:
    named = NAMED.get(word)
    return named(place) if named is not None else f".{word}." in f".{place.name}."
