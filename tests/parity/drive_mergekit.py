"""Run by mergekit's own Python: does a list of jobs in one process. Knows nothing of cuvee.

    python drive_mergekit.py JOBS.json ANSWERS.json

A job is {"id", "kind": "recipe", "text", "out"}: a whole merge into the folder "out"; or {"id", "kind": "tensors",
"method", "file", "base", "parameters", "draws", "out"}: one tensor of several models, "draws" times with the generator
seeded 0, 1, ..., stacked into "out". With "stable" equal magnitudes are sorted by position. An answer is {"id",
"error"}: what went wrong, or null.
"""

import json
import logging
import sys
from contextlib import contextmanager
from pathlib import Path

import torch
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.merge_methods.api import merge_tensors
from mergekit.options import MergeOptions
from safetensors.torch import load_file, save_file

OPTIONS = MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True)


@contextmanager
def equal_ones_by_position():
    """Let torch's sorts take the earlier of two equal numbers for the larger one, instead of either."""
    plain = torch.sort, torch.argsort, torch.topk

    def descending(numbers):
        return plain[0](numbers, dim=-1, descending=True, stable=True)

    def sort(numbers, descending_=False, **options):
        assert numbers.ndim == 1, "only flat tensors are sorted in this way"
        largest_first = descending(numbers)
        if options.get("descending", descending_):
            return largest_first
        return torch.return_types.sort((largest_first.values.flip(0), largest_first.indices.flip(0)))

    def argsort(numbers, **options):
        return sort(numbers, **options).indices

    def topk(numbers, k, largest=True):
        assert largest, "only the largest are asked for"
        found = descending(numbers)
        return found.values[:k], found.indices[:k]

    torch.sort, torch.argsort, torch.topk = sort, argsort, topk
    try:
        yield
    finally:
        torch.sort, torch.argsort, torch.topk = plain


def merge_recipe(job):
    torch.manual_seed(0)
    run_merge(MergeConfiguration.model_validate(yaml.safe_load(job["text"])), job["out"], OPTIONS)


def merge_one_tensor(job):
    tensors = load_file(job["file"])
    stack = [tensors[str(i)] for i in range(len(tensors))]
    merged = []
    for draw in range(job["draws"]):
        torch.manual_seed(draw)
        merged.append(merge_tensors(stack, job["method"], base_index=job["base"], parameters=job["parameters"]))
    save_file({"merged": torch.stack(merged).contiguous()}, job["out"])


def done(job):
    """Do a job; return what went wrong, if anything."""
    doing = {"recipe": merge_recipe, "tensors": merge_one_tensor}[job["kind"]]
    try:
        if job["stable"]:
            with equal_ones_by_position():
                doing(job)
        else:
            doing(job)
    except Exception as error:  # noqa: BLE001  # whatever mergekit raises is its answer
        return f"{type(error).__name__}: {error}"
    return None


def main(jobs, answers):
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    found = [{"id": job["id"], "error": done(job)} for job in json.loads(Path(jobs).read_text())]
    Path(answers).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
