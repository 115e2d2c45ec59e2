"""Files that appear whole or not at all, whoever else writes them."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Give a new place beside `file`; the text written there takes the file's place in a single step.

    Each writer has a place of its own, so that of two that write at once the later wins whole. Nothing stays of a
    body that raises.
    """
    partial = file.with_name(f".{file.name}.{secrets.token_hex(8)}.partial")
    try:
        yield partial
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(file: Path, text: str) -> None:
    """Write a text in UTF-8, its line ends as they are, in place of the file's content."""
    with replacing(file) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
