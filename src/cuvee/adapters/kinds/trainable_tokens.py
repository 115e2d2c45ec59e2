"""Trainable tokens: new rows of an embedding for some tokens, in the place of the base's.

As in PEFT 0.21.2, tuners/trainable_tokens/layer.py.
"""

from cuvee.adapters.kind import Key, Kind

KIND = Kind(
    "TRAINABLE_TOKENS",
    forms=(),
    keys={"token_indices": Key(None, lambda value: True, "numbers of tokens")},
    change=None,
    whole="token_adapter",
)
"""`token_indices` is read as LoRA's `trainable_token_indices` is."""
