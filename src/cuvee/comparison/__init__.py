"""Task vectors side by side: norms, cosines, sign conflicts and overlap, by layer and role. Streams, writes nothing."""

from cuvee.comparison.figures import Figures, ModelFigures, PairFigures
from cuvee.comparison.groups import ComparedTensor, Group
from cuvee.comparison.matching import LeftOut
from cuvee.comparison.models import Comparison, compare, compare_checkpoints

__all__ = [
    "ComparedTensor",
    "Comparison",
    "Figures",
    "Group",
    "LeftOut",
    "ModelFigures",
    "PairFigures",
    "compare",
    "compare_checkpoints",
]
