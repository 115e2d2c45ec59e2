"""What a worker's test of itself has found. Plain data: also for workers that have no database."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cuvee.submission.expected import ControlScore


@dataclass(frozen=True)
class Fitness:
    """The machine in words, and what a model of the competition scores on it; None where the competition has none."""

    hardware: Mapping[str, str] = field(default_factory=dict)
    control: ControlScore | None = None
