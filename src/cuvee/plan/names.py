"""How each model calls the donor's tensors: fine-tunes of one model may differ in the prefixes of their names.

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
    """A prefix of the donor's names and the one that another model has for it, and how many tensors it is about."""

    donors: str
    own: str
    tensors: int

    def __str__(self) -> str:
        what = f"{self.tensors} tensors are" if self.tensors > 1 else "1 tensor is"
        if not self.own:
            return f"{what} matched without the prefix '{self.donors}'"
        if not self.donors:
            return f"{what} matched with the prefix '{self.own}' more"
        return f"{what} matched with the prefix '{self.own}' for '{self.donors}'"


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
    """List the modules of which a model has nothing of what is expected, though it has something of another."""
    modules = {name: donor.structure.of(donor.called[name]).module for name in expected if name in donor.called}
    found = {module for name, module in modules.items() if name in view.called}
    lacking = dict.fromkeys(module for module in modules.values() if module not in found) if found else {}
    return [(module, frozenset(name for name in modules if modules[name] == module)) for module in lacking]


_Pair = tuple[str, str]


def _best(
    donor: View, source: TensorSource, structure: Structure, missing: Mapping[str, None], surplus: Mapping[str, None]
) -> tuple[_Pair, dict[str, str]] | None:
    """Find the pair of prefixes, donor's and own, under which most missing tensors are surplus ones."""
    by_rest: dict[str, list[tuple[str, str]]] = {}
    for own in surplus:
        for prefix, rest in _splits(own):
            by_rest.setdefault(rest, []).append((prefix, own))
    found: dict[_Pair, dict[str, str]] = {}
    for theirs in missing:
        for prefix, rest in _splits(theirs):
            for own_prefix, own in by_rest.get(rest, ()):
                if _is_whole(prefix, own_prefix) and _fits(donor, theirs, source.tensors[own], structure, own):
                    found.setdefault((prefix, own_prefix), {})[theirs] = own
    allowed = {pair: matched for pair, matched in found.items() if _is_believable(pair, len(matched))}
    if not allowed:
        return None
    pair = max(allowed, key=lambda pair: (len(allowed[pair]), -len(pair[0]) - len(pair[1]), pair))
    return pair, allowed[pair]


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Give a name's short prefixes, dot included, with what follows."""
    parts = name.split(".", MOST_PARTS)
    for count in range(min(len(parts), MOST_PARTS + 1)):
        if count and parts[count - 1].isdecimal():
            return  # layers are never renumbered
        rest = ".".join(parts[count:])
        if rest.count("."):  # a bare 'weight' says nothing
            yield name[: len(name) - len(rest)], rest


def _is_whole(prefix: str, own: str) -> bool:
    """Say whether two prefixes differ in their last part, so that none of what follows could go with them."""
    return prefix != own and (not prefix or not own or prefix.split(".")[-2] != own.split(".")[-2])


def _fits(donor: View, theirs: str, spec: TensorSpec, structure: Structure, own: str) -> bool:
    """Say whether a tensor may be the donor's: equal in shape, but for the rows of a vocabulary; of one module."""
    if donor.structure.of(donor.called[theirs]).module != structure.of(own).module:
        return False
    expected = donor.spec(theirs)
    if expected.shape == spec.shape:
        return True
    matrices = len(expected.shape) == len(spec.shape) == 2 and layer_of(theirs) is None
    return matrices and expected.shape[1] == spec.shape[1]


def _is_believable(pair: _Pair, tensors: int) -> bool:
    """One prefix holds the parts of the other, in order, or at least two tensors share a part of the two."""
    first, second = (prefix.split(".")[:-1] for prefix in pair)
    shorter, longer = sorted((first, second), key=len)
    rest = iter(longer)
    if all(part in rest for part in shorter):
        return True
    return tensors > 1 and bool(set(first) & set(second))
