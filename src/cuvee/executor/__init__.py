"""Runs functions in slots: in this process, in processes of this machine, or on machines that Ray joins.

It knows nothing of models: it moves a function, its arguments and a result.
"""

from cuvee.executor.each import Ended, call_each
from cuvee.executor.executor import Done, Executor
from cuvee.executor.here import Here
from cuvee.executor.processes import Processes

__all__ = ["Done", "Ended", "Executor", "Here", "Processes", "call_each"]
