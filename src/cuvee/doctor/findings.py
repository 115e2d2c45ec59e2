"""What was measured of a model, and what is wrong with it: rules from numbers to sentences.

Thresholds are in nats a token, and rules of thumb. A model is held against its parents where they are known: a small
model that was trained on puzzles reads prose badly, and so do its parents.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["broken", "doubtful"]

MUCH_WORSE = 1.0
"""Nats a token above the worst parent: a perplexity 2.7 times as high."""

WORSE = 0.2
"""Nats a token above the worst parent: a perplexity 1.2 times as high."""

AT_RANDOM = 0.98
"""Of the entropy of guessing: from here on a model says nothing."""

CERTAIN = 0.02
"""Nats: below, one token takes all wherever the model looks."""

LOOPS = 0.8
"""Share of four-token sequences that were there before, from which a text counts as a loop."""

MORE_LOOPS = 0.3
"""Above the parents' own share."""

FAR = 2.0
"""Nats: a divergence from every parent at which little of them is left."""


@dataclass(frozen=True)
class Signs:
    """What one model shows on the passages.

    `loss` is the mean negative log-likelihood of a token, None where it is not a number; `bits_per_byte` is the same
    for any tokenizer. `entropy` is the mean one of the next token, `entropy_share` as a share of guessing. `repetition`
    is the share of four-token sequences in greedy continuations that were there before, `distinct` the share of
    continuations that differ from all others.
    """

    tokens: int
    not_finite: int
    loss: float | None
    bits_per_byte: float | None
    guessing: float
    entropy: float | None
    repetition: float
    distinct: float

    @property
    def perplexity(self) -> float | None:
        return None if self.loss is None else math.exp(min(self.loss, 700.0))

    @property
    def entropy_share(self) -> float | None:
        return None if self.entropy is None else self.entropy / self.guessing

    def to_json(self) -> dict[str, Any]:
        """Return all figures in plain types."""
        return {**asdict(self), "perplexity": self.perplexity, "entropy_share": self.entropy_share}


@dataclass(frozen=True)
class Kinship:
    """How a model stands to one parent: the parent's own signs, and how far their next tokens are apart.

    `divergence` is the mean Kullback-Leibler divergence of the model from the parent, in nats; `agreement` the share of
    places where both find the same token most likely. Both are None where the two have other tokens.
    """

    parent: str
    signs: Signs
    divergence: float | None
    agreement: float | None


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    severity: Severity
    message: str


@dataclass(frozen=True)
class Diagnosis:
    """What was found: `findings` is empty for a sound model. `notes` say what could not be looked at."""

    model: str
    signs: Signs
    parents: tuple[Kinship, ...]
    findings: tuple[Finding, ...]
    samples: tuple[tuple[str, str], ...]
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Literal["sound", "doubtful", "broken"]:
        """The worst of the findings."""
        severities = {finding.severity for finding in self.findings}
        return "broken" if "broken" in severities else "doubtful" if severities else "sound"

    def to_json(self) -> dict[str, Any]:
        """Return everything in plain types."""
        parents = [
            {
                "model": each.parent,
                "divergence": each.divergence,
                "agreement": each.agreement,
                "signs": each.signs.to_json(),
            }
            for each in self.parents
        ]
        return {
            "model": self.model,
            "verdict": self.verdict,
            "findings": [asdict(finding) for finding in self.findings],
            "signs": self.signs.to_json(),
            "parents": parents,
            "samples": [{"prompt": prompt, "continuation": text} for prompt, text in self.samples],
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
        }


def findings(signs: Signs, parents: Sequence[Kinship]) -> tuple[Finding, ...]:
    """Say what is wrong, the worst first."""
    found = [*_numbers(signs), *_reading(signs, parents), *_certainty(signs, parents), *_writing(signs, parents)]
    found += _distance(parents)
    return tuple(sorted(found, key=lambda finding: finding.severity != "broken"))


def _numbers(signs: Signs) -> Iterator[Finding]:
    if signs.not_finite:
        yield Finding("broken", f"{signs.not_finite:,} weights are not finite numbers")
    if signs.loss is None:
        yield Finding("broken", "its output is not a number")


def _reading(signs: Signs, parents: Sequence[Kinship]) -> Iterator[Finding]:
    if signs.loss is None or signs.bits_per_byte is None:
        return
    known = [each.signs for each in parents if each.signs.loss is not None and each.signs.bits_per_byte is not None]
    if not known:
        if signs.loss >= signs.guessing:
            yield Finding("broken", f"it reads text no better than chance: perplexity {signs.perplexity:,.0f}")
        return
    worst = max(known, key=lambda each: each.bits_per_byte or 0.0)
    more = _nats_per_token(signs.bits_per_byte - (worst.bits_per_byte or 0.0), signs)
    if more > WORSE:
        severity: Severity = "broken" if more > MUCH_WORSE else "doubtful"
        words = f"perplexity {signs.perplexity:,.4g}, that of its worst parent {worst.perplexity:,.4g}"
        yield Finding(severity, f"it reads text worse than any parent: {words}")


def _nats_per_token(bits_per_byte: float, signs: Signs) -> float:
    """Turn a difference of bits a byte into nats for each of the model's own tokens."""
    assert signs.loss is not None
    assert signs.bits_per_byte is not None
    return bits_per_byte * signs.loss / signs.bits_per_byte if signs.bits_per_byte else 0.0


def _certainty(signs: Signs, parents: Sequence[Kinship]) -> Iterator[Finding]:
    if signs.entropy is None or signs.entropy_share is None:
        return
    others = [each.signs for each in parents]
    if signs.entropy_share > AT_RANDOM and not any((each.entropy_share or 0.0) > AT_RANDOM for each in others):
        yield Finding("broken", f"it guesses: the next token's entropy is {signs.entropy_share:.0%} of chance")
    if signs.entropy < CERTAIN and not any((each.entropy or math.inf) < CERTAIN for each in others):
        yield Finding("broken", f"it is certain everywhere: the next token's entropy is {signs.entropy:.2g} nats")


def _writing(signs: Signs, parents: Sequence[Kinship]) -> Iterator[Finding]:
    usual = max((each.signs.repetition for each in parents), default=None)
    if signs.repetition > LOOPS and (usual is None or signs.repetition > usual + MORE_LOOPS):
        beside = "" if usual is None else f", at most {usual:.0%} by its parents"
        severity: Severity = "doubtful" if usual is None else "broken"
        yield Finding(
            severity, f"it writes in loops: {signs.repetition:.0%} of what it writes was there before{beside}"
        )
    alike = min((each.signs.distinct for each in parents), default=1.0)
    if signs.distinct < 0.5 <= alike:
        yield Finding(
            "broken", f"it writes the same whatever it is asked: {signs.distinct:.0%} of its texts are unlike"
        )


def _distance(parents: Sequence[Kinship]) -> Iterator[Finding]:
    distances = [each.divergence for each in parents if each.divergence is not None]
    if distances and min(distances) > FAR:
        yield Finding("doubtful", f"it is far from every parent: {min(distances):.2g} nats a token from the nearest")
