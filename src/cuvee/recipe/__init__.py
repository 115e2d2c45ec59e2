"""YAML <-> Recipe: mergekit's language, strict, with gradients and filters. Imports no torch."""
