"""Where work of a submission runs: a process with limits, and walls around it where the machine can build them."""

from cuvee.submission.sandbox.bubblewrap import Bubblewrap
from cuvee.submission.sandbox.choose import choose_sandbox
from cuvee.submission.sandbox.container import Container
from cuvee.submission.sandbox.plain import Plain
from cuvee.submission.sandbox.protocol import Ended, Job, Limits, Sandbox

__all__ = ["Bubblewrap", "Container", "Ended", "Job", "Limits", "Plain", "Sandbox", "choose_sandbox"]
