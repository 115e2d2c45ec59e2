"""Loops that are written out for LLVM, where it does not find the best by itself: sums of products, and lists.

Inner products of few models: each number is widened once, sums stay in registers. As a loop over two models it takes
twice as long: most of the time goes into making float64 of float32 numbers, and LLVM, which cannot know that arrays are
different, keeps sums in memory.
"""

from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

from cuvee.kernels.fused.words import LISTED, TILE
from cuvee.kernels.protocol import LANES

_WIDTH = 4
"""Numbers in a vector: float64 ones that fill a register of AVX2. Wider ones bring nothing where they are halved."""

_SUMS = 6
"""Sums that are under way at once, so that no addition waits for the one before."""

_SUMS_OF_ONE = 8
"""The same where each takes one row, or two."""


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]  # numba says no types
def add_products(context: Any, tiles: Any, models: Any, rounds: Any, lanes: Any) -> tuple[Any, Callable[..., Any]]:
    """Add the products of the first `rounds` x LANES numbers of `tiles` [.., TILE] to `lanes` [.., .., LANES].

    Of `models` tiles, a number written out; of two models the later comes first in `lanes`. Each lane takes its
    products in the order of the rounds. They are exact in float64, so that to add them in the same instruction changes
    nothing.
    """
    count = models.literal_value

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        made = [context.make_array(signature.args[place])(context, builder, arguments[place]) for place in (0, 3)]
        row = builder.udiv(builder.extract_value(made[1].strides, 0), ir.IntType(64)(8))
        pairs = [(i, j) for j, i in combinations_with_replacement(range(count), 2)]
        together = max(1, _SUMS // len(pairs)) * _WIDTH
        for first in range(0, LANES, together):
            starts = range(first, min(first + together, LANES), _WIDTH)
            _Loop(builder, made[0].data, made[1].data, row).write(arguments[2], pairs, starts)
        return context.get_dummy_value()

    return types.void(tiles, models, rounds, lanes), generate


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]  # numba says no types
def add_lanes(
    context: Any, first: Any, second: Any, factors: Any, rounds: Any, lanes: Any
) -> tuple[Any, Callable[..., Any]]:
    """Add the first `rounds` x LANES numbers of a row to `lanes` [LANES], or their squares, or products with `second`.

    `factors`, a number written out, says which: 0, 1 or 2. Products are exact in float64, as above.
    """
    count = factors.literal_value

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        made = [context.make_array(signature.args[place])(context, builder, arguments[place]) for place in (0, 1, 4)]
        rows = [(made[0].data,), (made[0].data, made[0].data), (made[0].data, made[1].data)][count]
        together = _SUMS_OF_ONE * _WIDTH
        for start in range(0, LANES, together):
            loop = _RowLoop(builder, rows, made[2].data)
            loop.write(arguments[3], [(0, 0)], range(start, min(start + together, LANES), _WIDTH))
        return context.get_dummy_value()

    return types.void(first, second, factors, rounds, lanes), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba says no types
def list_marked(context: Any, marks: Any, first: Any, rounds: Any, out: Any) -> tuple[Any, Callable[..., Any]]:
    """List `first` + the places of the first `rounds` x LISTED `marks` (uint32) that are not zero; return how many.

    `out` (uint32) has room for LISTED places more than that. It takes no branch for a mark, which nobody could foresee.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        source, target = (context.make_array(signature.args[k])(context, builder, arguments[k]).data for k in (0, 3))
        return _listed(builder, source, target, arguments[1], arguments[2])

    return types.int64(marks, types.int32, types.int64, out), generate


def _listed(builder: Any, marks: Any, out: Any, first: Any, rounds: Any) -> Any:
    whole, words = ir.IntType(64), ir.VectorType(ir.IntType(32), LISTED)
    compress = _named(builder, "llvm.experimental.vector.compress.v16i32", words, [words, _flags(), words])
    count_bits = _named(builder, "llvm.ctpop.i16", ir.IntType(16), [ir.IntType(16)])
    steps = ir.Constant(words, list(range(LISTED)))
    start = builder.add(steps, _spread(builder, first, words))
    before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
    builder.cbranch(builder.icmp_signed(">", rounds, whole(0)), loop, after)
    builder.position_at_end(loop)
    turn, count, places = builder.phi(whole), builder.phi(whole), builder.phi(words)
    mark = builder.load(_at(builder, marks, builder.mul(turn, whole(LISTED)), words), align=4)
    is_marked = builder.icmp_unsigned("!=", mark, ir.Constant(words, None))
    listed = builder.call(compress, [places, is_marked, ir.Constant(words, ir.Undefined)])
    builder.store(listed, _at(builder, out, count, words), align=4)
    marked = builder.call(count_bits, [builder.bitcast(is_marked, ir.IntType(16))])
    counted = builder.add(count, builder.zext(marked, whole))
    following, further = builder.add(turn, whole(1)), builder.add(places, ir.Constant(words, [LISTED] * LISTED))
    builder.cbranch(builder.icmp_signed("<", following, rounds), loop, after)
    for value, begin, end in ((turn, whole(0), following), (count, whole(0), counted), (places, start, further)):
        value.add_incoming(begin, before)
        value.add_incoming(end, loop)
    builder.position_at_end(after)
    total = builder.phi(whole)
    total.add_incoming(whole(0), before)
    total.add_incoming(counted, loop)
    return total


def _flags() -> Any:
    return ir.VectorType(ir.IntType(1), LISTED)


def _named(builder: Any, name: str, result: Any, arguments: Sequence[Any]) -> Any:
    return get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)


def _spread(builder: Any, number: Any, kind: Any) -> Any:
    """Return a vector of a number in every place."""
    nothing, place = ir.Constant(kind, ir.Undefined), ir.IntType(32)(0)
    one = builder.insert_element(nothing, number, place)
    return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(ir.IntType(32), kind.count), None))


def _at(builder: Any, array: Any, place: Any, kind: Any) -> Any:
    return builder.bitcast(builder.gep(array, [place]), kind.as_pointer())


class _Loop:
    """A loop over the rounds that is being written."""

    def __init__(self, builder: Any, tiles: Any, lanes: Any, row: Any) -> None:
        self.builder = builder
        self.tiles = tiles
        self.lanes = lanes
        self.row = row
        """Numbers from one model's lanes to the next one's."""

    def write(self, rounds: Any, pairs: Sequence[tuple[int, int]], starts: Sequence[int]) -> None:
        """Write the loop for some pairs of models and for the vectors of lanes that begin at `starts`."""
        builder, number = self.builder, rounds.type
        before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
        places = [self._place(pair, start, number) for start in starts for pair in pairs]
        sums = [builder.load(place, align=8) for place in places]
        builder.cbranch(builder.icmp_signed(">", rounds, number(0)), loop, after)
        builder.position_at_end(loop)
        turn, *running = [builder.phi(value.type) for value in (rounds, *sums)]
        products = [product for start in starts for product in self._products(turn, pairs, start)]
        added = [builder.fadd(s, p, flags=("contract",)) for s, p in zip(running, products, strict=True)]
        following = builder.add(turn, number(1))
        builder.cbranch(builder.icmp_signed("<", following, rounds), loop, after)
        self._join([turn, *running], [number(0), *sums], before, [following, *added], loop)
        builder.position_at_end(after)
        totals = [builder.phi(value.type) for value in sums]
        self._join(totals, sums, before, added, loop)
        for total, place in zip(totals, places, strict=True):
            builder.store(total, place, align=8)

    def _products(self, turn: Any, pairs: Sequence[tuple[int, int]], start: int) -> list[Any]:
        builder, number = self.builder, turn.type
        wide = {}
        for model in sorted({model for pair in pairs for model in pair}):
            at = builder.add(builder.mul(turn, number(LANES)), number(model * TILE + start))
            vector = builder.load(self._vector(self.tiles, at, ir.FloatType()), align=4)
            wide[model] = builder.fpext(vector, ir.VectorType(ir.DoubleType(), _WIDTH))
        return [builder.fmul(wide[i], wide[j], flags=("contract",)) for i, j in pairs]

    def _place(self, pair: tuple[int, int], start: int, number: Any) -> Any:
        at = self.builder.add(self.builder.mul(self.row, number(pair[0])), number(pair[1] * LANES + start))
        return self._vector(self.lanes, at, ir.DoubleType())

    def _vector(self, array: Any, at: Any, kind: Any) -> Any:
        pointer = ir.VectorType(kind, _WIDTH).as_pointer()
        return self.builder.bitcast(self.builder.gep(array, [at]), pointer)

    def _join(self, phis: Sequence[Any], first: Sequence[Any], before: Any, later: Sequence[Any], loop: Any) -> None:
        for phi, begin, end in zip(phis, first, later, strict=True):
            phi.add_incoming(begin, before)
            phi.add_incoming(end, loop)


class _RowLoop(_Loop):
    """The same over the numbers of a row, their squares, or their products with another row's."""

    def __init__(self, builder: Any, rows: Sequence[Any], lanes: Any) -> None:
        super().__init__(builder, rows[0], lanes, None)
        self.rows = rows

    def _products(self, turn: Any, pairs: Sequence[tuple[int, int]], start: int) -> list[Any]:
        builder, number = self.builder, turn.type
        at = builder.add(builder.mul(turn, number(LANES)), number(start))
        wide = {}
        for row in dict.fromkeys(self.rows):
            vector = builder.load(self._vector(row, at, ir.FloatType()), align=4)
            wide[row] = builder.fpext(vector, ir.VectorType(ir.DoubleType(), _WIDTH))
        product, *others = [wide[row] for row in self.rows]
        for other in others:
            product = builder.fmul(product, other, flags=("contract",))
        return [product]

    def _place(self, pair: tuple[int, int], start: int, number: Any) -> Any:
        return self._vector(self.lanes, number(start), ir.DoubleType())
