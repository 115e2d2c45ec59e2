"""How each model calls the donor's tensors: fine-tunes of a model may differ in the prefixes of their names.

A prefix is mapped only where every shape agrees and the tensors are of the same kind of module, and it is said.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cuvee.checkpoint import TensorSource, TensorSpec
from cuvee.structure import Structure, infer, layer_of
from cuvee.structure.structure import Module

MOST_PARTS = 4
"""Parts of a name, between its dots, that a prefix may have."""

MOST_RENAMINGS = 8


@dataclass(frozen=True)
class Renaming:
    """A prefix of the donor's names, another model's prefix in its place, and the number of tensors that have it."""

    donors: str
    own: str
    tensors: int

    def __str__(self) -> str:
        tensors = f"{self.tensors} tensors are" if self.tensors > 1 else "1 tensor is"
        if not self.own:
            return f"{tensors} matched without the prefix '{self.donors}'"
        if not self.donors:
            return f"{tensors} matched with the prefix '{self.own}' more"
        return f"{tensors} matched with the prefix '{self.own}' for '{self.donors}'"


@dataclass(frozen=True)
class View:
    """A model's tensors under the donor's names. `called` maps each of these to the model's own name."""

    source: TensorSource
    structure: Structure
    called: Mapping[str, str]
    renamings: tuple[Renaming, ...] = ()

    def spec(self, name: str) -> TensorSpec:
        return self.source.tensors[self.called[name]]


def view_as(donor: View, source: TensorSource) -> View:
    """View a model's tensors under the donor's names, its prefixes mapped where that makes names and shapes agree."""
    structure = infer(source)
    # dictionaries in place of sets: they keep the order of names
    missing = {name: None for name in donor.called if name not in source.tensors}
    surplus = {name: None for name in source.tensors if name not in donor.called}
    renamed: dict[str, str] = {}
    renamings: list[Renaming] = []
    while missing and surplus and len(renamings) < MOST_RENAMINGS:
        best = _best(donor, source, structure, missing, surplus)
        if best is None:
            break
        pair, matched = best
        renamings.append(Renaming(*pair, len(matched)))
        for theirs, own in matched.items():
            renamed[own] = theirs
            del missing[theirs], surplus[own]
    called = {renamed.get(name, name): name for name in source.tensors}
    return View(source, structure, called, tuple(renamings))


def view_of(source: TensorSource) -> View:
    """View a model under its own names."""
    return View(source, infer(source), {name: name for name in source.tensors})


def whole_modules_lacking(donor: View, view: View, expected: Sequence[str]) -> list[tuple[Module, frozenset[str]]]:
    """List the modules of which a model has none of the expected tensors, though it has some of another module."""
    expected_names: dict[Module, list[str]] = {}
    for name in expected:
        if name in donor.called:
            module = donor.structure.of(donor.called[name]).module
            expected_names.setdefault(module, []).append(name)
    lacking = []
    for module, names in expected_names.items():
        if not any(name in view.called for name in names):
            lacking.append((module, frozenset(names)))
    return lacking if len(lacking) < len(expected_names) else []


_Pair = tuple[str, str]


def _best(
    donor: View, source: TensorSource, structure: Structure, missing: Mapping[str, None], surplus: Mapping[str, None]
) -> tuple[_Pair, dict[str, str]] | None:
    """Find the pair of prefixes, donor's and own, under which most missing tensors are surplus tensors."""
    by_rest: dict[str, list[tuple[str, str]]] = {}
    for own in surplus:
        for prefix, rest in _splits(own):
            by_rest.setdefault(rest, []).append((prefix, own))
    matches: dict[_Pair, dict[str, str]] = {}
    for theirs in missing:
        for prefix, rest in _splits(theirs):
            for own_prefix, own in by_rest.get(rest, ()):
                if _is_whole(prefix, own_prefix) and _fits(donor, theirs, source.tensors[own], structure, own):
                    matches.setdefault((prefix, own_prefix), {})[theirs] = own
    believable = [pair for pair, matched in matches.items() if _is_believable(pair, len(matched))]
    if not believable:
        return None
    # Of pairs with as many matches, the shortest prefixes; then any, but always the same.
    pair = max(believable, key=lambda pair: (len(matches[pair]), -len(pair[0]) - len(pair[1]), pair))
    return pair, matches[pair]


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Yield a name's short prefixes, dot included, with the rest of the name."""
    parts = name.split(".", MOST_PARTS)
    for count in range(min(len(parts), MOST_PARTS + 1)):
        if count and parts[count - 1].isdecimal():
            return  # layers are never renumbered
        rest = ".".join(parts[count:])
        if rest.count("."):  # a bare 'weight' says nothing
            yield name[: len(name) - len(rest)], rest


def _is_whole(prefix: str, own: str) -> bool:
    """Say whether two prefixes differ in their last word: if they share it, it belongs to the rest of the name."""
    if not prefix or not own:
        return prefix != own
    return prefix.split(".")[-2] != own.split(".")[-2]


def _fits(donor: View, theirs: str, spec: TensorSpec, structure: Structure, own: str) -> bool:
    """Say whether a tensor may be the donor's: of the same module and shape, but for the rows of a vocabulary."""
    if donor.structure.of(donor.called[theirs]).module != structure.of(own).module:
        return False
    expected = donor.spec(theirs)
    if expected.shape == spec.shape:
        return True
    matrices = len(expected.shape) == len(spec.shape) == 2 and layer_of(theirs) is None
    return matrices and expected.shape[1] == spec.shape[1]


def _is_believable(pair: _Pair, tensors: int) -> bool:
    """Say whether a prefix holds the words of the other, in order, or two tensors or more share a word of the two."""
    first, second = (prefix.split(".")[:-1] for prefix in pair)
    shorter, longer = sorted((first, second), key=len)
    rest = iter(longer)
    if all(part in rest for part in shorter):
        return True
    return tensors > 1 and bool(set(first) & set(second))
