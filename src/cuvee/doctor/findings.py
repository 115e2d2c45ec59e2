"""Rules from the measured signs of a model to sentences about its faults.

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
"""Nats: below, a single token takes all wherever the model looks."""

LOOPS = 0.8
"""Share of four-token sequences that were there before, from which a text counts as a loop."""

MORE_LOOPS = 0.3
"""Above the parents' own share."""

FAR = 2.0
"""Nats: a divergence from every parent at which little of them is left."""


@dataclass(frozen=True)
class Signs:
    """The signs of a model on the passages.

    - `loss`: the mean negative log-likelihood of a token in nats, None where it is not a number.
    - `bits_per_byte`: the loss in a unit that is the same for any tokenizer.
    - `guessing`: the entropy of guessing at random, in nats.
    - `entropy`: the mean entropy of the next token, in nats; `entropy_share` is its share of guessing.
    - `repetition`: the share of four-token sequences in greedy continuations that were there before.
    - `distinct`: the share of continuations that differ from all others.
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
    """How a model stands to a parent: the parent's own signs, and how far their next tokens are apart.

    `divergence` is the mean Kullback-Leibler divergence of the model from the parent, in nats; `agreement` the share of
    places where both find the same token most likely. Both are None where the two have other tokens.
    """

    parent: str
    signs: Signs
    divergence: float | None
    agreement: float | None

    def to_json(self) -> dict[str, Any]:
        """Return everything in plain types."""
        return {
            "model": self.parent,
            "divergence": self.divergence,
            "agreement": self.agreement,
            "signs": self.signs.to_json(),
        }


@dataclass(frozen=True)
class Finding:
    """A fault of a model."""

    severity: Severity
    message: str


@dataclass(frozen=True)
class Diagnosis:
    """The result of an examination. `findings` is empty for a sound model. `notes` say why some parts are missing."""

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
        if any(finding.severity == "broken" for finding in self.findings):
            return "broken"
        return "doubtful" if self.findings else "sound"

    def to_json(self) -> dict[str, Any]:
        """Return everything in plain types."""
        return {
            "model": self.model,
            "verdict": self.verdict,
            "findings": list(map(asdict, self.findings)),
            "signs": self.signs.to_json(),
            "parents": [parent.to_json() for parent in self.parents],
            "samples": [{"prompt": prompt, "continuation": text} for prompt, text in self.samples],
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
        }


def findings(signs: Signs, parents: Sequence[Kinship]) -> tuple[Finding, ...]:
    """List the faults of a model, the worst first."""
    faults = list(_numbers(signs))
    faults += _reading(signs, parents)
    faults += _certainty(signs, parents)
    faults += _writing(signs, parents)
    faults += _distance(parents)
    return tuple(sorted(faults, key=lambda finding: finding.severity != "broken"))


def _numbers(signs: Signs) -> Iterator[Finding]:
    if signs.not_finite:
        yield Finding("broken", f"{signs.not_finite:,} weights are not finite numbers")
    if signs.loss is None:
        yield Finding("broken", "its output is not a number")


def _reading(signs: Signs, parents: Sequence[Kinship]) -> Iterator[Finding]:
    if signs.loss is None or signs.bits_per_byte is None:
        return
    worst = _worst_reader(parents)
    if worst is None:
        if signs.loss >= signs.guessing:
            yield Finding("broken", f"it reads text no better than chance: perplexity {signs.perplexity:,.0f}")
        return
    more = 0.0
    if signs.bits_per_byte:
        # the difference in bits a byte, turned into nats for each of the model's own tokens
        more_bits = signs.bits_per_byte - (worst.bits_per_byte or 0.0)
        more = more_bits * signs.loss / signs.bits_per_byte
    if more > WORSE:
        severity: Severity = "broken" if more > MUCH_WORSE else "doubtful"
        words = f"perplexity {signs.perplexity:,.4g}, that of its worst parent {worst.perplexity:,.4g}"
        yield Finding(severity, f"it reads text worse than any parent: {words}")


def _worst_reader(parents: Sequence[Kinship]) -> Signs | None:
    """Return the signs of the parent that reads worst; None if no parent has a loss that is a number."""
    readers = [parent.signs for parent in parents if parent.signs.loss is not None]
    return max(readers, key=lambda signs: signs.bits_per_byte or 0.0, default=None)


def _certainty(signs: Signs, parents: Sequence[Kinship]) -> Iterator[Finding]:
    """A model that guesses, or that is certain everywhere, though no parent does the same."""
    if signs.entropy is None or signs.entropy_share is None:
        return
    shares = filter(None, [parent.signs.entropy_share for parent in parents])
    if signs.entropy_share > AT_RANDOM >= max(shares, default=0.0):
        yield Finding("broken", f"it guesses: the next token's entropy is {signs.entropy_share:.0%} of chance")
    entropies = filter(None, [parent.signs.entropy for parent in parents])
    if signs.entropy < CERTAIN <= min(entropies, default=math.inf):
        yield Finding("broken", f"it is certain everywhere: the next token's entropy is {signs.entropy:.2g} nats")


def _writing(signs: Signs, parents: Sequence[Kinship]) -> Iterator[Finding]:
    """A model that writes in loops, or always the same, more than its parents do."""
    message = f"it writes in loops: {signs.repetition:.0%} of what it writes was there before"
    if signs.repetition > LOOPS:
        if not parents:
            yield Finding("doubtful", message)
        else:
            usual = max(parent.signs.repetition for parent in parents)
            if signs.repetition > usual + MORE_LOOPS:
                yield Finding("broken", f"{message}, at most {usual:.0%} by its parents")
    distinct = min((parent.signs.distinct for parent in parents), default=1.0)
    if signs.distinct < 0.5 <= distinct:
        message = f"it writes the same whatever it is asked: {signs.distinct:.0%} of its texts are unlike"
        yield Finding("broken", message)


def _distance(parents: Sequence[Kinship]) -> Iterator[Finding]:
    distances = [parent.divergence for parent in parents if parent.divergence is not None]
    nearest = min(distances, default=0.0)
    if nearest > FAR:
        yield Finding("doubtful", f"it is far from every parent: {nearest:.2g} nats a token from the nearest")
