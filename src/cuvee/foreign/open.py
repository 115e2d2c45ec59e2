"""Any model's files -> a checkpoint of numbers, whatever they are stored as."""

from pathlib import Path

from cuvee.checkpoint import TensorSource, TensorSpec, open_checkpoint, open_partly
from cuvee.checkpoint.companions import WEIGHTS, files_below
from cuvee.checkpoint.dtypes import MERGEABLE
from cuvee.checkpoint.folders import MODULES, PIPELINE, ROUTER, refuse_folders_of_weights
from cuvee.errors import CheckpointError, CuveeError, several
from cuvee.foreign.scaled import dequantised, is_exact
from cuvee.foreign.schemes import scheme_of
from cuvee.structure.roles import is_factor

OF_PEFT = "base_model.model."
"""What names begin with in a file of PEFT, those of layers that were trained as a whole among them."""

_BLOCKS = "_blocks"
_TORCH = (".bin", ".pt", ".pth")


def open_files(path: Path) -> TensorSource:
    """Open a folder or file by its headers, as it is stored. Raises CheckpointError."""
    source, problems, _ = open_files_partly(path)
    if problems:
        raise several(problems)
    return source


def open_files_partly(path: Path) -> tuple[TensorSource, tuple[CuveeError, ...], frozenset[str]]:
    """Open a folder or file as far as it can be opened, with its problems and the tensors that they hide.

    Raises CheckpointError if nothing of it can be known.
    """
    is_folder_of_safetensors = path.is_dir() and _is_of_safetensors(path)
    if is_folder_of_safetensors or path.suffix == ".safetensors":
        opened = open_partly(path)
        return opened.checkpoint, opened.problems, opened.unseen
    return _open_foreign(path), (), frozenset()


def _is_of_safetensors(folder: Path) -> bool:
    """Say whether a folder has weights in safetensors, itself or only in sub-folders that it names as its parts."""
    if any(folder.glob("*.safetensors*")):
        return True
    if not any((folder / name).is_file() for name in (MODULES, ROUTER, PIPELINE)):
        return False
    if any(file.name.endswith(WEIGHTS) for file in folder.iterdir()):
        refuse_folders_of_weights(folder, files_below(folder))
        return False
    return True


def _open_foreign(path: Path) -> TensorSource:
    if path.suffix == ".gguf" and path.is_file():
        from cuvee.foreign.gguf_file import open_gguf

        return open_gguf(path)
    if path.suffix in _TORCH and path.is_file():
        from cuvee.foreign.torch_files import open_torch_files

        return open_torch_files([path], path)
    return _open_folder(path) if path.is_dir() else open_checkpoint(path)


def _open_folder(folder: Path) -> TensorSource:
    """Open a folder without safetensors: PyTorch's files, or a single GGUF file."""
    from cuvee.foreign.torch_files import open_torch_files, torch_files

    files = torch_files(folder)
    if files:
        return open_torch_files(files, folder)
    gguf_files = sorted(folder.glob("*.gguf"))
    if len(gguf_files) == 1:
        from cuvee.foreign.gguf_file import open_gguf

        return open_gguf(gguf_files[0])
    if gguf_files:
        names = ", ".join(file.name for file in gguf_files)
        raise CheckpointError(f"holds several GGUF files: {names}", where=str(folder), hint="name one of them")
    return open_checkpoint(folder)


def readable(source: TensorSource, where: str) -> TensorSource:
    """Return a checkpoint of numbers that can be merged. Raises CheckpointError for adapters and unknown codes."""
    factor = next((name for name in source.tensors if is_factor(name)), None)
    if factor is not None and _is_adapter(source):
        hint = "name its base before it: base+adapter"
        if any(".base_layer." in name for name in source.tensors):
            hint += "; if the base is inside, too: cuvee adapters bake"
        raise CheckpointError(f"this is an adapter (LoRA), not a model: it holds '{factor}'", where=where, hint=hint)
    misnamed = next(filter(_is_misnamed, source.tensors.values()), None)
    if misnamed is not None:
        message = f"'{misnamed.name}' holds numbers ({misnamed.dtype}) under a name of codes"
        hint = f"call it '{misnamed.name.removesuffix(_BLOCKS)}', and others like it: transformers cannot load it so"
        raise CheckpointError(message, where=where, hint=hint)
    scheme = scheme_of(source)
    if scheme is None:
        return source
    if is_exact(scheme):
        return dequantised(source, scheme)
    message = f"its weights are quantised ({scheme}): codes, not numbers"
    raise CheckpointError(message, where=where, hint=scheme.way_out)


def _is_misnamed(spec: TensorSpec) -> bool:
    """Say whether these are GPT-OSS's experts as transformers 5.23 saves them once it has dequantised them."""
    return spec.name.endswith((f"gate_up_proj{_BLOCKS}", f"down_proj{_BLOCKS}")) and spec.dtype in MERGEABLE


def _is_adapter(source: TensorSource) -> bool:
    """Say whether factors are all that a file has, besides whole layers under PEFT's prefix. Some models keep them."""
    return all(map(_is_of_adapter, source.tensors))


def _is_of_adapter(name: str) -> bool:
    is_of_peft = is_factor(name) or name.startswith(OF_PEFT)
    return is_of_peft or name.endswith(".alpha")
