"""Says without labels whether a model is broken, and how: perplexity, collapse, and distance to its parents.

Importing this room imports neither torch nor transformers; `examine` does when it is called.
"""

from cuvee.doctor.examine import examine
from cuvee.doctor.findings import Diagnosis, Finding, Kinship, Signs

__all__ = ["Diagnosis", "Finding", "Kinship", "Signs", "examine"]
