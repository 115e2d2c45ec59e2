"""What a worker judges with: this machine, tested and calibrated once, and the competition's folder."""

import logging
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cuvee.competition.fitness import Fitness
from cuvee.competition.runs import HIDDEN
from cuvee.errors import PlatformError
from cuvee.progress import Progress, Silent
from cuvee.submission.competition import TIERS, Competition
from cuvee.submission.control import ENOUGH, judge_a_parent, whole_model
from cuvee.submission.expected import ControlScore
from cuvee.submission.hardware import calibrate, this_machine
from cuvee.submission.judge import Pace, judge
from cuvee.submission.measure import load_parts
from cuvee.submission.sandbox import Sandbox, choose_sandbox
from cuvee.submission.sandbox.choose import find_walls
from cuvee.submission.verdict import Verdict

log = logging.getLogger("cuvee.competition.judging")


@dataclass(frozen=True)
class Bench:
    """Judges submissions of one competition on this machine. Private items are measured in final runs only.

    Without a `sandbox` the best one of this machine is taken, anew each time.
    """

    competition: Competition
    sandbox: Sandbox | None = None
    _first_answers: dict[str, str] = field(default_factory=dict)

    @cached_property
    def calibration_seconds(self) -> float:
        """How long the reference work takes here."""
        return calibrate()

    def self_test(self) -> Fitness:
        """Read all tasks, and judge one of the competition's models. Raises CuveeError if this machine cannot judge.

        The answers must be those of this worker's first test; whether its score is the expected one, the server says.
        """
        tier = max(self.competition.rules.tiers, key=TIERS.index)
        sandbox = self.sandbox or choose_sandbox(tier, self.competition.without)
        for note in find_walls().notes():
            log.warning("%s", note)
        load_parts(self.competition, self.competition.folder)
        control = self._judge_a_parent(sandbox)
        machine = this_machine()
        hardware = {
            "processor": machine.processor[:100],
            "cores": str(machine.cores),
            "accelerator": machine.accelerator or "none",
            "sandbox": type(sandbox).__name__,
            "lacks": ", ".join(find_walls().lacks) or "nothing",
            "calibration_seconds": f"{self.calibration_seconds:.4g}",
        }
        return Fitness(hardware, control)

    def _judge_a_parent(self, sandbox: Sandbox) -> ControlScore | None:
        """Judge a model of the competition, where it has a whole one, and see that it answers as it did at first."""
        if whole_model(self.competition) is None:
            log.warning("the competition has no whole model of its own, so this worker's test judges none")
            return None
        limits = Pace.of(self.competition.budget, self.calibration_seconds).limits(0.0)
        with tempfile.TemporaryDirectory(prefix="cuvee-control-", ignore_cleanup_errors=True) as folder:
            control = judge_a_parent(self.competition, sandbox, limits, Path(folder), Silent(), items=ENOUGH)
        first = self._first_answers.setdefault(self.competition.digest, control.answers)
        if control.answers != first:
            raise PlatformError("a model of the competition answers otherwise here than at this worker's start")
        return control

    def __call__(self, archive: Path, workdir: Path, purpose: str, progress: Progress) -> Verdict:
        return judge(
            archive,
            self.competition,
            workdir,
            progress=progress,
            private_items=self.competition.folder if purpose == HIDDEN else None,
            sandbox=self.sandbox,
            calibration_seconds=self.calibration_seconds,
        )
