"""The cost of a merge, known from its steps."""

from collections.abc import Mapping, Sequence

from cuvee.checkpoint.write import OutputTensor
from cuvee.plan.eight_bits import outputs
from cuvee.plan.materials import Materials
from cuvee.plan.memory import DEFAULT_MEMORY, least_memory, readings
from cuvee.plan.modify import measures_changes
from cuvee.plan.plan import Forecast, MergeStep
from cuvee.plan.settings import measures_weights


def forecast(steps: Sequence[MergeStep], coded: Mapping[str, str], materials: Materials) -> Forecast:
    """Count the bytes that the steps read and write, and the memory that they take at least."""
    read, written, most_passes = 0, 0, 1
    for step in steps:
        passes = 1 + _surveying(step, materials)
        for source in step.all_inputs:
            tensors = materials.sources[materials.models[source.model]].tensors
            read += tensors[source.tensor].nbytes * passes
        plain = OutputTensor(step.name, step.dtype, step.shape)
        written += sum(tensor.nbytes for tensor in outputs([plain], coded))
        most_passes = max(most_passes, passes)
    return Forecast(read, written, most_passes, least_memory(steps), materials.aligned.opening.bytes_downloaded)


def _surveying(step: MergeStep, materials: Materials) -> int:
    """Return how often a step's inputs are read before they are merged."""
    if step.action != "merge":
        return 0
    whole = materials.method.surveying(materials.recipe.semantics, step.settings, whole_model=True)
    sources = [materials.sources[materials.models[i.model]] for i in step.all_inputs]
    own = readings(step, sources, DEFAULT_MEMORY // 2) - 1
    again = own + 1 if measures_changes(materials.recipe.post) else 0
    return whole + own + again + measures_weights(materials.recipe)
