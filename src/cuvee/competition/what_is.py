"""What a file is that somebody has sent, by its first bytes: so that a wrong one is told what it is."""

from typing import Literal

Kind = Literal["archive", "recipe", "other"]

STARTS = (
    (b"PK\x03\x04", "a zip file"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GGUF", "a model in GGUF"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"BZh", "a file packed by bzip2"),
    (b"\xfd7zXZ\x00", "a file packed by xz"),
    (b"\x28\xb5\x2f\xfd", "a file packed by zstd"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
)
GZIP, TAR_MARK, TAR_AT = b"\x1f\x8b", b"ustar", 257
NOTEBOOK, TABLE = ('"cells"', '"nbformat"'), "id,prediction"


def kind_of(content: bytes) -> Kind:
    """Tell an archive from a recipe, and both from what can be neither."""
    if content[TAR_AT : TAR_AT + len(TAR_MARK)] == TAR_MARK or content.startswith(GZIP):
        return "archive"
    if name_of(content) is not None or not content.strip():
        return "other"
    return "recipe" if _text(content) is not None else "other"


def name_of(content: bytes) -> str | None:
    """Return what a file is that is neither archive nor recipe, in words; None where nothing shows it."""
    for start, name in STARTS:
        if content.startswith(start):
            return name
    if content[8:9] == b"{" and int.from_bytes(content[:8], "little") < len(content):
        return "a file of weights (safetensors)"
    text = _text(content)
    if text is None:
        return None
    if all(word in text for word in NOTEBOOK):
        return "a notebook"
    if text.startswith(TABLE):
        return "a table of predictions"
    return "a program in Python" if text.lstrip().startswith(("import ", "from ", "def ", "#!")) else None


def _text(content: bytes) -> str | None:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text
