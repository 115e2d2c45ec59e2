"""The diagonal of the Fisher information: how much a model's loss on a text depends on each entry of its tensors.

It is the empirical one (Matena and Raffel, arXiv:2111.09832, section 2, with the text's own tokens in place of drawn
ones): the mean over documents of (∂ loss / ∂θ)², where a document's loss is the sum over the tokens of its answer, or
over all tokens of a text without answers. Each document is run by itself, since squares of a batch's mean gradient
would be too small.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cuvee.calibrate.network import BlockNetwork  # first, for it says which extra is missing

# isort: split
import torch

from cuvee.calibrate.stored import Stored
from cuvee.calibrate.text import Document, Text
from cuvee.errors import CheckpointError, EvaluationError
from cuvee.evaluation.library import blaming
from cuvee.progress import Progress

Tensor = torch.Tensor


def fisher_diagonal(network: BlockNetwork, text: Text, progress: Progress) -> Iterator[tuple[str, Tensor]]:
    """Give the diagonal for each tensor of the checkpoint that the loss depends on, by its name, in float32.

    The whole model is in memory, in float32, and its sums beside it. Gradients of tied tensors are added up before they
    are squared. Raises EvaluationError for a text that predicts nothing, CheckpointError for gradients that are not
    finite.
    """
    documents = [document for document in text.documents if _predicted(document, text).any()]
    if not documents:
        raise EvaluationError("no token of it is predicted, so no loss depends on the model", where=text.name)
    module = network.whole()
    sums: dict[int, Tensor] = {}
    progress.start("gradients", len(documents), "documents")
    with _squares_summed(module, sums):
        for document in documents:
            with blaming(network.name, "run"), torch.enable_grad():
                _loss(module, document, text, network.device).backward()  # type: ignore[no-untyped-call]  # torch gives it no types
            progress.advance(1)
    progress.finish()
    for name, parameter in module.named_parameters():
        stored = network.stored(name)
        total = sums.pop(id(parameter), None)
        if stored is None or total is None:
            continue
        if not bool(total.isfinite().all()):
            raise CheckpointError(f"the gradients of '{name}' are not finite on this text", where=network.name)
        yield from _parts(stored, (total / len(documents)).cpu(), network.shape_in_file)


def _predicted(document: Document, text: Text) -> Tensor:
    """Say for each token whether the token after it counts in the loss."""
    predicts = torch.tensor(document.positions("answer" if text.has_answers else "all"))
    predicts[-1] = False
    return predicts


def _loss(module: torch.nn.Module, document: Document, text: Text, device: torch.device) -> Tensor:
    ids = torch.tensor(document.ids, device=device)
    predicts = _predicted(document, text).to(device)
    logits = module(input_ids=ids[None], use_cache=False).logits[0]
    targets = ids.roll(-1)[predicts]
    return torch.nn.functional.cross_entropy(logits[predicts].float(), targets, reduction="sum")


@contextmanager
def _squares_summed(module: torch.nn.Module, sums: dict[int, Tensor]) -> Iterator[None]:
    """Let each backward pass add the squares of gradients to `sums`, by the parameter, and keep no gradient."""
    handles = []
    for parameter in module.parameters():
        parameter.requires_grad_(True)
        hook = parameter.register_post_accumulate_grad_hook(_adding(sums))  # type: ignore[no-untyped-call]  # as above
        handles.append(hook)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        module.requires_grad_(False)


def _adding(sums: dict[int, Tensor]) -> Callable[[Tensor], None]:
    def hook(parameter: Tensor) -> None:
        gradient, parameter.grad = parameter.grad, None
        assert gradient is not None, "the hook runs when there is a gradient"
        if id(parameter) not in sums:
            sums[id(parameter)] = torch.zeros_like(gradient)
        sums[id(parameter)].addcmul_(gradient, gradient)

    return hook


def _parts(stored: Stored, total: Tensor, shape_of: Callable[[str], tuple[int, ...]]) -> Iterator[tuple[str, Tensor]]:
    """Cut the numbers of a network's tensor into those of the checkpoint's tensors that it is joined of."""
    groups = stored.joined.groups
    if stored.name is not None:
        yield stored.name, total
        return
    sizes = [_length(names, stored, shape_of) for names in groups]
    for names, part in zip(groups, torch.split(total, sizes, dim=stored.joined.dim), strict=True):
        first = 0
        for number, name in enumerate(names):
            if stored.joined.stacked:
                yield name, part[number]
                continue
            rows = shape_of(name)[0]
            yield name, part[first : first + rows]
            first += rows


def _length(names: tuple[str, ...], stored: Stored, shape_of: Callable[[str], tuple[int, ...]]) -> int:
    """Return the size of a group along the axis that groups are joined along."""
    axis, stacked = stored.joined.dim, stored.joined.stacked
    if stacked:
        return len(names) if axis == 0 else shape_of(names[0])[axis - 1]
    return sum(shape_of(name)[0] for name in names) if axis == 0 else shape_of(names[0])[axis]
