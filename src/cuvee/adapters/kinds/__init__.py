"""Kinds of adapters besides LoRA, a file each: the change that PEFT computes with, from stored tensors and the base."""
