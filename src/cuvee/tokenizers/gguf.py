"""The tokenizer that lies in a GGUF file, as the files that transformers reads; transformers itself makes them."""

import importlib.util
import tempfile
from functools import lru_cache
from pathlib import Path

from cuvee.errors import CheckpointError, MissingExtra
from cuvee.foreign.gguf_header import read_gguf_header
from cuvee.tokenizers.read import FILES


def lies_in_gguf(place: Path | None) -> bool:
    """Say whether a model's tokenizer is only in its GGUF file: there is none beside it."""
    if place is None or place.suffix != ".gguf":
        return False
    if not place.is_file():
        return False
    if any((place.parent / name).is_file() for name in FILES):
        return False
    return "tokenizer.ggml.model" in read_gguf_header(place).settings


def can_read_gguf() -> bool:
    """Say whether the libraries that it takes are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("transformers", "torch"))


def tokenizer_texts(file: Path) -> dict[str, str]:
    """Return the tokenizer's files by name. Raises CheckpointError, or MissingExtra."""
    return dict(_texts(file, file.stat().st_mtime_ns))


@lru_cache(maxsize=8)
def _texts(file: Path, modified_ns: int) -> tuple[tuple[str, str], ...]:
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtra("eval", missing="transformers") from error
    with tempfile.TemporaryDirectory() as folder:
        try:
            AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
        except Exception as error:  # what transformers raises for settings that it does not know is of many kinds
            reason = str(error).partition("\n")[0]
            hint = "put the tokenizer's files beside the GGUF file: they are then used"
            raise CheckpointError(f"its tokenizer cannot be read: {reason}", where=str(file), hint=hint) from error
        files = sorted(filter(Path.is_file, Path(folder).iterdir()))
        return tuple((file.name, file.read_text(encoding="utf-8")) for file in files)
