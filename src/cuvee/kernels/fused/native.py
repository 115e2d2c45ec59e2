"""Kernels as machine code: compiled by numba once, kept in a file, and from then on loaded without numba.

To import numba and to prepare it for a first call takes longer than to merge a small model. A kernel's object file
needs neither: llvmlite links it, ctypes calls it, without the interpreter's lock. Kernels allocate nothing and raise
nothing; the room they work in is an argument. Arrays are handed over as they are, and their fields are read by machine
code: to ask NumPy for an address takes longer than all the rest of a call.
"""

import ctypes
import importlib
import os
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from cuvee.errors import PlatformError

_HERE = Path(__file__).parent
_ENTRY = "cuvee_kernel"
_DONE = (0, -2)
"""What compiled functions return that return nothing."""

_ARRAY = object.__basicsize__
"""Where NumPy's array objects have the address of their data; see PyArrayObject_fields in NumPy's C API."""

_SLOTS = {
    "bool": ("?7x", "i8"),
    "uint16": ("H6x", "i16"),
    "int16": ("h6x", "i16"),
    "uint32": ("I4x", "i32"),
    "int": ("q", "i64"),
    "int64": ("q", "i64"),
    "float32": ("f4x", "float"),
    "float": ("d", "double"),
    "float64": ("d", "double"),
}
"""How a number is put into eight bytes, and what LLVM calls it."""

_Kinds = tuple[Any, ...]
_functions: dict[_Kinds, Callable[..., int]] = {}
_preparing = threading.RLock()
_engines: list[Any] = []
_compiling = {"seconds": 0.0}
"""How long this process has compiled so far. One thread compiles at a time, so that the seconds add up."""


def call(kernel: str, *arguments: Any) -> None:
    """Call a kernel, given as `module.function`, with arrays, numbers, bools and tuples of them."""
    kinds: list[Any] = [kernel]
    slots: list[Any] = []
    _take(arguments, kinds, slots)
    key = tuple(kinds)
    function = _functions.get(key) or _prepared(key, arguments)
    status = function(*slots)
    if status not in _DONE:
        raise PlatformError(f"the compiled kernel '{kernel}' stopped with {status}")


def compile_seconds() -> float:
    """Return how long this process has compiled kernels so far."""
    return _compiling["seconds"]


def is_kept(kernel: str) -> bool:
    """Say whether an earlier process left this kernel in a cache, or this one has it."""
    pattern = f"{kernel}-{_environment()}-*.o"
    return any(key[0] == kernel for key in _functions) or any(any(folder.glob(pattern)) for folder in _folders())


def _take(arguments: Sequence[Any], kinds: list[Any], slots: list[Any]) -> None:
    """Append the arguments' types, and the values to hand over: numbers, and where the array objects are."""
    for argument in arguments:
        kind = type(argument)
        if isinstance(argument, np.ndarray):
            flags = argument.flags
            kinds += ("[", argument.dtype, argument.ndim, flags.c_contiguous, flags.aligned)
            slots.append(id(argument))
        elif kind is tuple:
            kinds.append("(")
            _take(argument, kinds, slots)
            kinds.append(")")
        else:
            kinds.append(kind.__name__)
            slots.append(argument)


def _leaves(arguments: Sequence[Any]) -> Iterator[Any]:
    for argument in arguments:
        yield from _leaves(argument) if isinstance(argument, tuple) else [argument]


def _prepared(key: _Kinds, arguments: Sequence[Any]) -> Callable[..., int]:
    with _preparing:
        if key not in _functions:
            leaves = list(_leaves(arguments))
            for leaf in leaves:
                if isinstance(leaf, np.ndarray) and _address(leaf) != leaf.ctypes.data:
                    raise PlatformError("this NumPy keeps its arrays in another way than the compiled kernels expect")
            pack = struct.Struct("".join(_slot(leaf)[0] for leaf in leaves)).pack
            function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p)(_linked(_code(key, arguments)))
            _functions[key] = lambda *slots: function(pack(*slots))
        return _functions[key]


def _address(array: np.ndarray) -> int:
    return ctypes.c_void_p.from_address(id(array) + _ARRAY).value or 0


def _slot(leaf: Any) -> tuple[str, str]:
    return ("P", "ptr") if isinstance(leaf, np.ndarray) else _SLOTS[type(leaf).__name__]


def _entry(name: str, arguments: Sequence[Any]) -> str:
    """Return LLVM's text of a function that takes the packed slots and calls the compiled function.

    That function takes the fields of an array in turn: owner, parent, elements, size of each, data, shape, strides.
    """
    lines = ["%result = alloca ptr", "%raised = alloca ptr"]
    passed = ["ptr %result", "ptr %raised"]

    def load(kind: str, start: str, offset: int) -> str:
        at, value = f"%a{len(lines)}", f"%v{len(lines)}"
        lines.append(f"{at} = getelementptr i8, ptr {start}, i64 {offset}")
        lines.append(f"{value} = load {kind}, ptr {at}")
        return value

    for place, leaf in enumerate(_leaves(arguments)):
        kind = _slot(leaf)[1]
        given = load(kind, "%slots", 8 * place)
        if not isinstance(leaf, np.ndarray):
            passed.append(f"{kind} {given}")
            continue
        data, shapes, strides = (load("ptr", given, _ARRAY + 8 * field) for field in (0, 2, 3))
        sizes = [load("i64", shapes, 8 * axis) for axis in range(leaf.ndim)]
        count = sizes[0]
        for size in sizes[1:]:
            lines.append(f"%n{len(lines)} = mul i64 {count}, {size}")
            count = lines[-1].split(" ")[0]
        steps = [load("i64", strides, 8 * axis) for axis in range(leaf.ndim)]
        passed += ["ptr null", "ptr null", f"i64 {count}", f"i64 {leaf.itemsize}", f"ptr {data}"]
        passed += [f"i64 {value}" for value in sizes + steps]
    lines.append(f'%status = call i32 @"{name}"({", ".join(passed)})')
    lines.append("ret i32 %status")
    return f"define i32 @{_ENTRY}(ptr %slots) {{\n" + "\n".join(lines) + "\n}\n"


def _code(key: _Kinds, arguments: Sequence[Any]) -> bytes:
    """Return a kernel's object file, from a cache if it is there and whole."""
    types = blake3(repr(key).encode()).hexdigest(length=8)
    file = f"{key[0]}-{_environment()}-{types}.o"
    for folder in _folders():
        with suppress(OSError, ValueError):
            digest, code = (folder / file).read_bytes().split(b"\n", 1)
            if digest == _digest(code):
                return code
    started = time.perf_counter()
    code = _compiled(key[0], arguments)
    _compiling["seconds"] += time.perf_counter() - started
    _keep(file, _digest(code) + b"\n" + code)
    return code


def _digest(code: bytes) -> bytes:
    return blake3(code).hexdigest().encode()


def _compiled(kernel: str, arguments: Sequence[Any]) -> bytes:
    numba = importlib.import_module("numba")
    llvm = importlib.import_module("llvmlite.binding")
    module, _, function = kernel.rpartition(".")
    dispatcher = getattr(importlib.import_module(f"{__package__}.{module}"), function)
    signature = tuple(numba.typeof(argument) for argument in arguments)
    dispatcher.compile(signature)
    name = dispatcher.overloads[signature].fndesc.llvm_func_name
    text = llvm.parse_assembly(dispatcher.inspect_llvm(signature) + _entry(name, arguments))
    text.verify()
    return bytes(_machine().emit_object(text))


@cache
def _machine() -> Any:
    llvm = importlib.import_module("llvmlite.binding")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=_features(), opt=3, jit=True)


def _features() -> str:
    return str(importlib.import_module("llvmlite.binding").get_host_cpu_features().flatten())


def _linked(code: bytes) -> int:
    """Return the address of the entry of an object file, which stays loaded."""
    llvm = importlib.import_module("llvmlite.binding")
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return int(engine.get_function_address(_ENTRY))


@cache
def _environment() -> str:
    """Return a digest of everything but the types that an object file depends on."""
    binding = importlib.import_module("llvmlite.binding")
    sources = [file.read_bytes() for file in sorted(_HERE.glob("*.py"))]
    versions = [version("numba"), version("llvmlite"), np.__version__, sys.version, sys.platform]
    machine = [binding.get_default_triple(), binding.get_host_cpu_name(), _features()]
    return blake3(b"\0".join([*sources, *(text.encode() for text in versions + machine)])).hexdigest(length=8)


@cache
def _folders() -> tuple[Path, ...]:
    """Return where object files may be: beside the sources, or in the user's folder for caches."""
    chosen = os.environ.get("XDG_CACHE_HOME")
    folders = [_HERE / "__pycache__"]
    with suppress(RuntimeError):  # a user without a home
        folders.append((Path(chosen) if chosen else Path.home() / ".cache") / "cuvee" / "kernels")
    return tuple(folders)


def _keep(file: str, content: bytes) -> None:
    """Write an object file to the first folder that takes it, whole or not at all; to none if none does."""
    for folder in _folders():
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as temporary:
                try:
                    temporary.write(content)
                    temporary.close()
                    os.chmod(temporary.name, 0o644)
                    os.replace(temporary.name, folder / file)
                    return
                except OSError:
                    os.unlink(temporary.name)
