"""Kernels as machine code: compiled by numba once, kept in a file, and from then on loaded without numba.

To import numba and to prepare it for a first call takes longer than to merge a small model. A kernel's object file
needs neither: llvmlite links it, ctypes calls it, without the interpreter's lock. Kernels allocate nothing and raise
nothing; the room they work in is an argument.
"""

import ctypes
import importlib
import os
import sys
import tempfile
import threading
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
_INTEGERS = {1: ctypes.c_uint8, 2: ctypes.c_uint16, 4: ctypes.c_uint32, 8: ctypes.c_int64}
_DONE = (0, -2)
"""What compiled functions return that return nothing."""

_Function = Callable[..., int]
_functions: dict[tuple[object, ...], _Function] = {}
_preparing = threading.RLock()
_engines: list[Any] = []
_nothing = ctypes.create_string_buffer(64)
_NOTHING = ctypes.addressof(_nothing)


def call(kernel: str, *arguments: Any) -> None:
    """Call a kernel, given as `module.function`, with arrays, numbers, bools and tuples of them."""
    kinds: list[object] = [kernel]
    words: list[Any] = [_NOTHING, _NOTHING]
    _flatten(arguments, kinds, words)
    key = tuple(kinds)
    function = _functions.get(key) or _prepared(key, arguments)
    status = function(*words)
    if status not in _DONE:
        raise PlatformError(f"the compiled kernel '{kernel}' stopped with {status}")


def is_kept(kernel: str) -> bool:
    """Say whether an earlier process left this kernel in a cache, or this one has it."""
    pattern = f"{kernel}-{_environment()}-*.o"
    return any(key[0] == kernel for key in _functions) or any(any(folder.glob(pattern)) for folder in _folders())


def _flatten(arguments: Sequence[Any], kinds: list[object], words: list[Any]) -> None:
    """Append what makes the arguments' types, and the arguments as numba passes them on: arrays as their fields."""
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            kinds += (argument.dtype.num, argument.ndim, argument.flags.c_contiguous)
            data = argument.__array_interface__["data"][0]
            words += (None, None, argument.size, argument.itemsize, data, *argument.shape, *argument.strides)
        elif isinstance(argument, tuple):
            kinds.append("(")
            _flatten(argument, kinds, words)
            kinds.append(")")
        elif isinstance(argument, np.generic):
            kinds.append(argument.dtype.num)
            words.append(argument.item())
        else:
            kinds.append(type(argument).__name__)
            words.append(argument)


def _prepared(key: tuple[object, ...], arguments: Sequence[Any]) -> _Function:
    with _preparing:
        if key not in _functions:
            name, code = _code(key, arguments)
            prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *_words(arguments))
            _functions[key] = prototype(_linked(name, code))
        return _functions[key]


def _words(arguments: Sequence[Any]) -> Iterator[Any]:
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            yield from (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_ssize_t, ctypes.c_void_p)
            yield from [ctypes.c_ssize_t] * (2 * argument.ndim)
        elif isinstance(argument, tuple):
            yield from _words(argument)
        else:
            dtype = np.asarray(argument).dtype
            if dtype.kind == "f":
                yield ctypes.c_float if dtype.itemsize == 4 else ctypes.c_double
            else:
                yield ctypes.c_bool if dtype.kind == "b" else _INTEGERS[dtype.itemsize]


def _code(key: tuple[object, ...], arguments: Sequence[Any]) -> tuple[str, bytes]:
    """Return the compiled function's name and its object file, from a cache if it is there and whole."""
    types = blake3(repr(key).encode()).hexdigest(length=8)
    file = f"{key[0]}-{_environment()}-{types}.o"
    for folder in _folders():
        with suppress(OSError, ValueError):
            digest, name, code = (folder / file).read_bytes().split(b"\n", 2)
            if digest == _digest(code):
                return name.decode(), code
    symbol, code = _compiled(str(key[0]), arguments)
    _keep(file, b"\n".join([_digest(code), symbol.encode(), code]))
    return symbol, code


def _digest(code: bytes) -> bytes:
    return blake3(code).hexdigest().encode()


def _compiled(kernel: str, arguments: Sequence[Any]) -> tuple[str, bytes]:
    numba = importlib.import_module("numba")
    llvm = importlib.import_module("llvmlite.binding")
    module, _, function = kernel.rpartition(".")
    dispatcher = getattr(importlib.import_module(f"{__package__}.{module}"), function)
    signature = tuple(numba.typeof(argument) for argument in arguments)
    dispatcher.compile(signature)
    text = llvm.parse_assembly(dispatcher.inspect_llvm(signature))
    return dispatcher.overloads[signature].fndesc.llvm_func_name, _machine().emit_object(text)


@cache
def _machine() -> Any:
    llvm = importlib.import_module("llvmlite.binding")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=_features(), opt=3, jit=True)


def _features() -> str:
    return str(importlib.import_module("llvmlite.binding").get_host_cpu_features().flatten())


def _linked(name: str, code: bytes) -> int:
    """Return the address of a function of an object file, which stays loaded."""
    llvm = importlib.import_module("llvmlite.binding")
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return int(engine.get_function_address(name))


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
