"""Models in the forms of other programs."""

from cuvee.export.gguf import Exported, export_gguf
from cuvee.export.gguf_mixtures import Kind

__all__ = ["Exported", "Kind", "export_gguf"]
