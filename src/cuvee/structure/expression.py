"""Rules of layers are written as expressions in a small part of Python: this reads and evaluates them.

Nothing else of Python is there: no attributes, no calls but of the functions below, no names but those given.
"""

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Mod: operator.mod,
    ast.FloorDiv: operator.floordiv,
}
_COMPARING: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}


class ExpressionError(ValueError):
    """An expression does not fit the values that it is given."""


def evaluate(text: str, names: Mapping[str, Any]) -> Any:
    """Evaluate an expression. A name that is not among `names` is None. Raises ExpressionError."""
    try:
        return _value(_parsed(text), names)
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise ExpressionError(f"'{text}': {error}") from error


@cache
def names_in(text: str) -> tuple[str, ...]:
    """List the names that an expression uses, functions left out, in their order."""
    nodes = ast.walk(_parsed(text))
    names = [node.id for node in nodes if isinstance(node, ast.Name)]
    return tuple(name for name in dict.fromkeys(names) if name not in _FUNCTIONS)


@cache
def _parsed(text: str) -> ast.expr:
    return ast.parse(text.strip(), mode="eval").body


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return names.get(name)
        case ast.IfExp(test=test, body=body, orelse=other):
            branch = body if _value(test, names) else other
            return _value(branch, names)
        case ast.BoolOp(op=op, values=values):
            return _first_that_decides(isinstance(op, ast.Or), values, names)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, names)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            function = _BINARY[type(op)]
            return function(_value(left, names), _value(right, names))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARING:
            compare = _COMPARING[type(op)]
            return compare(_value(left, names), _value(right, names))
        case ast.Subscript(value=value, slice=key):
            return _value(value, names)[_value(key, names)]
        case ast.List(elts=items):
            return [_value(item, names) for item in items]
        case ast.Dict(keys=keys, values=values):
            return _dictionary(keys, values, names)
        case ast.Call(func=ast.Name(id=name), args=nodes) if name in _FUNCTIONS:
            arguments = [_value(argument, names) for argument in nodes]
            return _FUNCTIONS[name](*arguments)
    raise ExpressionError(f"expressions know no {type(node).__name__}")


def _dictionary(
    keys: Sequence[ast.expr | None], values: Sequence[ast.expr], names: Mapping[str, Any]
) -> dict[Any, Any]:
    entries = {}
    for key, value in zip(keys, values, strict=True):
        if key is not None:  # None stands for the ** of another dictionary
            entries[_value(key, names)] = _value(value, names)
    return entries


def _first_that_decides(wanted: bool, values: Sequence[ast.expr], names: Mapping[str, Any]) -> Any:
    value = None
    for node in values:
        value = _value(node, names)
        if bool(value) == wanted:
            return value
    return value


def _where(values: Sequence[Any]) -> list[int]:
    """Return the indices of the true values."""
    return [i for i, value in enumerate(values) if value]


def _where_not(values: Sequence[Any]) -> list[int]:
    return [i for i, value in enumerate(values) if not value]


def _last(values: Sequence[Any], value: Any, end: int) -> int | None:
    """Return the last index before `end` that has the value."""
    for i in reversed(range(end)):
        if values[i] == value:
            return i
    return None


def _repeated(runs: Sequence[Any]) -> list[Any]:
    """Write out [[values, times], ...]."""
    written: list[Any] = []
    for values, times in runs:
        written += [*values] * times
    return written


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "where": _where,
    "where_not": _where_not,
    "last": _last,
    "repeated": _repeated,
    "count": lambda values: sum(map(bool, values)),
    "int": int,
    "len": len,
}
