"""PyTorch's own files, `.bin` and `.pt`: read through torch, which runs no code of theirs, mapped and tensor by tensor.

`weights_only` lets through tensors and plain containers and refuses everything else that a pickle can ask for.
"""

import json
import pickle
import struct
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from blake3 import blake3

from cuvee.checkpoint import TensorSpec
from cuvee.checkpoint.checkpoint import parse_config, parse_weight_map, sampled_blake3
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.checkpoint.stored_file import StoredFile
from cuvee.errors import CheckpointError, MissingExtra
from cuvee.structure import is_before_layers

if TYPE_CHECKING:
    import torch

INDEX = "pytorch_model.bin.index.json"
SINGLE = ("pytorch_model.bin", "model.bin", "model.pt", "model.pth", "pytorch_model.pt")

_TYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2", "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8",
    "uint16": "U16", "uint32": "U32", "uint64": "U64", "bool": "BOOL",
    "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ", "float8_e8m0fnu": "F8_E8M0", "complex64": "C64",
}  # fmt: skip


def torch_files(folder: Path) -> list[Path]:
    """Return the files of weights of a folder in PyTorch's own format, none if it has none. Raises CheckpointError."""
    index = folder / INDEX
    if index.exists():
        try:
            weight_map = parse_weight_map(index.read_text(encoding="utf-8"), index)
        except (OSError, ValueError) as error:
            raise CheckpointError("expected a JSON object with a 'weight_map'", where=str(index)) from error
        return [folder / shard for shard in dict.fromkeys(weight_map.values())]
    for name in SINGLE:
        if (folder / name).is_file():
            return [folder / name]
    files = [file for file in sorted(folder.glob("*.bin")) if file.name not in ("training_args.bin", "optimizer.bin")]
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise CheckpointError(f"holds {names} and no index that says which belong together", where=str(folder))
    return files


class TorchCheckpoint:
    """Tensors of mapped files. `aliases` are names whose storage another name has too: they are the same tensor."""

    def __init__(self, path: Path, files: Mapping[Path, Mapping[str, "torch.Tensor"]], config: dict[str, Any]):
        loaded: dict[str, torch.Tensor] = {}
        for tensors in files.values():
            loaded |= tensors
        self.place: Path | None = path
        self.config = config
        self.aliases = _aliases(loaded)
        self._names = {file: list(tensors) for file, tensors in files.items()}
        self._loaded = {name: tensor for name, tensor in loaded.items() if name not in self.aliases}
        specs = {}
        for name, tensor in self._loaded.items():
            specs[name] = TensorSpec(name, _type_of(name, tensor, path), tuple(tensor.shape), path, 0)
        self.tensors: Mapping[str, TensorSpec] = specs
        shared = len(self.aliases)
        self.notes = (f"{shared} tensors share the storage of others and count once",) if shared else ()

    def read_into(self, name: str, start: int, out: Sequence[np.ndarray]) -> None:
        for part in out:
            self._read_part(name, start, part)
            start += part.nbytes

    def _read_part(self, name: str, start: int, out: np.ndarray) -> None:
        import torch

        tensor = self._loaded[name]
        size = NUMPY[self.tensors[name].dtype].itemsize
        if tensor.is_contiguous():
            part = tensor.reshape(-1)[start // size : (start + out.nbytes) // size]
        else:
            at = torch.arange(start // size, (start + out.nbytes) // size)
            part = tensor[torch.unravel_index(at, tensor.shape)]
        out.view(np.uint8)[:] = part.contiguous().view(torch.uint8).numpy().reshape(-1)

    def will_read(self, name: str, start: int, nbytes: int) -> None:
        pass

    def files(self) -> dict[str, StoredFile]:
        names = {name: [spec.dtype, spec.shape] for name, spec in self.tensors.items()}
        digest = blake3(json.dumps(names).encode()).hexdigest()
        files = {}
        for file, own in self._names.items():
            status = file.stat()
            specs = [self.tensors[name] for name in own if name in self.tensors]
            sample = partial(sampled_blake3, self, specs)
            files[file.name] = StoredFile(status.st_size, digest, None, file, status.st_mtime_ns, sample)
        return files


def open_torch_files(files: Sequence[Path], path: Path) -> TorchCheckpoint:
    """Open files in PyTorch's own format. Raises CheckpointError for files that hold more than tensors."""
    loaded: dict[Path, dict[str, torch.Tensor]] = {}
    names: set[str] = set()
    for file in files:
        loaded[file] = _load(file)
        for name in loaded[file]:
            if name in names:
                raise CheckpointError(f"'{name}' is in two files", where=str(file))
            names.add(name)
    if not names:
        raise CheckpointError("holds no tensor", where=str(path))
    config = (path if path.is_dir() else path.parent) / "config.json"
    return TorchCheckpoint(path, loaded, _config(config))


def _config(file: Path) -> dict[str, Any]:
    try:
        return parse_config(file.read_text(encoding="utf-8"), file) if file.exists() else {}
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"not JSON: {error}", where=str(file)) from error


def _load(file: Path) -> "dict[str, torch.Tensor]":
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("torch", missing="torch") from error

    if not file.is_file():
        raise CheckpointError("the file is missing", where=str(file))
    if not _is_archive(file):
        hint = "load it once with torch and save it again, best as safetensors"
        message = "not a file that torch.save writes since version 1.6: it cannot be read tensor by tensor"
        raise CheckpointError(message, where=str(file), hint=hint)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        reason = str(error).partition("\n")[0].strip()
        hint = "its pickle asks for more than tensors; nothing of it was run"
        raise CheckpointError(f"refused: {reason}", where=str(file), hint=hint) from error
    except Exception as error:  # a damaged pickle can make torch's reader fail in any way
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"cannot read the file: {reason}", where=str(file)) from error
    tensors = _tensors(content, file)
    if not _are_whole_records(tensors.values(), _records(file)):
        message = "a tensor's storage is not what the archive has for it: the file is damaged, or lies about lengths"
        raise CheckpointError(message, where=str(file), hint="copy or download the file again")
    return tensors


def _is_archive(file: Path) -> bool:
    try:
        return zipfile.is_zipfile(file)
    except (OSError, zipfile.BadZipFile):
        return False


def _records(file: Path) -> dict[int, int]:
    """Return where the archive's stored records of numbers begin, and how long each is."""
    records: dict[int, int] = {}
    try:
        with zipfile.ZipFile(file) as archive, file.open("rb") as opened:
            for entry in archive.infolist():
                is_stored = entry.compress_type == zipfile.ZIP_STORED and entry.file_size > 0
                if is_stored and "/data/" in entry.filename:
                    opened.seek(entry.header_offset + 26)
                    name, extra = struct.unpack("<HH", opened.read(4))
                    records[entry.header_offset + 30 + name + extra] = entry.file_size
    except (OSError, zipfile.BadZipFile, struct.error, NotImplementedError) as error:
        raise CheckpointError(f"cannot read the file: {error}", where=str(file)) from error
    return records


def _are_whole_records(tensors: "Iterable[torch.Tensor]", records: Mapping[int, int]) -> bool:
    """Say whether each tensor's storage is exactly one record of the mapped file.

    torch maps the file and takes the lengths that the pickle names: a longer one would reach into the next record.
    Where the map begins in memory is not told, but the storages lie in it as the records lie in the file.
    """
    held = [tensor.untyped_storage() for tensor in tensors]
    storages = {storage.data_ptr(): storage.nbytes() for storage in held if storage.nbytes()}
    if not storages:
        return True
    first = min(storages)
    for start, nbytes in records.items():
        begin = first - start  # of the map, if the first storage is this record
        if nbytes != storages[first]:
            continue
        if all(records.get(place - begin) == nbytes for place, nbytes in storages.items()):
            return True
    return False


def _tensors(content: Any, file: Path) -> "dict[str, torch.Tensor]":
    """Return the tensors by name, from within `state_dict` or `model` where they are nested there."""
    import torch

    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"expected tensors by name, found {type(content).__name__}", where=str(file))
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            message = f"expected tensors by name, found {type(tensor).__name__} under '{str(name)[:80]}'"
            raise CheckpointError(message, where=str(file))
        has_numbers = tensor.layout == torch.strided and not tensor.is_meta
        if tensor.is_quantized or not has_numbers:
            raise CheckpointError(f"'{name}' is not a plain tensor", where=str(file))
    return {name: tensor.detach() for name, tensor in content.items()}


def _aliases(loaded: "Mapping[str, torch.Tensor]") -> dict[str, str]:
    """Return the names that share another's tensor, shape and all; of such a group the embedding or the first stays."""
    groups: dict[Any, list[str]] = {}
    for name, tensor in loaded.items():
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if tensor.numel():
            groups.setdefault(key, []).append(name)
    aliases: dict[str, str] = {}
    for names in groups.values():
        main = next(filter(is_before_layers, names), names[0])
        aliases |= {name: main for name in names if name != main}
    return aliases


def _type_of(name: str, tensor: "torch.Tensor", path: Path) -> str:
    word = str(tensor.dtype).removeprefix("torch.")
    if word not in _TYPES:
        raise CheckpointError(f"'{name}' is {word}, which cannot be merged", where=str(path))
    return _TYPES[word]
