"""Names of repositories with quantised weights -> the likely name of the repository with the weights themselves."""

import re

_SUFFIX = re.compile(
    r"[-_.](unsloth[-_])?(bnb([-_]?[48][-_]?bits?)?|[48][-_]?bits?|(gptq|awq|int[48]|fp8|nf4|w4a16|w8a8|exl[23]|hqq|aqlm|gguf|"
    r"mlx|marlin|quantized)([-_.]?(int)?[2-8]([-_]?bits?)?)?([-_]g?\d+g?)?)$",
    re.IGNORECASE,
)
_REPACKERS = ("thebloke", "mlx-community", "neuralmagic", "redhatai", "bartowski")
"""Organisations that publish others' models: whose, their names do not say."""


def plain_name(name: str) -> str | None:
    """Return the likely name of the unquantised model; None for a name that does not say that it is quantised."""
    organisation, slash, model = name.rpartition("/")
    plain = model
    while match := _SUFFIX.search(plain):
        plain = plain[: match.start()]
    if plain == model or not plain:
        return None
    if organisation.lower() in _REPACKERS:
        return plain
    return f"{organisation}{slash}{plain}"
