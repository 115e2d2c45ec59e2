"""A model with an encoder and a decoder, run one block at a time: the encoder's blocks first, then the decoder's.

Blocks of such models hand more on than hidden states: T5's first block computes the effect of positions on attention,
and all others get it from there. So the further output of the first block of a side goes to all blocks after it;
`check_alone` finds the models for which that is wrong. A block of the decoder also sees the encoder's output.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cuvee.calibrate.network import BlockNetwork, Call, Stopped, taken_apart  # first: it says which extra is missing

# isort: split
import torch

from cuvee.calibrate.network import HEAD_POSITIONS
from cuvee.checkpoint import TensorSource
from cuvee.errors import CheckpointError
from cuvee.evaluation.library import blaming, has_encoder
from cuvee.evaluation.model import LanguageModel
from cuvee.structure import Stack

Tensor = torch.Tensor

MOST_SHAPES = 16
"""Shapes of batches for which it is kept how blocks are called, with what positions mean to attention."""

TRIAL_LENGTHS = (4, 3)
"""Tokens for encoder and decoder on which it is tried what a side's first block gives."""


def open_network(source: TensorSource, folder: Path, name: str, *, device: torch.device) -> BlockNetwork:
    """Return a model to run block by block, whether it has an encoder or not. Raises as BlockNetwork does."""
    network = TwoSidedNetwork if has_encoder(folder) else BlockNetwork
    return network(source, folder, name, device=device)


def check_sides(own: BlockNetwork, other: BlockNetwork) -> None:
    """Raise CheckpointError unless two models have as many encoder blocks and begin to write with the same token."""
    if own.turns_at != other.turns_at:
        message = f"it has {other.turns_at or 0} blocks in an encoder, and {own.name} has {own.turns_at or 0}"
        raise CheckpointError(message, where=other.name)
    if not isinstance(own, TwoSidedNetwork) or not isinstance(other, TwoSidedNetwork):
        return
    if own.start_token != other.start_token:
        message = f"its decoder begins with token {other.start_token}, and that of {own.name} with {own.start_token}"
        raise CheckpointError(message, where=other.name, hint="decoder_start_token_id of config.json says it")


@dataclass(frozen=True)
class _Side:
    """Encoder or decoder: the module that owns the blocks, and which of all blocks are its own.

    `first` is its first block with zeros for its large matrices, where it gives more than hidden states; `values` is
    how many values it then gives.
    """

    owner: Any
    start: int
    depth: int
    first: Any = None
    values: int = 0

    def output(self, hidden: Tensor, handed_on: Sequence[Any] = ()) -> Any:
        """Return hidden states as a block of this side gives them."""
        if not self.values:
            return hidden
        return (hidden, *(handed_on or [None] * (self.values - 1)))


@dataclass(frozen=True)
class _Recorded:
    """How the blocks of a side are called for one shape of batch, and the states that stood for the encoder's."""

    calls: tuple[Call, ...]
    standing_in: Tensor | None

    def call(self, number: int, encoded: Tensor | None) -> Call:
        """Return the call of the side's block `number` with an encoder's output."""
        call = self.calls[number]
        if encoded is None or self.standing_in is None:
            return call

        def real(value: Any) -> Any:
            return encoded if value is self.standing_in else value

        keywords = {name: real(value) for name, value in call.keywords.items()}
        return Call(tuple(real(value) for value in call.further), keywords, call.by_name)


class TwoSidedNetwork(BlockNetwork):
    """A model with encoder and decoder, block by block. Block `turns_at` is the decoder's first."""

    def _find_stacks(self) -> tuple[Stack, ...]:
        return self._stack_in(self.module.get_encoder()), self._stack_in(self.module.get_decoder())

    def _learn_output(self) -> int:
        """Learn the outputs of a block of either side, and under which names numbers are tied."""
        self.turns_at = self._stacks[0].depth
        self._aliases = self._find_aliases()
        self._recorded: OrderedDict[tuple[int, ...], _Recorded] = OrderedDict()
        encoder = _Side(self._owner_of(self._stacks[0]), 0, self._stacks[0].depth)
        decoder = _Side(self._owner_of(self._stacks[1]), self.turns_at, self._stacks[1].depth)
        self._sides = encoder, decoder
        self._sides = self._learned(encoder), self._learned(decoder)
        return 0

    def _owner_of(self, stack: Stack) -> Any:
        return self._submodule(stack.prefix.rpartition(".")[0])

    def _find_aliases(self) -> dict[str, list[str]]:
        """Map the name of each parameter to all its names."""
        by_identity: dict[int, list[str]] = {}
        for name, parameter in self.module.named_parameters(remove_duplicate=False):
            by_identity.setdefault(id(parameter), []).append(name)
        aliases: dict[str, list[str]] = {}
        for names in by_identity.values():
            aliases |= dict.fromkeys(names, names)
        return aliases

    def _learned(self, side: _Side) -> _Side:
        """Find out whether a side's blocks give a tuple."""
        seen: list[tuple[tuple[Any, ...], Mapping[str, Any]]] = []

        def forward(*arguments: Any, **keywords: Any) -> Any:
            seen.append((arguments, keywords))
            raise Stopped

        with self._replaced(lambda number: forward), suppress(Stopped):
            side.owner(inputs_embeds=self._zeros(1, TRIAL_LENGTHS[1]), use_cache=False, **self._beside(side, 1))
        arguments, keywords = seen[0]
        first = self._without_matrices(side.start)
        given = first(*arguments, **keywords)
        return replace(side, first=first, values=len(given)) if isinstance(given, tuple) else side

    def _zeros(self, rows: int, length: int) -> Tensor:
        return torch.zeros(rows, length, self.width, device=self.device)

    def _beside(self, side: _Side, rows: int) -> dict[str, Tensor]:
        """Return the further input of a side: the decoder sees states of an encoder."""
        if side.start == 0:
            return {}
        return {"encoder_hidden_states": self._zeros(rows, TRIAL_LENGTHS[0])}

    def _without_matrices(self, number: int) -> Any:
        """Return a block whose large matrices are zeros that take no memory; its further outputs need none of them."""
        with self._lock:
            block = copy.deepcopy(self._blocks[number])
        embeddings = [name for name, module in block.named_modules() if isinstance(module, torch.nn.Embedding)]
        values = {}
        for name, tensor in block.state_dict().items():
            if tensor.dim() < 2 or name.rpartition(".")[0] in embeddings:
                values[name] = self.read(number, name).to(self.device)
            else:
                values[name] = torch.zeros(1, device=self.device).expand(tensor.shape)
        block.load_state_dict(values, assign=True)
        return block.eval().requires_grad_(False)

    @property
    def start_token(self) -> int:
        """The token with which the decoder begins."""
        return LanguageModel(self.name, "", self.module, self.tokenizer, context_length=1).start_token

    def _stored_as(self, name: str) -> str:
        stored = [alias for alias in self._aliases.get(name, [name]) if alias in self._names]
        if not stored:
            raise CheckpointError(f"the model has no tensor for '{name}'", where=self.name)
        return name if name in stored else stored[0]

    def call(self, number: int, rows: int, length: int, encoded: Tensor | None = None) -> Call:
        side = self._side(number)
        theirs = 0 if encoded is None else int(encoded.shape[1])
        with self._lock:
            shape = side.start, rows, length, theirs
            if shape not in self._recorded:
                self._recorded[shape] = self._record_side(side, rows, length, theirs)
                while len(self._recorded) > MOST_SHAPES:
                    self._recorded.popitem(last=False)
            self._recorded.move_to_end(shape)
            recorded = self._recorded[shape]
        return recorded.call(number - side.start, encoded)

    def _side(self, number: int) -> _Side:
        encoder, decoder = self._sides
        return encoder if number < decoder.start else decoder

    def _record_side(self, side: _Side, rows: int, length: int, theirs: int) -> _Recorded:
        """Run a side with blocks that hand hidden states on unchanged, and the further outputs of its first block."""
        calls: list[Call] = []
        handed_on: list[Any] = []
        encoded = self._zeros(rows, theirs) if theirs else None

        def standing_in(number: int) -> Callable[..., Any]:
            def forward(*arguments: Any, **keywords: Any) -> Any:
                hidden, call = taken_apart(arguments, keywords)
                calls.append(call)
                if number == side.start and side.first is not None:
                    handed_on.extend(side.first(*arguments, **keywords)[1:])
                return side.output(hidden, handed_on)

            return forward

        beside = {} if encoded is None else {"encoder_hidden_states": encoded}
        with self._replaced(standing_in), blaming(self.name, "run"), torch.no_grad():
            side.owner(inputs_embeds=self._zeros(rows, length), use_cache=False, **beside)
        return _Recorded(tuple(calls), encoded)

    def starts(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Give the input of the encoder's first block for rows of ids, [rows, length] each: [rows, length, width]."""
        return self._entering(self._sides[0], batches)

    def answer_starts(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Give the input of the decoder's first block for rows of ids, [rows, length] each: [rows, length, width]."""
        return self._entering(self._sides[1], batches)

    def _entering(self, side: _Side, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        seen: list[Tensor] = []

        def forward(*arguments: Any, **keywords: Any) -> Any:
            seen.append(taken_apart(arguments, keywords)[0])
            raise Stopped

        with self._filled(side.owner.get_input_embeddings()):
            for ids in batches:
                beside = self._beside(side, len(ids))
                with self._replaced(lambda number: forward), blaming(self.name, "run"), torch.no_grad():
                    with suppress(Stopped):
                        side.owner(input_ids=ids.to(self.device), use_cache=False, **beside)
                yield seen.pop()

    def encoded(self, hidden: Tensor) -> Tensor:
        """Return the encoder's output for the output of its last block, [rows, length, width]."""
        side = self._sides[0]

        def standing_in(number: int) -> Callable[..., Any]:
            return lambda *arguments, **keywords: side.output(hidden)

        with self._replaced(standing_in), blaming(self.name, "run"), torch.no_grad():
            states: Tensor = side.owner(inputs_embeds=torch.zeros_like(hidden), use_cache=False).last_hidden_state
        return states

    def logits(self, hidden: Tensor) -> Iterator[Tensor]:
        """Give logits [n, vocabulary] for the last block's output, [positions, width], some positions at a time."""
        prompt = self._zeros(1, TRIAL_LENGTHS[0])
        with self._filled(self.module.get_output_embeddings()), torch.no_grad():
            for part in torch.split(hidden, HEAD_POSITIONS):
                rows = part[None]

                def standing_in(number: int, rows: Tensor = rows) -> Callable[..., Any]:
                    side = self._side(number)
                    return lambda *arguments, **keywords: side.output(rows if side.start else prompt)

                with self._replaced(standing_in), blaming(self.name, "run"):
                    zeros = torch.zeros_like(rows)
                    yield self.module(inputs_embeds=prompt, decoder_inputs_embeds=zeros, use_cache=False).logits[0]

    def check_alone(self, ids: Sequence[int]) -> None:
        """Compare blocks that run alone with the network as it is; the decoder reads half of the ids.

        Raises EvaluationError where the two differ.
        """
        row = torch.tensor([list(ids)], device=self.device)
        answer = row[:, : len(ids) // 2 + 1]
        plain, encoded = self._run_as_it_is(row, answer)
        (hidden,) = self.starts([row])
        for number in range(self.depth):
            theirs = None
            if number == self.turns_at:
                self._compare("the encoder", self.encoded(hidden), encoded)
                (hidden,) = self.answer_starts([answer])
            if number >= self._sides[1].start:
                theirs = encoded
            rows, length = hidden.shape[:2]
            call = self.call(number, rows, length, theirs)
            hidden = self.run_block(self.block(number), hidden, call)
            self._compare(f"block {number}", hidden, plain[number])

    def _run_as_it_is(self, row: Tensor, answer: Tensor) -> tuple[list[Tensor], Tensor]:
        """Run both sides with their blocks' numbers, block by block; return each output, and the encoder's.

        All that blocks give is handed on, as the network does it.
        """
        plain: list[Tensor] = []

        def loaded(number: int) -> Callable[..., Any]:
            def forward(*arguments: Any, **keywords: Any) -> Any:
                given = self.block(number)(*arguments, **keywords)
                plain.append(given[0] if isinstance(given, tuple) else given)
                return given

            return forward

        encoder, decoder = (side.owner for side in self._sides)
        with self._replaced(loaded), blaming(self.name, "run"), torch.no_grad():
            with self._filled(encoder.get_input_embeddings()):
                encoded: Tensor = encoder(input_ids=row, use_cache=False).last_hidden_state
            with self._filled(decoder.get_input_embeddings()):
                decoder(input_ids=answer, encoder_hidden_states=encoded, use_cache=False)
        return plain, encoded
