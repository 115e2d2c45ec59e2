"""Checkpoints that are not plain safetensors: PyTorch's own files, GGUF, and weights stored as codes with scales."""

from cuvee.foreign.open import open_files, open_files_partly, readable

__all__ = ["open_files", "open_files_partly", "readable"]
