"""The files of an output besides its weights: companions, recipe, card, `cuvee.json`; and the end, when it appears.

`write_companions` does all that needs the plan and returns a record in plain JSON. The rest needs that record and
the journals only, so that the parts of a split merge are joined without recipe and inputs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cuvee.checkpoint.companions import copy_companions, merged_config
from cuvee.checkpoint.digest import digest_of_entries
from cuvee.checkpoint.naming import FileNames, Layout
from cuvee.checkpoint.write import CheckpointWriter, OutputTensor, remove_empty
from cuvee.engine.card import model_card
from cuvee.engine.journal import Finished
from cuvee.engine.measures import is_measured, measured
from cuvee.engine.options import Options
from cuvee.engine.provenance import Figures, ParentFiles, inputs_of, provenance, with_sha256
from cuvee.engine.workers import Workers
from cuvee.plan import Plan
from cuvee.plan.adapters import tokenizer_place
from cuvee.plan.eight_bits import written_tensors
from cuvee.plan.mergekit import as_mergekit
from cuvee.plan.vocabulary import is_tokenizer_file
from cuvee.tokenizers.read import TEMPLATE, is_template_file

Record = Mapping[str, Any]


def write_companions(plan: Plan, writer: CheckpointWriter, shard_bytes: int, inputs: Sequence[ParentFiles]) -> Record:
    """Write all files that do not depend on the merged numbers. Returns the part of the plan that `finish` needs."""
    donor = plan.sources[plan.donor]
    copied = _copy_companions(plan, writer.folder)
    texts = dict(plan.vocabulary.texts)
    if plan.recipe.text:
        texts["recipe.yaml"] = plan.recipe.text
    if donor.config:
        texts["config.json"] = merged_config(donor.config, dict(plan.config_changes))
    mergekit = as_mergekit(plan.recipe) if plan.making is None else None
    if mergekit is not None:
        texts["mergekit_config.yml"] = mergekit
    for name, text in texts.items():
        writer.write_file(name, text)
    blank = f"<digest of {plan.digest}>"  # the recipe, which the card shows, cannot hold a digest of itself
    return {
        "tensors": [[tensor.name, tensor.dtype, list(tensor.shape)] for tensor in written_tensors(plan)],
        "coded": dict(plan.coded),
        "shard_bytes": shard_bytes,
        "layout": {folder: [names.stem, names.variant] for folder, names in plan.layout.items()},
        "files": [*copied, *texts],
        "card": model_card(plan, inputs, blank, copied).split(blank),
        "provenance": provenance(plan, inputs),
    }


def _copy_companions(plan: Plan, folder: Path) -> list[str]:
    """Copy the donor's companions, but for the tokenizer's if it is another model's or made anew."""
    vocabulary = plan.vocabulary
    donor, keeper = plan.sources[plan.donor], plan.sources[vocabulary.donor]
    own = tokenizer_place(keeper)
    place, other = donor.place, own or keeper.place
    if place is None or other is None:
        return []
    replaced = {*vocabulary.texts, *vocabulary.dropped}

    def kept(name: str) -> bool:
        is_old_template = is_template_file(name) and TEMPLATE in replaced
        if name in replaced or is_old_template:
            return False
        return plan.custom_code or not name.endswith(".py")

    if vocabulary.donor == plan.donor and own is None:
        return copy_companions(place, folder, donor.files(), wanted=kept)
    copied = copy_companions(place, folder, donor.files(), wanted=lambda n: kept(n) and not is_tokenizer_file(n))
    merged = keeper.files() if own is None else ()
    return copied + copy_companions(other, folder, merged, wanted=lambda n: kept(n) and is_tokenizer_file(n))


def write_record(
    plan: Plan, writer: CheckpointWriter, workers: Workers, options: Options, *, hash_inputs: bool
) -> Record:
    """Write the companions of the workers' tensors. Returns the record, with the measurements."""
    inputs = inputs_of(plan)
    if hash_inputs:
        inputs = with_sha256(inputs, threads=options.threads, progress=options.heard)
    record = write_companions(plan, writer, options.shard_bytes, inputs)
    if is_measured(plan):
        return with_provenance(record, measured=measured(plan, workers.steps))
    return record


def with_provenance(record: Record, **said: Any) -> Record:
    """Return the record with more for `cuvee.json` to say."""
    return {**record, "provenance": {**record["provenance"], **said}}


def recorded_tensors(record: Record) -> list[OutputTensor]:
    """List the tensors that the plan of a record writes."""
    return [OutputTensor(name, dtype, tuple(shape)) for name, dtype, shape in record["tensors"]]


def recorded_layout(record: Record) -> Layout:
    """Return how the files of the plan of a record are called."""
    return {folder: FileNames(stem, variant) for folder, (stem, variant) in record["layout"].items()}


def cast_loss(record: Record, finished: Mapping[str, Finished]) -> float | None:
    """Return how much of the change the final cast lost, relative to its length; None where nothing was cast."""
    scales = {*record["coded"].values()}
    losses = [finished[name].loss for name, _, _ in record["tensors"] if name not in scales]
    moved = sum(loss.moved for loss in losses)
    lost = sum(loss.lost for loss in losses)
    return (lost / moved) ** 0.5 if moved else None


def finish(writer: CheckpointWriter, record: Record, finished: Mapping[str, Finished], figures: Figures) -> str:
    """Write card and `cuvee.json`, and let the folder appear. Returns the weights' digest."""
    tensors = recorded_tensors(record)
    digest = digest_of_entries((t.name, t.dtype, t.shape, finished[t.name].digest) for t in tensors)
    _remove_strays(writer, record)
    writer.write_file("README.md", digest.join(record["card"]))
    known = {**record["provenance"], "weights_digest": digest, "figures": asdict(figures)}
    writer.write_file("cuvee.json", json.dumps(known, indent=2, ensure_ascii=False) + "\n")
    writer.finish()
    return digest


def _remove_strays(writer: CheckpointWriter, record: Record) -> None:
    """Remove files of an earlier run that this run does not write: a companion that the donor no longer has."""
    masks = record["provenance"].get("masks", ())
    written = {*record["files"], *(shard.file for shard in writer.shards)}
    written |= {mask["file"] for mask in masks}
    for file in sorted(writer.folder.rglob("*"), reverse=True):  # what is in a folder before the folder
        if file.is_dir():
            remove_empty(file)
        elif file.relative_to(writer.folder).as_posix() not in written:
            file.unlink()
