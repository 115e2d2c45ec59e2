"""A model run one block at a time, with the numbers of one block in memory.

transformers builds the network without numbers. The part outside the blocks is small, but for the embedding and the
head, which are read when they are needed. How a block is called, its mask, its positions, is recorded in a run of the
network in which blocks hand their input on unchanged, so no name of an argument is written here.
"""

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cuvee.evaluation.library import blaming, load_skeleton  # first, for it says which extra is missing

# isort: split
import torch

from cuvee.calibrate.stored import Stored, stored_names
from cuvee.checkpoint import TensorSource
from cuvee.errors import CheckpointError, EvaluationError
from cuvee.structure import Stack, stacks

Tensor = torch.Tensor

TORCH = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

MOST_DIFFERENCE = 1e-3
"""Of the largest number that a block gives: how far it may be off when it runs alone, in float32."""

TRIAL_TOKENS = 24
"""Tokens on which it is tried whether blocks can be run alone."""

NOT_ALONE = "this model can be neither aligned nor calibrated"

HEAD_POSITIONS = 256
"""Positions for which logits are in memory at once."""

MOST_CALLS = 64
"""Shapes of batches for which it is kept how blocks are called."""


@dataclass(frozen=True)
class Call:
    """How a block is called beside its input: further arguments, and keywords."""

    further: tuple[Any, ...]
    keywords: Mapping[str, Any]
    by_name: str | None


class BlockNetwork:
    """One model, block by block. `name` is for messages, `folder` has its config and tokenizer.

    Raises EvaluationError for a model whose blocks cannot be run alone, CheckpointError for a model that lacks tensors.
    """

    def __init__(self, source: TensorSource, folder: Path, name: str, *, device: torch.device) -> None:
        self.name = name
        self.device = device
        self._lock = threading.Lock()
        self._calls: OrderedDict[tuple[int, int], list[Call]] = OrderedDict()
        self._source = source
        self.module, self.tokenizer = load_skeleton(folder)
        self._stacks = self._find_stacks()
        self._owner = self._submodule(self._stacks[-1].prefix.rpartition(".")[0])
        self._paths: list[str] = []
        for stack in self._stacks:
            self._paths += [f"{stack.prefix}.{number}" for number in range(stack.depth)]
        self.depth = len(self._paths)
        self._blocks = [self._submodule(path) for path in self._paths]
        self._names = stored_names(self.module, source, self._paths, name)
        self._embedding = self.module.get_input_embeddings()
        self._gives_tuple = 0
        try:
            with blaming(name, "run"), torch.no_grad():
                self._load_small_parts()
                self._gives_tuple = self._learn_output()
        except EvaluationError as error:
            message = f"its blocks cannot be run alone: {error.message}"
            raise EvaluationError(message, where=name, hint=NOT_ALONE) from error

    @property
    def embedding_bytes(self) -> int:
        """The bytes of the embedding of tokens while it is held."""
        return 4 * int(self._embedding.weight.numel())

    turns_at: int | None = None
    """The first block of a decoder that follows an encoder; None where there is no encoder."""

    def _find_stacks(self) -> tuple[Stack, ...]:
        """Return the stacks of blocks in the order in which they run."""
        decoder = self.module.get_decoder() if hasattr(self.module, "get_decoder") else self.module
        return (self._stack_in(decoder),)

    def _stack_in(self, owner: Any) -> Stack:
        paths = {id(module): path for path, module in self.module.named_modules()}
        path = paths.get(id(owner), "")
        inside = f"{path}." if path else ""
        names = [name for name in self.module.state_dict() if name.startswith(inside)]
        for stack in stacks(names):
            blocks = self._submodule(stack.prefix)
            if isinstance(blocks, torch.nn.ModuleList) and len(blocks) == stack.depth:
                return stack
        raise EvaluationError("no list of blocks was found in this model", where=self.name)

    def _submodule(self, path: str) -> Any:
        return self.module.get_submodule(path)

    def _load_small_parts(self) -> None:
        """Read the tensors that the network needs outside its blocks, but for the embedding of tokens and the head."""
        large = set(map(id, self._embedding.parameters()))
        head = self.module.get_output_embeddings()
        if head is not None:
            large |= set(map(id, head.parameters()))
        insides = tuple(f"{path}." for path in self._paths)
        for name, tensor in [*self.module.named_parameters(), *self.module.named_buffers()]:
            is_small = not name.startswith(insides) and id(tensor) not in large
            if is_small and name in self._names:
                self._put(name)

    def _put(self, name: str) -> None:
        owner, _, own = name.rpartition(".")
        module = self._submodule(owner)
        value = self._names[name].read(self._source).to(self.device)
        if own in module._parameters:
            module._parameters[own] = torch.nn.Parameter(value, requires_grad=False)
        else:
            module._buffers[own] = value

    @contextmanager
    def _filled(self, layer: Any) -> Iterator[None]:
        """Give an embedding or a head its numbers, and take them away."""
        if layer is None:
            yield
            return
        before = dict(layer._parameters)
        path = next(name for name, module in self.module.named_modules() if module is layer)
        try:
            for own, parameter in before.items():
                if parameter is not None:
                    self._put(self._stored_as(f"{path}.{own}"))
            self._copy_tied(layer, path, before)
            yield
        finally:
            layer._parameters.update(before)

    def _stored_as(self, name: str) -> str:
        """Return the name of the tensor that holds a parameter: its own, or that of the embedding tied to it."""
        if name in self._names:
            return name
        if not self.module.config.get_text_config().tie_word_embeddings:
            raise CheckpointError(f"the model has no tensor for '{name}'", where=self.name)
        embedding = next(path for path, module in self.module.named_modules() if module is self._embedding)
        return f"{embedding}.{name.rpartition('.')[2]}"

    def _copy_tied(self, layer: Any, path: str, before: Mapping[str, Any]) -> None:
        """Move numbers that were read into the embedding, because the head is tied to it, into the head."""
        for own in before:
            if before[own] is not None and f"{path}.{own}" not in self._names:
                layer._parameters[own] = self._embedding._parameters[own]
                self._embedding._parameters[own] = before[own]

    @contextmanager
    def _replaced(self, forward: Callable[[int], Callable[..., Any]]) -> Iterator[None]:
        """Let `forward` take the place of each block's own work, by its number."""
        for number, block in enumerate(self._blocks):
            block.forward = forward(number)
        try:
            yield
        finally:
            for block in self._blocks:
                del block.forward

    def _output(self, hidden: Tensor) -> Any:
        """Return hidden states as a block of this model gives them."""
        return (hidden, *[None] * (self._gives_tuple - 1)) if self._gives_tuple else hidden

    def _learn_output(self) -> int:
        """Return of how many values the tuple is that a block gives; 0 for a bare tensor."""
        seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        def stopping(number: int) -> Callable[..., Any]:
            def forward(*arguments: Any, **keywords: Any) -> Any:
                seen.append((arguments, keywords))
                raise Stopped

            return forward

        rows = torch.zeros(1, 3, self.width, device=self.device)
        with self._replaced(stopping):
            with suppress(Stopped):
                self._owner(inputs_embeds=rows, use_cache=False)
        arguments, keywords = seen[0]
        found = self.block(0)(*arguments, **keywords)
        return len(found) if isinstance(found, tuple) else 0

    @property
    def width(self) -> int:
        """The size of a hidden state."""
        return int(self._embedding.weight.shape[-1])

    def call(self, number: int, rows: int, length: int, encoded: Tensor | None = None) -> Call:
        """Return how block `number` is called for a batch of `rows` rows of `length` tokens.

        A block of a decoder that follows an encoder also sees the encoder's output, [rows, length there, width].
        """
        with self._lock:
            shape = rows, length
            if shape not in self._calls:
                self._calls[shape] = self._record(rows, length)
                while len(self._calls) > MOST_CALLS:
                    self._calls.popitem(last=False)
            self._calls.move_to_end(shape)
            return self._calls[shape][number]

    def _record(self, rows: int, length: int) -> list[Call]:
        calls: list[Call] = []

        def note(number: int, call: Call, hidden: Tensor) -> Tensor:
            calls.append(call)
            return hidden

        self._run(torch.zeros(rows, length, self.width, device=self.device), note)
        return calls

    def starts(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Give the input of the first block for rows of ids, [rows, length] each: [rows, length, width]."""
        seen: list[Tensor] = []

        def note(number: int, call: Call, hidden: Tensor) -> Tensor:
            if number == 0:
                seen.append(hidden)
            return hidden

        with self._filled(self._embedding):
            for ids in batches:
                self._run(None, note, ids=ids.to(self.device))
                yield seen.pop()

    def _run(
        self, embedded: Tensor | None, step: Callable[[int, Call, Tensor], Tensor], ids: Tensor | None = None
    ) -> Any:
        """Run the part that owns the blocks; `step` takes the place of each. Return its output."""

        def standing_in(number: int) -> Callable[..., Any]:
            def forward(*arguments: Any, **keywords: Any) -> Any:
                hidden, call = taken_apart(arguments, keywords)
                return self._output(step(number, call, hidden))

            return forward

        with self._replaced(standing_in), blaming(self.name, "run"), torch.no_grad():
            if ids is not None:
                return self._owner(input_ids=ids, use_cache=False)
            return self._owner(inputs_embeds=embedded, use_cache=False)

    def logits(self, hidden: Tensor) -> Iterator[Tensor]:
        """Give logits [n, vocabulary] for the last block's output, [positions, width], some positions at a time."""
        last = self.depth - 1
        with self._filled(self.module.get_output_embeddings()), torch.no_grad():
            for part in torch.split(hidden, HEAD_POSITIONS):
                rows = part[:, None]  # rows of one token each: a network may have positions for few

                def ended(number: int, rows: Tensor = rows) -> Callable[..., Any]:
                    def forward(*arguments: Any, **keywords: Any) -> Any:
                        return self._output(rows if number == last else taken_apart(arguments, keywords)[0])

                    return forward

                with self._replaced(ended), blaming(self.name, "run"):
                    yield self.module(inputs_embeds=torch.zeros_like(rows), use_cache=False).logits[:, 0]

    def block(self, number: int, changed: Mapping[str, Tensor] | None = None) -> Any:
        """Return block `number` with its numbers, in float32. `changed` are tensors by their names within the block."""
        with self._lock:
            alone = copy.deepcopy(self._blocks[number])
        alone.__dict__.pop("forward", None)  # what stands in for it while the network runs
        values = {}
        for name in self.tensor_names(number):
            value = (changed or {}).get(name)
            values[name] = self.read(number, name) if value is None else value
        values = {name: value.to(self.device, torch.float32) for name, value in values.items()}
        alone.load_state_dict(values, assign=True)
        return alone.eval().requires_grad_(False)

    def whole(self) -> Any:
        """Return the network with all its numbers, in float32. Raises CheckpointError for numbers that are missing."""
        module = copy.deepcopy(self.module)
        values = {name: stored.read(self._source).to(self.device) for name, stored in self._names.items()}
        module.load_state_dict(values, assign=True, strict=False)
        module.tie_weights()
        for name, parameter in module.named_parameters():
            if parameter.is_meta:
                raise CheckpointError(f"the model has no tensor for '{name}'", where=self.name)
        return module.eval()

    def stored(self, name: str) -> Stored | None:
        """Return where a tensor of the network is stored; None where it is not."""
        return self._names.get(name)

    @property
    def tensors_in_file(self) -> int:
        """How many tensors the checkpoint has."""
        return len(self._source.tensors)

    def shape_in_file(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor of the checkpoint."""
        return tuple(self._source.tensors[name].shape)

    def path(self, number: int) -> str:
        """Return a block's name in the network."""
        return self._paths[number]

    def tensor_names(self, number: int) -> list[str]:
        """Return the names of a block's tensors within the block."""
        return list(self._blocks[number].state_dict())

    def shapes(self, number: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of a block's tensors by their names within the block."""
        return {name: tuple(tensor.shape) for name, tensor in self._blocks[number].state_dict().items()}

    def read(self, number: int, name: str) -> Tensor:
        """Read a tensor of a block by its name within the block."""
        whole = f"{self._paths[number]}.{name}"
        if whole not in self._names:
            raise CheckpointError(f"the model has no tensor for '{whole}'", where=self.name)
        return self._names[whole].read(self._source)

    def stored_name(self, number: int, name: str) -> str | None:
        """Return the name that a tensor of a block has in the checkpoint; None if it is stored in parts."""
        return self._names[f"{self._paths[number]}.{name}"].name

    def stored_rows(self, number: int, name: str) -> tuple[str, ...]:
        """Return the tensors of the checkpoint that hold rows of a block's tensor, stacked; () if there are none."""
        return self._names[f"{self._paths[number]}.{name}"].rows

    def stored_dtype(self, number: int, name: str) -> torch.dtype:
        """Return the type of numbers that a tensor of a block is stored in."""
        spec = self._source.tensors[self.stored_name(number, name) or ""]
        return TORCH[spec.dtype]

    def run_block(self, block: Any, hidden: Tensor, call: Call) -> Tensor:
        """Return the output of a block for hidden states [rows, length, width]."""
        with blaming(self.name, "run"), torch.no_grad():
            if call.by_name is None:
                found = block(hidden, *call.further, **call.keywords)
            else:
                found = block(*call.further, **{**call.keywords, call.by_name: hidden})
        hidden_after: Tensor = found[0] if isinstance(found, tuple) else found
        return hidden_after

    def check_alone(self, ids: Sequence[int]) -> None:
        """Compare blocks that run alone with the network as it is, on one row of ids.

        Raises EvaluationError where the two differ, CheckpointError where a block gives numbers that are not finite.
        """
        row = torch.tensor([list(ids)], device=self.device)
        plain: list[Tensor] = []

        def loaded(number: int, call: Call, hidden: Tensor) -> Tensor:
            plain.append(self.run_block(self.block(number), hidden, call))
            return plain[-1]

        with self._filled(self._embedding):
            self._run(None, loaded, ids=row)
        (hidden,) = self.starts([row])
        if tuple(hidden.shape) != (1, len(ids), self.width):
            shape = f"hidden states of {len(ids)} tokens are {list(hidden.shape)}, expected {[1, len(ids), self.width]}"
            message = f"its blocks cannot be run alone: {shape}"
            raise EvaluationError(message, where=self.name, hint=NOT_ALONE)
        for number in range(self.depth):
            hidden = self.run_block(self.block(number), hidden, self.call(number, 1, len(ids)))
            self._compare(f"block {number}", hidden, plain[number])

    def _compare(self, what: str, alone: Tensor, plain: Tensor) -> None:
        if not bool(plain.isfinite().all()):
            raise CheckpointError(f"{what} gives numbers that are not finite", where=self.name)
        size = float(plain.abs().max())
        difference = float((alone - plain).abs().max())
        if not difference <= MOST_DIFFERENCE * max(size, 1e-6):
            message = f"its blocks cannot be run alone: {what} is off by {difference:.3g} of {size:.3g}"
            raise EvaluationError(message, where=self.name, hint=NOT_ALONE)


class Stopped(Exception):
    """Ends a run of the network at its first block."""


def taken_apart(arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> tuple[Tensor, Call]:
    """Tell the hidden states, the first argument or the first keyword, from the rest of a call."""
    if arguments:
        return arguments[0], Call(arguments[1:], dict(keywords), None)
    name = next(iter(keywords))
    rest = {key: value for key, value in keywords.items() if key != name}
    return keywords[name], Call((), rest, name)
