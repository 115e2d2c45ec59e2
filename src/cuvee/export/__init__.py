"""Models in the forms of other programs."""

from cuvee.export.gguf import Exported, Kind, export_gguf

__all__ = ["Exported", "Kind", "export_gguf"]
