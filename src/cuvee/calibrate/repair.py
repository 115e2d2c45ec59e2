"""`cuvee align`: models and texts by their names in, a repaired merge out, with a record of the repair."""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Unpack

from cuvee.calibrate.network import TRIAL_TOKENS, BlockNetwork  # first, for it says which extra is missing

# isort: split
import torch

from cuvee.adapters.low_rank import Wanted
from cuvee.amounts import bytes_text
from cuvee.arguments import checks_options
from cuvee.calibrate.depth_loop import Candidate, DepthLoop, Expert
from cuvee.calibrate.journal import BlockJournal, locked
from cuvee.calibrate.outcome import Aligned, TextFigures, Took
from cuvee.calibrate.repaired import Repaired, Solved
from cuvee.calibrate.settings import Alignment, alignment
from cuvee.calibrate.systems import ANCHOR
from cuvee.calibrate.text import Text, read_text, warnings_of
from cuvee.calibrate.two_sided import check_sides, open_network
from cuvee.checkpoint import TensorSource, open_checkpoint
from cuvee.checkpoint.stored_file import recorded
from cuvee.checkpoint.write import bring_back, partial_folder, refuse_existing, remove_empty
from cuvee.engine.combine import AdapterResult
from cuvee.engine.extract import Extraction, extract
from cuvee.engine.options import Options, RunOptions
from cuvee.engine.peak import PeakMemory
from cuvee.engine.run import MergeResult, run_plan, run_with
from cuvee.errors import CheckpointError, EvaluationError, OutOfBudget, PlatformError, RecipeError
from cuvee.evaluation.model import LanguageModel
from cuvee.hub import Hub
from cuvee.plan import Parent, Plan, make_plan
from cuvee.plan.materials import unaligned
from cuvee.plan.plan import Making
from cuvee.plan.recipes import copy_recipe
from cuvee.plan.resolve import model_to_read
from cuvee.progress import Progress, Silent
from cuvee.recipe.recipe import EIGHT_BITS, ONLY_IN_COMPETITION, Recipe, competition_text
from cuvee.versions import installed_version

MERGED = "the-merge"
"""What the merge before its repair is called in the hidden folder of an output."""

KIND = "aligned"
"""What `cuvee.json` calls the output."""

DEFAULT_MEMORY = 2_000_000_000
"""Bytes from which hidden states go to the disk where no limit is given: a quarter of it."""

LEAST_POSITIONS = 12
"""Below this many positions a text is a slip. Few more than that are warned of."""

CPU = torch.device("cpu")
"""Where repairs are calculated: hidden states stay in the main memory or on the disk."""

PAPER = "arXiv:2605.13030, arXiv:2508.03121"


@dataclass(frozen=True)
class _Opened:
    """A model that is opened by the name that it was asked for."""

    name: str
    parent: Parent
    network: BlockNetwork


@dataclass(frozen=True)
class _Models:
    """All models of a repair. Texts are by the experts' names."""

    merged: _Opened
    base: _Opened | None
    experts: Mapping[str, _Opened]
    texts: Mapping[str, Text]

    @property
    def all(self) -> list[_Opened]:
        base = [self.base] if self.base is not None else []
        return [self.merged, *base, *(expert for name, expert in self.experts.items() if expert not in base)]


def align(
    merged: str,
    out: Path | str,
    experts: Mapping[str, str],
    how: Alignment,
    *,
    base: str | None = None,
    recipe: Recipe | None = None,
    sources: Mapping[str, TensorSource] | None = None,
    compares: bool = False,
    adapter_rank: int | None = None,
    memory_bytes: int | None = None,
    threads: int = 1,
    overwrite: bool = False,
    resume: bool = True,
    hub: Hub | None = None,
    progress: Progress | None = None,
) -> Aligned:
    """Repair the merge `merged` by a text for each of its experts, and write it to the folder `out`.

    `experts` maps models to texts, as `cuvee.calibrate.text.read_text` takes them. With `compares` it is measured, at
    the cost of another stream, how far the merge was from the experts before. With `adapter_rank` the repair is written
    as a LoRA adapter of `merged`. `recipe` is its recipe, where merge and repair are done together, and `sources` are
    models that are opened already. A run that was stopped goes on where it was unless `resume` is false. All is
    calculated on the CPU.

    Raises RecipeError for settings and private parts, CheckpointError for models that do not fit together,
    EvaluationError for texts and models that cannot be run, OutOfBudget for too little memory.
    """
    heard = progress or Silent()
    out = Path(out).absolute()
    _check_asked(experts, how, base)
    refuse_existing(out, overwrite=overwrite)
    opener = _Opener(sources or {}, hub or Hub(), heard)
    models = _open_all(merged, base, experts, how, opener)
    warnings = warnings_of(models.texts, how.positions)
    identity = _identity(models, how, in_full=adapter_rank is not None, compares=compares)
    with _journal(out, identity, resume=resume) as journal:
        loop = DepthLoop(
            models.merged.network,
            [Expert(name, own.network, models.texts[name]) for name, own in models.experts.items()],
            how,
            journal,
            base=models.base.network if models.base is not None else None,
            compares=compares,
            in_full=adapter_rank is not None,
            threads=threads,
            memory_bytes=DEFAULT_MEMORY if memory_bytes is None else memory_bytes,
        )
        _check_memory(loop, memory_bytes)
        started = time.perf_counter()
        with PeakMemory() as peak:
            loop.run(heard)
        took = Took(time.perf_counter() - started, peak.bytes())
        chosen = _chosen(loop.candidates)
        solved = _solved(models.merged.network, journal, chosen)
        repaired = Repaired(models.merged.parent.source, solved)
        bring_back(out)
        if adapter_rank is None:
            making = _making(models, how, loop, chosen, took, recipe)
            plan = _plan(models, repaired, making, warnings, recipe)
            result: MergeResult | AdapterResult = run_plan(
                plan, out, threads=threads, overwrite=overwrite, resume=False, progress=heard
            )
        else:
            names = ("the aligned merge", models.merged.name)
            wanted = Extraction(Wanted(rank=adapter_rank), rest=True)
            result = extract(
                repaired, models.merged.parent.source, out, wanted, names=names, threads=threads, overwrite=overwrite,
                progress=heard,
            )  # fmt: skip
    rules = dict.fromkeys(models.merged.parent.source.tensors, "anchor") | dict.fromkeys(solved, "aligned")
    before = [candidate for candidate in loop.candidates if candidate.ridge == ANCHOR]
    return Aligned(
        result=result,
        ridge=chosen.ridge,
        divergences=_divergences(loop.candidates),
        blocks=tuple(chosen.blocks),
        before=tuple(before[0].blocks) if before else (),
        rules=rules,
        texts=text_figures(models, how),
        warnings=tuple(warnings),
        took=took,
    )


@checks_options
def merge_aligned(
    recipe: Recipe,
    out: Path | str,
    *,
    texts: Mapping[str, Path] | None = None,
    places: Mapping[str, Path] | None = None,
    statistics: Mapping[str, Path] | None = None,
    hub: Hub | None = None,
    custom_code: bool = False,
    **options: Unpack[RunOptions],
) -> Aligned:
    """Merge a recipe that says `align`, and repair the merge by the texts of its models.

    `cuvee.Options` describes the options, `make_plan` describes `places` and `statistics`. `texts` are files by the
    words that the recipe has for them; others are looked for from the current folder, or else from the recipe's.
    Raises the errors of `run_plan` and `align`.
    """
    if recipe.out_dtype in EIGHT_BITS:
        hint = "say bfloat16, and use `cuvee export fp8` on what comes out"
        message = f"'align' repairs numbers, not the codes of 'out_dtype: {recipe.out_dtype}'"
        raise RecipeError(message, where=recipe.source, hint=hint)
    how, named = alignment(**dict(recipe.align or {})), _texts_of(recipe, texts or {})
    place, chosen = Path(out).absolute(), Options(**options)
    refuse_existing(place, overwrite=chosen.overwrite)
    merged = partial_folder(place) / MERGED
    plain = make_plan(
        replace(recipe, align=None), places=places, statistics=statistics, hub=hub, custom_code=custom_code
    )
    run_with(replace(chosen, overwrite=True), plain, merged)
    try:
        return align(
            str(merged),
            place,
            named,
            how,
            base=str(recipe.base_model) if recipe.base_model is not None else None,
            recipe=recipe,
            sources=_local_sources(plain),
            memory_bytes=chosen.memory_bytes,
            threads=chosen.threads,
            overwrite=chosen.overwrite,
            resume=chosen.resume,
            hub=hub,
            progress=chosen.progress,
        )
    finally:
        shutil.rmtree(merged, ignore_errors=True)
        remove_empty(partial_folder(place))


def open_for_recipe(plan: Plan) -> tuple[_Models, Alignment]:
    """Open the models that a recipe aligns, its base or first model in the place of the merge; return the settings."""
    recipe = plan.recipe
    how, texts = alignment(**dict(recipe.align or {})), _texts_of(recipe, {})
    opener = _Opener(_local_sources(plan), plan.hub, Silent())
    return _open_all(str(plan.models[plan.donor]), None, texts, how, opener), how


def _local_sources(plan: Plan) -> dict[str, TensorSource]:
    """Return the models of a plan that lie in folders, which are relative to the recipe's, by their references."""
    models = zip(plan.models, plan.places, plan.sources, strict=True)
    return {str(model): unaligned(source) for model, place, source in models if place is not None}


def _texts_of(recipe: Recipe, handed: Mapping[str, Path]) -> dict[str, str]:
    """Return where the text of each model of a recipe is."""
    texts = {}
    for part in recipe.slices:
        for source in part.sources:
            if source.text is None:
                continue
            place = handed.get(source.text)
            texts[str(source.model)] = _found(source.text, recipe.folder) if place is None else str(place)
    return texts


def _found(text: str, folder: Path | None) -> str:
    """Find a text from the current folder, or else from the recipe's; anything else is a task's name."""
    if competition_text(text) is not None:
        raise RecipeError(f"'{text}' is a text of a competition", hint=ONLY_IN_COMPETITION)
    beside = folder / text if folder is not None else Path(text)
    if Path(text).exists() or not beside.exists():
        return text
    return str(beside)


def _check_asked(experts: Mapping[str, str], how: Alignment, base: str | None) -> None:
    if not experts:
        raise RecipeError("no expert was named", hint="name each with its text: --expert MODEL=TEXT")
    if how.push != 1.0 and base is None:
        raise RecipeError(f"push is {how.push}, which goes on from the base", hint="name it: --base MODEL")


def _open_all(merged: str, base: str | None, experts: Mapping[str, str], how: Alignment, opener: "_Opener") -> _Models:
    own = opener.open(merged)
    start = opener.open(base) if base is not None else None
    if own.network.turns_at is not None and how.positions != "all":
        message = f"positions is {how.positions}, and {merged} has an encoder, which sees no answer"
        raise RecipeError(message, hint="leave positions out: all count where there is an encoder")
    people = {name: opener.open(name) for name in experts}
    for other in [*people.values(), *([start] if start is not None else [])]:
        _check_alike(own, other)
    texts = {name: _text(people[name], text, how) for name, text in experts.items()}
    for name, text in texts.items():
        _check_length(name, text, how)
        _check_tokens(own, people[name], text)
    first = next(iter(texts.values())).documents[0]
    own.network.check_alone(first.ids[:TRIAL_TOKENS])
    return _Models(own, start, people, texts)


@dataclass(frozen=True)
class _Opener:
    """Opens models by their names, those of a hub among them, unless they are opened already."""

    sources: Mapping[str, TensorSource]
    hub: Hub
    progress: Progress

    def open(self, name: str) -> _Opened:
        source = self.sources.get(name)
        if source is None:
            source = model_to_read(name, self.hub, self.progress)
        folder = source.place
        if folder is None or not (folder / "config.json").is_file():
            hint = "write it as a folder first: cuvee merge with merge_method: passthrough"
            raise CheckpointError("its folder has no config.json, so it cannot be run", where=name, hint=hint)
        return _Opened(name, Parent(name, source), open_network(source, folder, name, device=CPU))


def _check_alike(merged: _Opened, other: _Opened) -> None:
    """Raise CheckpointError unless a model has the merge's blocks, shape by shape."""
    own, theirs = merged.network, other.network
    if own.depth != theirs.depth:
        message = f"it has {theirs.depth} blocks, and {merged.name} has {own.depth}"
        raise CheckpointError(message, where=other.name)
    check_sides(own, theirs)
    for number in range(own.depth):
        shapes, others = own.shapes(number), theirs.shapes(number)
        unlike = next((name for name in shapes | others if shapes.get(name) != others.get(name)), None)
        if unlike is not None:
            message = (
                f"'{unlike}' of block {number} is {others.get(unlike)}, and that of {merged.name} {shapes.get(unlike)}"
            )
            raise CheckpointError(message, where=other.name, hint="experts must have the shapes of the merge")


def _text(expert: _Opened, text: str, how: Alignment) -> Text:
    """Read an expert's text as the expert reads it: by its own tokenizer and chat template."""
    network = expert.network
    reader = LanguageModel(expert.name, "", network.module, network.tokenizer, context_length=how.length)
    return read_text(text, reader, tokens=how.tokens, length=how.length)


def _check_length(expert: str, text: Text, how: Alignment) -> None:
    """Raise RecipeError for a text that says nothing."""
    positions = text.counted(how.positions)
    if positions < LEAST_POSITIONS:
        message = f"its text {text.name} has {positions} positions that count, expected {LEAST_POSITIONS} at least"
        raise RecipeError(message, where=expert, hint="give it some documents of the expert's own skill")


def _check_tokens(merged: _Opened, expert: _Opened, text: Text) -> None:
    """Raise CheckpointError unless each token of a text is the same token in the merge's vocabulary."""
    ids = sorted(set(chain.from_iterable(document.ids for document in text.documents)))
    theirs = expert.network.tokenizer.convert_ids_to_tokens(ids)
    own = merged.network.tokenizer.convert_ids_to_tokens(ids)
    for token, word, other in zip(ids, theirs, own, strict=True):
        if word != other:
            message = f"token {token} is {word!r}, and {other!r} in {merged.name}: the two have other tokenizers"
            hint = "merge with one tokenizer first, and align with experts that have it"
            raise CheckpointError(message, where=expert.name, hint=hint)


def _identity(models: _Models, how: Alignment, *, in_full: bool, compares: bool) -> dict[str, Any]:
    """Return all that the solved tensors depend on, in plain JSON."""
    files = {model.name: recorded(model.parent.source.files()) for model in models.all}
    return {
        "settings": asdict(how),
        "in_full": in_full,
        "compares": compares,
        "models": files,
        "merged": models.merged.name,
        "base": models.base.name if models.base is not None else None,
        "texts": {name: text.digest for name, text in models.texts.items()},
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    return {name: installed_version(name) or "" for name in ("torch", "transformers")}


@contextmanager
def _journal(out: Path, identity: Mapping[str, Any], *, resume: bool) -> Iterator[BlockJournal]:
    """Give the journal of a repair to `out`. It stays only where the same command can go on with it."""
    partial = partial_folder(out)
    with locked(partial, out):
        folder = partial / KIND
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        journal = BlockJournal(folder, identity)
        try:
            yield journal
        except (KeyboardInterrupt, MemoryError, PlatformError):
            if not journal.blocks:
                journal.remove()
            raise
        except BaseException:
            journal.remove()
            raise
        journal.remove()


def _check_memory(loop: DepthLoop, memory_bytes: int | None) -> None:
    """Raise OutOfBudget if the data that must be held does not fit the limit."""
    if memory_bytes is None or loop.held_bytes <= memory_bytes:
        return
    message = f"a repair of this model holds {bytes_text(loop.held_bytes)}, and --memory is {bytes_text(memory_bytes)}"
    raise OutOfBudget(message, hint="give more memory, or fewer threads")


def _chosen(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate with the least divergence from the experts; the least ridge among equals."""
    solved = [candidate for candidate in candidates if candidate.ridge != ANCHOR]
    if len(solved) == 1:
        return solved[0]
    if any(candidate.divergence is None for candidate in solved):
        raise EvaluationError(
            "nothing could be held out to choose the ridge by",
            hint="give each expert two documents at least, or say the ridge",
        )
    return min(solved, key=lambda candidate: (candidate.divergence or 0.0, candidate.ridge))


def _divergences(candidates: Sequence[Candidate]) -> dict[str, float]:
    divergences = {}
    for candidate in candidates:
        name = "before" if candidate.ridge == ANCHOR else f"{candidate.ridge:g}"
        if candidate.divergence is not None:
            divergences[name] = candidate.divergence
    return divergences


def _solved(network: BlockNetwork, journal: BlockJournal, chosen: Candidate) -> Solved:
    """Map the checkpoint's names to the files that the journal has of the chosen ridge.

    Raises EvaluationError if no block has a map that can be solved.
    """
    solved: dict[str, Any] = {}
    for number in range(network.depth):
        if not journal.fits(number, chosen.ridge):
            continue  # a block of a mixture can be all experts and router
        file = open_checkpoint(journal.file(number, chosen.ridge))
        for own in file.tensors:
            name = network.stored_name(number, own)
            if name is not None:
                solved[name] = (file, own)
    if not solved:
        message = "no linear map of a block sees each position once, so nothing can be aligned"
        raise EvaluationError(message, where=network.name)
    return solved


def _plan(models: _Models, repaired: Repaired, making: Making, warnings: Sequence[str], recipe: Recipe | None) -> Plan:
    name = models.merged.name if recipe is None else MERGED
    copied = copy_recipe(name, source="align")
    copied = replace(copied, text=recipe.text if recipe is not None else "")
    plan = make_plan(copied, models={copied.models()[0]: repaired})
    return replace(plan, warnings=(*warnings, *plan.warnings), making=making)


def _making(
    models: _Models, how: Alignment, loop: DepthLoop, chosen: Candidate, took: Took, recipe: Recipe | None
) -> Making:
    known = {
        "settings": asdict(how),
        "ridge": chosen.ridge,
        "divergences": _divergences(loop.candidates),
        "texts": list(map(asdict, text_figures(models, how))),
        "blocks": list(map(asdict, chosen.blocks)),
        "figures": asdict(took),
        "versions": _versions(),
        "merge": _merge_record(models.merged.parent.source.place),
    }
    if recipe is None:
        command, digest = _command(models), _digest(known)
        name, parents = f"`{models.merged.name}`", models.all
    else:
        command, digest = "cuvee merge recipe.yaml OUT", recipe.digest
        name, parents = f"by {recipe.merge_method}", models.all[1:]
    experts = ", ".join(f"`{expert}`" for expert in models.experts)
    return Making(
        command=command,
        title="A merge, aligned with its experts",
        how=f"The merge {name}, whose linear maps were solved anew so that they answer texts of "
        f"{experts} as these models do ({PAPER}).",
        parents=tuple(model.parent for model in parents),
        recipe_digest=digest,
        reproducible="tolerance",
        tags=(KIND,),
        record={"kind": KIND, "command": command, "align": known},
    )


def _digest(known: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _command(models: _Models) -> str:
    base = f" --base {models.base.name}" if models.base is not None else ""
    people = " ".join(f"--expert {name}={models.texts[name].name}" for name in models.experts)
    return f"cuvee align {models.merged.name} OUT{base} {people}"


def _merge_record(place: Path | None) -> dict[str, Any]:
    """Return how the merge can be made again, as far as its own `cuvee.json` says."""
    try:
        record = json.loads((place / "cuvee.json").read_text(encoding="utf-8")) if place is not None else {}
    except (OSError, ValueError):
        return {}
    return {key: record[key] for key in ("recipe_digest", "plan_digest", "weights_digest") if key in record}


def text_figures(models: _Models, how: Alignment) -> tuple[TextFigures, ...]:
    """Return the figures of the part of each expert's text that was read."""
    return tuple(
        TextFigures(name, text.name, len(text.documents), text.tokens, text.counted(how.positions), text.digest)
        for name, text in models.texts.items()
    )
