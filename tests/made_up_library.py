"""A made-up release of transformers, newer than any: it imports, and whatever is asked of it fails."""

from pathlib import Path

VERSION = "5.99.0"
SOURCE = """
__version__ = "5.99.0"


class _Changed:
    def __init__(self, *arguments, **options):
        raise TypeError("the constructor takes a blueprint since 5.99")

    @classmethod
    def from_pretrained(cls, *arguments, **options):
        raise AttributeError("from_pretrained became from_blueprint in 5.99")


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    if name == "utils":
        return _Utils
    return _Changed


class _Logging:
    is_progress_bar_enabled = staticmethod(lambda: False)
    disable_progress_bar = enable_progress_bar = set_verbosity_error = staticmethod(lambda: None)


class _Utils:
    logging = _Logging
"""


def write_made_up_transformers(folder: Path, source: str = SOURCE) -> Path:
    """Write the package and its metadata into a folder that goes before all others on the import path."""
    package, information = folder / "transformers", folder / f"transformers-{VERSION}.dist-info"
    package.mkdir(parents=True)
    information.mkdir()
    (package / "__init__.py").write_text(source, encoding="utf-8")
    metadata = f"Metadata-Version: 2.1\nName: transformers\nVersion: {VERSION}\n"
    (information / "METADATA").write_text(metadata, encoding="utf-8")
    return folder
