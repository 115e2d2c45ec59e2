"""Stepwise rules in compiled passes: a rule is run once on names of numbers, which notes its steps as a program.

The rule is the same generator that `ops.stepwise` runs on arrays, and the bits are the same. Sums over a tensor come
back as plain numbers, so that what a rule computes from them, and how it branches on them, is no part of a program.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from cuvee.kernels import Block
from cuvee.kernels.program import Op, Place, Program
from cuvee.ops.gram import as_matrices
from cuvee.ops.stepwise import rounded, run_on
from cuvee.ops.survey import Scope, row_length

_UFUNCS = {
    np.add: Op.ADD,
    np.subtract: Op.SUBTRACT,
    np.multiply: Op.MULTIPLY,
    np.divide: Op.DIVIDE,
    np.minimum: Op.MINIMUM,
    np.equal: Op.EQUAL,
    np.absolute: Op.ABSOLUTE,
}
_OF_PLACES = (Op.LOAD, Op.RESUME, Op.CHANGE)
"""Steps whose first argument is no register."""

_CONSTANT = -1


class Untraceable(TypeError):
    """A rule does something with numbers that no program can do."""


class _Node(NamedTuple):
    """A step on other nodes. Constants, inputs and kept numbers have a `place` in their kind."""

    op: int
    nodes: tuple[int, ...]
    place: int = 0


class _End(NamedTuple):
    """A step that gives something out."""

    op: Op
    nodes: tuple[int, ...]


@dataclass
class _Trace:
    """The steps of a rule so far. State: nodes, each once, and the constants."""

    nodes: list[_Node] = field(default_factory=list)
    constants: list[np.ndarray] = field(default_factory=list)
    _places: dict[_Node, int] = field(default_factory=dict)
    _constants: dict[bytes, int] = field(default_factory=dict)

    def node(self, op: int, *nodes: int, place: int = 0) -> int:
        node = _Node(op, nodes, place)
        if node not in self._places:
            self._places[node] = len(self.nodes)
            self.nodes.append(node)
        return self._places[node]

    def constant(self, numbers: np.ndarray) -> int:
        place = self._constants.setdefault(numbers.tobytes(), len(self.constants))
        if place == len(self.constants):
            self.constants.append(numbers)
        return self.node(_CONSTANT, place=place)

    def rounded(self, node: int) -> int:
        op, nodes, _ = self.nodes[node]
        if self.is_rounded(node):
            return node
        if op == Op.SUBTRACT and self.nodes[nodes[0]].op == Op.LOAD:
            return self.node(Op.CHANGE, nodes[1], place=self.nodes[nodes[0]].place)
        if Op.ADD <= op <= Op.DIVIDE:
            return self.node(op + Op.ROUNDED, *nodes)
        return self.node(Op.ROUND, node)

    def is_rounded(self, node: int) -> bool:
        op = self.nodes[node].op
        return Op.ROUNDED <= op <= Op.RESUME or op == Op.CHANGE

    def program(self, ends: Sequence[_End], scope: Scope, entries: int) -> Program:
        """Return the program of some ends, and of all that they need, with so many entries in each constant."""
        order = self._in_order(ends)
        constants = [node for node in order if self.nodes[node].op == _CONSTANT]
        registers = _Registers(self._uses(order, ends), constants)
        steps: list[tuple[int, ...]] = []
        left = list(ends)
        for node in order:
            op, nodes, place = self.nodes[node]
            if op != _CONSTANT:
                first = (place,) if op in _OF_PLACES else ()
                steps.append(_step(op, (*first, *registers.of(nodes)), registers.take(node)))
                registers.release(nodes)
            while left and left[0].op != Op.KEEP and registers.hold(left[0].nodes):
                place = len(ends) - len(left)
                steps.append(_end_step(left.pop(0), place, registers))
        steps += [_end_step(end, len(ends), registers) for end in left]
        numbers = self._numbers(constants, entries)
        return Program(np.array(steps, np.int64), registers.count, numbers, _sums(ends), _of_one_tensor(scope))

    def _in_order(self, ends: Sequence[_End]) -> list[int]:
        """List the nodes that are needed, each after those it needs."""
        order: dict[int, None] = {}
        waiting = [node for end in reversed(ends) for node in reversed(end.nodes)]
        while waiting:
            node = waiting.pop()
            needed = [other for other in self.nodes[node].nodes if other not in order]
            if node in order:
                continue
            if needed:
                waiting += [node, *reversed(needed)]
            else:
                order[node] = None
        return list(order)

    def _uses(self, order: Sequence[int], ends: Sequence[_End]) -> Counter[int]:
        uses = Counter(node for end in ends for node in end.nodes)
        for node in order:
            uses.update(self.nodes[node].nodes)
        return uses

    def _numbers(self, constants: Sequence[int], entries: int) -> np.ndarray:
        table = np.empty((len(constants), entries), np.float32)
        for row, node in zip(table, constants, strict=True):
            row[:] = self.constants[self.nodes[node].place]
        return table


class _Registers:
    """The registers of a program that is being written. State: which are free, and where nodes are."""

    def __init__(self, uses: Counter[int], constants: Sequence[int]) -> None:
        self.count = max(len(constants), 1)
        self._uses = uses
        self._where = {node: register for register, node in enumerate(constants)}
        self._constants = frozenset(constants)
        self._free: list[int] = []

    def of(self, nodes: Iterable[int]) -> tuple[int, ...]:
        return tuple(self._where[node] for node in nodes)

    def hold(self, nodes: Iterable[int]) -> bool:
        return all(node in self._where for node in nodes)

    def take(self, node: int) -> int:
        """Return a register for a node: none that its own step reads, or the loop would not be vectorised."""
        if not self._free:
            self._free.append(self.count)
            self.count += 1
        self._where[node] = self._free.pop()
        return self._where[node]

    def release(self, nodes: Iterable[int]) -> None:
        for node in nodes:
            self._uses[node] -= 1
            if self._uses[node] == 0 and node not in self._constants:
                self._free.append(self._where[node])


def _step(op: int, arguments: Sequence[int], into: int) -> tuple[int, ...]:
    x, y, z = (*arguments, 0, 0, 0)[:3]
    return op, x, y, z, into


def _end_step(end: _End, place: int, registers: _Registers) -> tuple[int, ...]:
    x, y = (*registers.of(end.nodes), 0)[:2]
    registers.release(end.nodes)
    return end.op, x, y, place, 0


def _sums(ends: Sequence[_End]) -> int:
    return sum(end.op in (Op.SUM, Op.SUM_PRODUCTS) for end in ends)


def _of_one_tensor(scope: Scope) -> Any:
    assert scope != "model", "a rule is about one tensor"
    return scope


class Numbers(NDArrayOperatorsMixin):
    """Stands for an array [..., n] of which all steps are noted: `nodes` [...] are its rows."""

    def __init__(self, trace: _Trace, nodes: np.ndarray) -> None:
        self.trace = trace
        self.nodes = nodes

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator["Numbers"]:
        return (self[place] for place in range(len(self)))

    def __getitem__(self, index: Any) -> "Numbers":
        return Numbers(self.trace, np.asarray(self.nodes[index]))

    def sum(self, axis: int) -> "Numbers":
        """Add rows up in their order, as NumPy does along the first axis."""
        if axis != 0:
            raise Untraceable("a sum over entries is asked for by `Steps.total`")
        total, *others = self
        for other in others:
            total = total + other
        return total

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> "Numbers":
        op = _UFUNCS.get(ufunc)
        if op is None or method != "__call__" or options:
            raise Untraceable(f"no program does {ufunc.__name__}")
        return self._mapped(op, *inputs)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> "Numbers":
        if function is np.where and len(arguments) == 3 and not options:
            return self._chosen(*arguments)
        if function is np.zeros_like and not options:
            return self._like(0)
        raise Untraceable(f"no program does {function.__name__}")

    def _chosen(self, condition: Any, first: Any, second: Any) -> "Numbers":
        """A condition on sums that says the same of all entries is decided here."""
        if not isinstance(condition, Numbers):
            condition = np.asarray(condition, np.bool_)
            if condition.all() or not condition.any():
                chosen = first if condition.all() else second
                return self._like(np.zeros_like(condition[..., :1], np.float32), second, first, chosen)
            condition = condition.astype(np.float32)
        return self._mapped(Op.SELECT, condition, first, second)

    def _like(self, *numbers: Any) -> "Numbers":
        """Return the last of some numbers, in the shape that all of them have together."""
        rows = np.broadcast_arrays(*map(self._nodes, numbers), self.nodes if len(numbers) == 1 else np.int64(0))
        return Numbers(self.trace, rows[len(numbers) - 1])

    def _mapped(self, op: Op, *inputs: Any) -> "Numbers":
        rows = np.broadcast_arrays(*map(self._nodes, inputs))
        results = [self.trace.node(op, *map(int, each)) for each in zip(*(row.flat for row in rows), strict=True)]
        return Numbers(self.trace, np.array(results, np.int64).reshape(rows[0].shape))

    def _nodes(self, numbers: Any) -> np.ndarray:
        if isinstance(numbers, Numbers):
            return numbers.nodes
        if isinstance(numbers, int | float):
            return np.array(self.trace.constant(np.array([numbers], np.float32)))
        array = np.atleast_1d(numbers)
        if array.dtype != np.float32:
            raise Untraceable(f"numbers of {array.dtype} would be computed with")
        nodes = [self.trace.constant(row) for row in array.reshape(-1, array.shape[-1])]
        return np.array(nodes, np.int64).reshape(array.shape[:-1])


Run = Generator[Any, np.ndarray, Any]


class TracedSteps:
    """What a stepwise rule is run on, as `ops.stepwise.Steps`. State: the trace, and what scope its sums have.

    `resumed` says which numbers that the rule wants to keep an earlier pass has kept, counted from 0; -1: none.
    """

    def __init__(self, block: Block, shape: tuple[int, ...], resumed: int) -> None:
        self.trace = _Trace()
        self.scope: Scope = "tensor"
        self.shape = shape
        self.dtype = block.dtype
        self.wanted: tuple[int, int] | None = None
        """The last numbers that the rule wants to keep: their node, and how many were wanted before."""
        self._block = block
        self._resumed = resumed
        self._turn = -1
        loaded = np.array([self.trace.node(Op.LOAD, place=row) for row in range(len(block.rows))], np.int64)
        self.models = Numbers(self.trace, loaded[: block.models])
        self.base = Numbers(self.trace, loaded[-1:].reshape(())) if block.subtracts else None

    def rounded(self, numbers: Any) -> Any:
        if not isinstance(numbers, Numbers):
            return rounded(numbers, self.dtype, self._block.kernels)
        nodes = [self.trace.rounded(int(node)) for node in numbers.nodes.flat]
        return Numbers(self.trace, np.array(nodes, np.int64).reshape(numbers.nodes.shape))

    def total(self, numbers: Numbers, scope: Scope = "tensor") -> Run:
        ends = [_End(Op.SUM, (int(node),)) for node in numbers.nodes.flat]
        return (yield from self._total(ends, numbers.nodes.shape, scope))

    def inner(self, a: Numbers, b: Numbers, scope: Scope = "tensor") -> Run:
        left, right = np.broadcast_arrays(a.nodes, b.nodes)
        ends = [_End(Op.SUM_PRODUCTS, (int(a), int(b))) for a, b in zip(left.flat, right.flat, strict=True)]
        return (yield from self._total(ends, left.shape, scope))

    def length(self, numbers: Numbers, scope: Scope = "tensor") -> Run:
        return np.sqrt((yield from self.inner(numbers, numbers, scope))).astype(np.float32)

    def dot(self, a: Numbers, b: Numbers, scope: Scope = "tensor") -> Run:
        return self.rounded((yield from self.total(self.rounded(a * b), scope)))

    def kept(self, numbers: Numbers) -> Numbers:
        self._turn += 1
        node = int(numbers.nodes)
        if self._turn == self._resumed:
            return Numbers(self.trace, np.array(self.trace.node(Op.RESUME)))
        if self._turn > self._resumed and self.trace.is_rounded(node):
            self.wanted = (node, self._turn)
        return numbers

    def program(self, ends: Sequence[_End]) -> Program:
        """Return the program of some ends of the rule."""
        return self.trace.program(ends, self.scope, self.entries)

    @property
    def entries(self) -> int:
        """How many sums of their own scope a block, or of columns the tensor, has."""
        if self.scope == "row":
            return self._block.size // row_length(self.shape)
        return columns(self.shape) if self.scope == "column" else 1

    def _total(self, ends: Sequence[_End], shape: tuple[int, ...], scope: Scope) -> Run:
        self.scope = scope
        if scope == "row":  # a block has whole rows
            block, sums = self._block, np.zeros((len(ends), self.entries))
            block.kernels.compute(
                block, self.program(ends), place_of(block, self.shape, scope), _none(block), sums, _none(block)
            )
        else:
            sums = yield tuple(ends)
        return sums.reshape(*shape, -1)


def _none(block: Block) -> np.ndarray:
    return np.empty(0, block.dtype)


def columns(shape: tuple[int, ...]) -> int:
    """Return how many columns all matrices of a tensor have."""
    matrices, _, width = as_matrices(shape)
    return matrices * width


def place_of(block: Block, shape: tuple[int, ...], scope: Scope) -> Place:
    if scope == "row":
        return Place(row_length(shape), np.zeros(0, np.int64))
    if scope == "column":
        _, height, width = as_matrices(shape)
        rows = np.arange(block.start // width, (block.start + block.size) // width)
        return Place(width, rows // height)
    return Place(block.size, np.zeros(0, np.int64))


@dataclass(frozen=True)
class _Pass:
    """A program of a rule: of the next sums that it asks for, or else of its result. It keeps numbers of a turn."""

    program: Program
    asks: bool
    keeps: int | None


class Passes:
    """The passes of a rule over a tensor: one for each of its sums, and one that writes the result.

    State: the sums that are known, and the last numbers that the rule wanted to keep, if `room` bytes hold them.
    """

    def __init__(self, rule: Callable[[Any], Any], shape: tuple[int, ...], elements: int, room: int) -> None:
        self.rule = rule
        self.shape = shape
        self.elements = elements
        self.room = room
        self._known: list[np.ndarray] = []
        self._resumed = -1
        self._kept: np.ndarray | None = None
        self._last: _Pass | None = None

    def find(self, blocks: Iterable[Block]) -> None:
        """Go over the blocks for each sum that the rule asks for. Raises Untraceable."""
        while self._last is None:
            turn: _Pass | None = None
            total: Any = 0
            for block in blocks:
                turn = turn or self._traced(block)
                if not turn.asks:
                    self._last = turn
                    return
                total = self._part(block, turn.program) + total
            if turn is None:
                return
            self._known.append(total)
            self._resumed = self._resumed if turn.keeps is None else turn.keeps

    def write(self, block: Block, out: np.ndarray) -> None:
        """Write the merged numbers of a block, rounded to the type of `out`, once all sums are found."""
        assert self._last is not None, "the sums are found before"
        turn = self._traced(block) if self._last.program.scope == "row" else self._last
        self._compute(block, turn.program, np.zeros((turn.program.sums, 1)), out)

    def _part(self, block: Block, program: Program) -> np.ndarray:
        sums = np.zeros((program.sums, columns(self.shape) if program.scope == "column" else 1))
        self._compute(block, program, sums, _none(block))
        return sums

    def _compute(self, block: Block, program: Program, sums: np.ndarray, out: np.ndarray) -> None:
        kept = _none(block) if self._kept is None else self._kept[block.start : block.start + block.size]
        block.kernels.compute(block, program, place_of(block, self.shape, program.scope), kept, sums, out)

    def _traced(self, block: Block) -> _Pass:
        steps = TracedSteps(block, self.shape, self._resumed)
        asked, result = run_on(self.rule(steps), self._known)
        if asked is None:
            if not isinstance(result, Numbers):
                raise Untraceable("the result follows from no numbers of the models")
            return _Pass(steps.program([_End(Op.WRITE, (int(result.nodes),))]), False, None)
        ends = list(asked)
        if steps.wanted is None or not self._has_room(block.dtype):
            return _Pass(steps.program(ends), True, None)
        node, turn = steps.wanted
        ends.append(_End(Op.KEEP, (node,)))
        return _Pass(steps.program(ends), True, turn)

    def _has_room(self, dtype: np.dtype) -> bool:
        if self._kept is None and self.elements * dtype.itemsize <= self.room:
            self._kept = np.empty(self.elements, dtype)
        return self._kept is not None
