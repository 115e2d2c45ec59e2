"""Models in the forms of other programs."""

from cuvee.export.gguf import Exported, export_gguf

__all__ = ["Exported", "export_gguf"]
