"""Looks for secrets in files before they are handed in: tokens and keys by their shape, and those of this machine."""

import re
from collections.abc import Iterator, Mapping, Sequence

from cuvee.errors import SubmissionError, several

SHAPES = {
    "a token of a model hub": rb"\bhf_[A-Za-z0-9]{20,}",
    "a GitHub token": rb"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})",
    "an API key": rb"\bsk-(?:[A-Za-z]+-)*[A-Za-z0-9_-]{20,}",
    "an AWS key": rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a Google key": rb"\bAIza[0-9A-Za-z_-]{30,}",
    "a Slack token": rb"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "a private key": rb"-----BEGIN [A-Z ]*PRIVATE KEY",
    "a password in an address": rb"\bhttps?://[^\s/:@]+:[^\s/@]+@",
}
SHORTEST = 8
"""Known secrets that are shorter are words."""


def refuse_leaks(files: Mapping[str, bytes], known: Sequence[str] = ()) -> None:
    """Raise SubmissionError that names each file with something that looks like a secret, or holds a `known` one."""
    hint = "take it out, and revoke it if it was shown before"
    problems = []
    for name, data in files.items():
        for secret, line in _leaks(data, known):
            problems.append(SubmissionError(f"line {line} has {secret}", where=name, hint=hint))
    if problems:
        raise several(problems)


def _leaks(data: bytes, known: Sequence[str]) -> list[tuple[str, int]]:
    return [(what, data.count(b"\n", 0, start) + 1) for what, start in _starts(data, known)]


def _starts(data: bytes, known: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield each leak and the byte where it starts."""
    for what, shape in SHAPES.items():
        for match in re.finditer(shape, data):
            yield what, match.start()
    for secret in known:
        start = data.find(secret.encode())
        if len(secret) >= SHORTEST and start >= 0:
            yield "a secret of this machine", start
