"""What a worker judges with: this machine, tested and calibrated once, and the competition's folder."""

import logging
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from cuvee.competition.fitness import Fitness
from cuvee.competition.runs import HIDDEN
from cuvee.errors import PlatformError
from cuvee.hub import Hub
from cuvee.progress import Progress, Silent
from cuvee.submission.competition import TIERS, Competition
from cuvee.submission.control import ENOUGH, judge_a_parent, whole_model
from cuvee.submission.expected import ControlScore
from cuvee.submission.hardware import calibrate, this_machine
from cuvee.submission.judge import Pace, judge
from cuvee.submission.measure import load_parts
from cuvee.submission.sandbox import Sandbox, choose_sandbox
from cuvee.submission.sandbox.choose import Host, find_walls
from cuvee.submission.scratch import own_folder
from cuvee.submission.verdict import Verdict

log = logging.getLogger("cuvee.competition.judging")

HUB_CACHE = "cuvee-judged"


@dataclass(frozen=True)
class Bench:
    """Judges submissions of one competition on this machine. Private items are measured in final runs only.

    `host` is what the worker is told of its machine. Without a `sandbox` the best one of this machine is taken, anew
    each time.
    """

    competition: Competition
    host: Host = field(default_factory=Host)
    sandbox: Sandbox | None = None
    _first_answers: dict[str, str] = field(default_factory=dict)

    @cached_property
    def calibration_seconds(self) -> float:
        """How long the reference work takes here."""
        return calibrate()

    def _chosen_sandbox(self) -> Sandbox:
        """Return what submissions are judged in. Raises PlatformError if the competition takes nothing that is here."""
        if self.sandbox is not None:
            return self.sandbox
        tier = max(self.competition.rules.tiers, key=TIERS.index)
        counts_cpu = self.competition.budget.cpu_seconds is not None
        return choose_sandbox(tier, self.competition.without, host=self.host, counts_cpu=counts_cpu)

    def self_test(self) -> Fitness:
        """Read all tasks, and judge one of the competition's models. Raises CuveeError if this machine cannot judge.

        The answers must be those of this worker's first test; whether its score is the expected score, the server says.
        """
        sandbox, walls = self._chosen_sandbox(), find_walls(self.host)
        for note in walls.notes():
            log.warning("%s", note)
        load_parts(self.competition, self.competition.folder)
        control = self._judge_a_parent(sandbox)
        machine = this_machine()
        hardware = {
            "processor": machine.processor[:100],
            "cores": str(machine.cores),
            "accelerator": machine.accelerator or "none",
            "sandbox": sandbox.name,
            "lacks": ", ".join(walls.lacks) or "nothing",
            "calibration_seconds": f"{self.calibration_seconds:.4g}",
        }
        return Fitness(hardware, control)

    def _judge_a_parent(self, sandbox: Sandbox) -> ControlScore | None:
        """Judge a model of the competition, where it has a whole one, and see that it answers as it did at first."""
        if whole_model(self.competition) is None:
            log.warning("the competition has no whole model of its own, so this worker's test judges none")
            return None
        limits = Pace.of(self.competition.budget, self.calibration_seconds).limits(0.0)
        with own_folder(self.host.scratch) as folder:
            control = judge_a_parent(self.competition, sandbox, limits, folder / "work", Silent(), items=ENOUGH)
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
            leaderboard_items=self.competition.folder,
            hub=hub_of_workers(self.host.hub_bytes),
            sandbox=self._chosen_sandbox(),
            calibration_seconds=self.calibration_seconds,
        )


def hub_of_workers(most_bytes: int) -> Hub:
    """Return a hub whose cache, beside the user's own, is of this user's workers alone and stays within a size.

    Offline it is the user's own cache, which nothing is removed from.
    """
    hub = Hub()
    if hub.is_offline:
        return hub
    return replace(hub, cache=hub.cache_folder.with_name(HUB_CACHE), most_bytes=most_bytes)
