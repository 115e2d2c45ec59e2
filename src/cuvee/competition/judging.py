"""What a worker judges with: this machine, tested and calibrated once, and the competition's folder."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cuvee.competition.runs import HIDDEN
from cuvee.progress import Progress
from cuvee.submission.competition import TIERS, Competition
from cuvee.submission.hardware import calibrate, this_machine
from cuvee.submission.judge import judge
from cuvee.submission.measure import load_parts
from cuvee.submission.sandbox import choose_sandbox
from cuvee.submission.sandbox.choose import find_walls
from cuvee.submission.verdict import Verdict

log = logging.getLogger("cuvee.competition.judging")


@dataclass(frozen=True)
class Bench:
    """Judges submissions of one competition on this machine. Private items are measured in final runs only."""

    competition: Competition

    @cached_property
    def calibration_seconds(self) -> float:
        """How long the reference work takes here."""
        return calibrate()

    def self_test(self) -> Mapping[str, str]:
        """Look that the sandbox works and that all tasks are there. Raises CuveeError if this machine cannot judge."""
        sandbox = choose_sandbox(max(self.competition.rules.tiers, key=TIERS.index), self.competition.without)
        for note in find_walls().notes():
            log.warning("%s", note)
        load_parts(self.competition, self.competition.folder)
        machine = this_machine()
        return {
            "processor": machine.processor[:100],
            "cores": str(machine.cores),
            "accelerator": machine.accelerator or "none",
            "sandbox": type(sandbox).__name__,
            "lacks": ", ".join(find_walls().lacks) or "nothing",
            "calibration_seconds": f"{self.calibration_seconds:.4g}",
        }

    def __call__(self, archive: Path, workdir: Path, purpose: str, progress: Progress) -> Verdict:
        return judge(
            archive,
            self.competition,
            workdir,
            progress=progress,
            private_items=self.competition.folder if purpose == HIDDEN else None,
            calibration_seconds=self.calibration_seconds,
        )
