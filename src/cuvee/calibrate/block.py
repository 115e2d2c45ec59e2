"""A block of a merge that is repaired: its tensors as they are, its linear maps and routers, and its anchor."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from cuvee.calibrate.network import BlockNetwork, Call  # first, for it says which extra is missing

# isort: split
import torch

from cuvee.calibrate.routers import find_routers
from cuvee.calibrate.settings import Alignment
from cuvee.calibrate.sites import Site, find_sites
from cuvee.calibrate.streams import Batch, Stream
from cuvee.errors import CheckpointError

Tensor = torch.Tensor


@dataclass(frozen=True)
class BlockInput:
    """A block's input for a batch: hidden states [rows, length, width], an encoder's output, the rest of the call."""

    hidden: Tensor
    call: Call
    encoded: Tensor | None


def input_of(network: BlockNetwork, depth: int, stream: Stream, number: int, batch: Batch) -> BlockInput:
    """Return the input of block `depth` for batch `number` of a stream."""
    hidden = stream[number].reshape(batch.rows, batch.length, -1)
    encoded = stream.encoded_rows(number, batch.rows)
    return BlockInput(hidden, network.call(depth, batch.rows, batch.length, encoded), encoded)


class Block:
    """Block `number` of the merge: its tensors as they are, its sites, its anchor."""

    def __init__(
        self,
        number: int,
        merged: BlockNetwork,
        base: BlockNetwork | None,
        how: Alignment,
        trial: BlockInput,
        in_full: bool,
    ) -> None:
        self._in_full = in_full
        self.number, self._merged, self._base, self._how = number, merged, base, how
        self._tensors = {name: merged.read(number, name) for name in merged.tensor_names(number)}
        self.sites = self._find_sites(trial)
        # PEFT knows routers under other names than files do, so that an adapter of one does not load
        self.routers = () if in_full else self._find_routers(trial)

    def _find_routers(self, trial: BlockInput) -> tuple[Site, ...]:
        block, positions = self.student({}), trial.hidden.shape[:2].numel()
        with torch.no_grad():
            routers = find_routers(block, positions, lambda: self._merged.run_block(block, trial.hidden, trial.call))
        return tuple(site for site in map(self._stored, routers) if site.maps)

    def _find_sites(self, trial: BlockInput) -> tuple[Site, ...]:
        block = self.student({})
        positions = trial.hidden.shape[:2].numel()
        found = find_sites(
            block, positions, lambda: self._merged.run_block(block, trial.hidden, trial.call), trial.encoded
        )
        return tuple(site for site in map(self._stored, found) if site.maps)

    def _stored(self, site: Site) -> Site:
        """Leave out maps that the checkpoint holds in parts."""
        maps = tuple(own for own in site.maps if self._merged.stored_name(self.number, own.weight) is not None)
        return replace(site, maps=maps)

    def has(self, name: str) -> bool:
        """Say whether the block has a tensor."""
        return name in self._tensors

    def student(self, changed: Mapping[str, Tensor]) -> torch.nn.Module:
        """Return the merge's block with some tensors changed."""
        block: torch.nn.Module = self._merged.block(self.number, {**self._tensors, **changed})
        return block

    def expert_maps(self, network: BlockNetwork, sites: Iterable[Site]) -> dict[str, Tensor]:
        """Read an expert's weights and biases of some sites."""
        names: dict[str, None] = {}
        for site in sites:
            for own in site.maps:
                names |= dict.fromkeys(own.tensors)
        tensors = {}
        for name in filter(self._tensors.__contains__, names):
            tensors[name] = network.read(self.number, name)
            if not bool(tensors[name].isfinite().all()):
                message = f"'{name}' of block {self.number} has numbers that are not finite"
                raise CheckpointError(message, where=network.name)
        return tensors

    def anchor(self, name: str) -> Tensor:
        """Return the anchor of a tensor: the merge, pushed on from the base."""
        merged = self._tensors[name]
        if self._base is None or self._how.push == 1.0:
            return merged
        return torch.lerp(self._base.read(self.number, name), merged, self._how.push)

    def as_stored(self, name: str, value: Tensor) -> Tensor:
        """Round a tensor to the type that the merge stores it in, unless it is wanted in full."""
        if self._in_full:
            return value.float()
        return value.to(self._merged.stored_dtype(self.number, name))

    @property
    def device(self) -> torch.device:
        return self._merged.device
