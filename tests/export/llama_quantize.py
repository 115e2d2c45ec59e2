"""Which types llama.cpp's own quantiser gives the tensors of tiny models: writes tests/golden/gguf_types.json.

    PYTHONPATH=tests python -m export.llama_quantize FOLDER

FOLDER has libllama.so, as the package llama-cpp-py-sync unpacks it; it needs glibc 2.38. On the way, every tensor of
every file is compared with the one that `export_gguf` writes, byte for byte.
"""

import ctypes
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from cuvee.export import export_gguf
from cuvee.export.gguf_mixtures import FILE_TYPES, HEAD, Mixture
from export.test_llama_cpp import model_of, save

GOLDEN = Path(__file__).parents[1] / "golden" / "gguf_types.json"

NARROW_HEADS: dict[str, Any] = {
    "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 10, "num_attention_heads": 8,
    "num_key_value_heads": 2,
}  # fmt: skip
WIDE = {**NARROW_HEADS, "head_dim": 32}
LARGE = {**NARROW_HEADS, "num_hidden_layers": 80, "intermediate_size": 256}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", WIDE),
    "llama tied": ("llama", {**WIDE, "tie_word_embeddings": True}),
    "llama of rows that are not whole blocks": ("llama", {"num_hidden_layers": 17}),
    "llama of 70B": ("llama", LARGE),
    "llama of 65B": ("llama", {**LARGE, "num_key_value_heads": 8}),
    "qwen2 of 70B": ("qwen2", {**LARGE, "num_key_value_heads": 8}),
    "mixtral of eight": ("mixtral", {**WIDE, "num_local_experts": 8, "intermediate_size": 256}),
    "mixtral of six": ("mixtral", {**WIDE, "num_local_experts": 6, "intermediate_size": 256}),
    "qwen3moe": ("qwen3moe", {**WIDE, "num_experts": 12, "moe_intermediate_size": 256}),
    "qwen3moe of narrow experts": ("qwen3moe", {**WIDE, "num_experts": 8, "moe_intermediate_size": 64}),
    "phi3": ("phi3", NARROW_HEADS),
    "gemma2": ("gemma2", {**WIDE, "query_pre_attn_scalar": 32}),
}


class Settings(ctypes.Structure):
    """llama.h: llama_model_quantize_params."""

    _fields_ = (
        ("nthread", ctypes.c_int32),
        ("ftype", ctypes.c_int),
        ("output_tensor_type", ctypes.c_int),
        ("token_embedding_type", ctypes.c_int),
        ("switches", ctypes.c_bool * 6),
        ("lists", ctypes.c_void_p * 4),
        ("max_buf_size", ctypes.c_size_t),
    )


def main() -> None:
    library = ctypes.CDLL(str(Path(sys.argv[1]) / "libllama.so"))
    library.llama_model_quantize_default_params.restype = Settings
    library.llama_model_quantize.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(Settings)]
    cases = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, (family, changes) in CASES.items():
            folder = save(model_of(family, **changes), Path(scratch) / name)
            cases[name] = case_of(library, folder)
            print(name, flush=True)
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items())
    GOLDEN.write_text(f"{{\n{lines}\n}}\n")


def case_of(library: Any, folder: Path) -> dict[str, Any]:
    """Quantise a model to every kind; return its shapes, what the choice hangs on, and the types of its matrices."""
    whole = export_gguf(folder, folder / "f32.gguf", "f32").file
    types = {}
    for kind, number in FILE_TYPES.items():
        if kind in ("f32", "f16") or (kind == "mxfp4_moe" and not experts_of(folder)):
            continue
        settings = library.llama_model_quantize_default_params()
        settings.ftype, settings.nthread = number, 1
        theirs, ours = folder / f"theirs-{kind}.gguf", folder / f"ours-{kind}.gguf"
        status = library.llama_model_quantize(bytes(whole), bytes(theirs), ctypes.byref(settings))
        assert status == 0
        types[kind] = compared(read(theirs), read(export_gguf(folder, ours, kind).file))
    tensors = {name: list(map(int, shape)) for name, (_, shape, _) in read(whole).items() if len(shape) > 1}
    return {"mixture": mixture_of(folder, HEAD not in tensors), "shapes": tensors, "types": types}


def read(file: Path) -> dict[str, tuple[str, tuple[int, ...], np.ndarray]]:
    """Return type, shape and bytes of all tensors."""
    return {
        tensor.name: (tensor.tensor_type.name, tuple(tensor.shape[::-1]), tensor.data.view(np.uint8))
        for tensor in gguf.GGUFReader(file).tensors
    }


def compared(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Return the types of their matrices: the most common, and the others by name."""
    assert theirs.keys() == ours.keys()
    for name, (kind, _, content) in theirs.items():
        assert ours[name][0] == kind, (name, kind, ours[name][0])
        assert np.array_equal(ours[name][2], content), name
    kinds = {name: kind for name, (kind, shape, _) in theirs.items() if len(shape) > 1}
    ((usual, _),) = Counter(kinds.values()).most_common(1)
    return {"usual": usual, "others": {name: kind for name, kind in kinds.items() if kind != usual}}


def experts_of(folder: Path) -> int:
    config = json.loads((folder / "config.json").read_text())
    return int(config.get("num_experts") or config.get("num_local_experts") or 0)


def mixture_of(folder: Path, is_tied: bool) -> dict[str, Any]:
    layers = json.loads((folder / "config.json").read_text())["num_hidden_layers"]
    mixture = asdict(Mixture("f32", layers, experts_of(folder), is_tied, folder.name.endswith("of 70B")))
    return {key: value for key, value in mixture.items() if key != "kind"}


if __name__ == "__main__":
    main()
