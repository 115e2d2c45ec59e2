"""How `cuvee merge` and `cuvee plan` answer options of mergekit-yaml: with the option that does the same, or a reason.

The options are those of mergekit 0.1.5's `mergekit/options.py`.
"""

from collections.abc import Mapping
from itertools import chain
from typing import Any

from typer.core import TyperCommand

from cuvee.errors import RecipeError

ANSWERS: Mapping[str, str] = {
    "--allow-crimes": "not needed here: there is no table of architectures, and tensors that do not fit are named",
    "--async-write": "not needed here: output is always written while the merge goes on",
    "--clone-tensors": "not needed here: a layer may occur several times",
    "--copy-tokenizer": "not needed here: the tokenizer is copied, or made as 'tokenizer' in the recipe says",
    "--cuda": "`cuvee merge --device cuda`; by default (auto) a GPU is used for whole matrices if there is one",
    "--device": "a plan reads no tensor and needs none; `cuvee merge` takes it",
    "--gpu-rich": "`cuvee merge --device cuda`; nothing else of it is needed here",
    "--lazy-unpickle": "not needed here: every model is read lazily, and no pickle is ever run",
    "--lora-merge-cache": "not needed here: `base+adapter` is applied as tensors are read, and nothing is stored",
    "--lora-merge-dtype": "not needed here: adapters are added before anything is rounded to the output's type",
    "--low-cpu-memory": "not needed here: tensors are streamed, and `--memory 2GB` bounds what the merge takes",
    "--multi-gpu": "one GPU is used; `cuvee merge --part 1/2` splits a merge over processes or machines",
    "--no-copy-tokenizer": "the tokenizer is always copied; remove its files from the output if they are not wanted",
    "--no-cuda": "`cuvee merge --device cpu`",
    "--no-safe-serialization": "output is always safetensors",
    "--no-write-model-card": "the card is always written; remove README.md from the output if it is not wanted",
    "--num-threads": "`--threads N`; by default all cores are used",
    "--out-shard-size": "`cuvee merge --shard-size 5GB`, in bytes, where mergekit counts parameters",
    "--quiet": "not needed here: progress is shown on a terminal only, and stdout has the result alone",
    "--random-seed": "`seed: N` in the recipe, so that the recipe alone says what comes out",
    "--read-to-gpu": "not needed here: with `cuvee merge --device cuda` tensors go to the GPU as they are merged",
    "--safe-serialization": "not needed here: output is always safetensors",
    "--transformers-cache": "the hub's own cache is used: set HF_HUB_CACHE to move it",
    "--trust-remote-code": "not needed here: no code of a model is run; `cuvee merge --custom-code` copies it",
    "--unsafe-truncate-embeddings": "'tokenizer' in the recipe gives all models the same tokens, by their text",
    "--verbose": "`cuvee plan RECIPE --all` shows every step, `--debug` the place of an error",
    "--verbosity": "`cuvee plan RECIPE --all` shows every step, `--debug` the place of an error",
    "-v": "`cuvee plan RECIPE --all` shows every step, `--debug` the place of an error",
    "--write-model-card": "not needed here: the card, README.md, is always written",
    "--write-threads": "`--threads N`: each worker writes what it has merged",
}


class LikeMergekit(TyperCommand):
    """A command that answers mergekit's options with a hint instead of "no such option"."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = set(chain.from_iterable(parameter.opts for parameter in self.params))
        for argument in args:
            name = argument.partition("=")[0]
            if argument == "--":
                break
            answer = None if name in own else _answer(name)
            if answer is not None:
                raise RecipeError(f"'{name}' is an option of mergekit", hint=answer)
        return super().parse_args(ctx, args)


def _answer(name: str) -> str | None:
    """Return the answer to an option, or to its opposite where the answer is the same."""
    return ANSWERS.get(name) or ANSWERS.get(name.replace("--no-", "--", 1))
