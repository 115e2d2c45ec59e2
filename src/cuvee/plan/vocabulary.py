"""The recipe's models with rows for the same tokens, and the files of the output's tokenizer.

Without `tokenizer` in the recipe only safe changes are made: models with the same tokenizer and different padding
get the base's number of rows.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.checkpoint import parse_config
from cuvee.errors import CheckpointError, RecipeError, closest
from cuvee.hub import Hub, cached
from cuvee.plan.adapters import tokenizer_place
from cuvee.plan.resolve import Opening, open_models
from cuvee.recipe.recipe import Recipe, Slice, Source
from cuvee.recipe.reference import ModelRef, parse_reference
from cuvee.recipe.vocabulary import TokenizerChoice, TokenRule
from cuvee.structure.vocabulary import resized, vocabulary_rows, vocabulary_tensors
from cuvee.tokenizers.align import Filling, Party, padded_rows, row_maps, same_tokens_maps
from cuvee.tokenizers.chat import chat_template, chat_templates, chosen_templates, without_template
from cuvee.tokenizers.check import check_union
from cuvee.tokenizers.compare import compare, in_words
from cuvee.tokenizers.gguf import can_read_gguf, lies_in_gguf, tokenizer_texts
from cuvee.tokenizers.read import FILES, JSON, SETTINGS, TEMPLATE, Tokenizer, is_template_file, read_tokenizer
from cuvee.tokenizers.report import Described, describe_all
from cuvee.tokenizers.rows import AlignedCheckpoint, RowMap
from cuvee.tokenizers.union import Union, join, new_tokens

STALE = ("tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json")
"""Other forms of a vocabulary, which a joined tokenizer.json replaces."""

VOCABULARIES = FILES[:5]
"""Files that hold a whole vocabulary, the likeliest first."""

TOKENIZER_FILES = (*FILES, SETTINGS, "special_tokens_map.json", TEMPLATE, "chat_template.json", "tekken.json")
GENERATION = "generation_config.json"
SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "decoder_start_token_id")


@dataclass(frozen=True)
class Vocabulary:
    """The changes of vocabularies and tokenizer files.

    The files of the model `donor` are copied, but for the `dropped`; `texts` are written in place of some.
    """

    donor: int
    config_changes: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Aligned:
    """The opened models, their embeddings and heads with rows for the same tokens where that was possible."""

    opening: Opening
    vocabulary: Vocabulary
    warnings: tuple[str, ...] = ()


def with_one_vocabulary(recipe: Recipe, opening: Opening, hub: Hub) -> Aligned:
    """Align the vocabularies of a recipe's models. Notes problems in the opening; raises CuveeError for some."""
    family = _Family(recipe, opening, hub)
    aligned = family.as_asked(recipe.tokenizer) if recipe.tokenizer else family.as_they_are()
    if recipe.chat_template is None:
        return aligned
    return replace(aligned, vocabulary=family.with_template(aligned.vocabulary, recipe.chat_template))


class _Family:
    """A recipe's models and their tokenizers, read when they are needed."""

    def __init__(self, recipe: Recipe, opening: Opening, hub: Hub) -> None:
        self.recipe = recipe
        self.opening = opening
        self.hub = hub
        self.models = recipe.models()
        self.rows = [vocabulary_rows(source.tensors, source.config) for source in opening.sources]
        self._tokenizers: dict[int, Tokenizer] = {}
        self._folders: dict[Path, tempfile.TemporaryDirectory[str]] = {}

    def tokenizer(self, which: int) -> Tokenizer:
        if which not in self._tokenizers:
            self._tokenizers[which] = read_tokenizer(self.folder(which))
        return self._tokenizers[which]

    def folder(self, which: int) -> Path:
        """Return the folder of a model's tokenizer. Of a model on a hub its files are downloaded: they are small."""
        model = self.opening.models[which]
        repository, place = model.repository, model.place
        own = tokenizer_place(model.source)
        if own is not None:
            return own
        if place is not None and lies_in_gguf(place):
            return self.folder_of_gguf(place)
        if place is not None:
            return place if place.is_dir() else place.parent
        if repository is None:
            message = "'tokenizer' and 'chat_template' need models in folders or on a hub"
            raise RecipeError(message, where=str(self.models[which]))
        for name in repository.files:
            if name in TOKENIZER_FILES or is_template_file(name):
                cached(self.hub, repository, name)
        return repository.folder

    def folder_of_gguf(self, file: Path) -> Path:
        """Return a folder with the tokenizer of a GGUF file, which lives as long as this family."""
        if file not in self._folders:
            self._folders[file] = tempfile.TemporaryDirectory()
            for name, text in tokenizer_texts(file).items():
                (Path(self._folders[file].name) / name).write_text(text, encoding="utf-8")
        return Path(self._folders[file].name)

    def as_asked(self, choice: TokenizerChoice) -> Aligned:
        """Align to the vocabulary that the recipe names."""
        keeper = self.models.index(choice.source) if isinstance(choice.source, ModelRef) else 0
        if None in self.rows:
            raise CheckpointError("has no embedding of tokens to align", where=str(self.models[self.rows.index(None)]))
        tokenizers = [self.tokenizer(which) for which in range(len(self.models))]
        joined = tokenizers if choice.source == "union" else [tokenizers[keeper]]
        tokens = set(chain.from_iterable(tokenizer.ids for tokenizer in joined))
        named = {rule.token: rule.special for rule in choice.rules if rule.token not in tokens}
        new = [new_tokens(named, tokenizers)] if named else []
        union = join([*joined, *new]) if len(joined) + len(new) > 1 else None
        ids = union.ids if union else tokenizers[keeper].ids
        parties = [Party(tokenizer, rows or 0) for tokenizer, rows in zip(tokenizers, self.rows, strict=True)]
        fillings = [self.filling(rule, parties) for rule in choice.rules]
        least_rows = max(ids.values(), default=-1) + 1
        rows = padded_rows(least_rows, parties[keeper].rows, choice.pad_to_multiple_of)
        base = 0 if self.recipe.base_model is not None else None
        try:
            maps = row_maps(ids, rows, parties, base=base, keeper=keeper, fillings=fillings)
        except RecipeError as error:
            raise RecipeError(error.message, where=self.recipe.source, hint=error.hint) from error

        notes = [f"tokenizer: {choice.source}, {len(ids)} tokens, {rows} rows"]
        notes += self.comparisons(keeper, tokenizers)
        if union:
            texts = check_union(union, joined)
            notes.append(f"{texts} texts were encoded and decoded with the joined tokenizer")
        warnings = []
        if named:
            warnings.append(
                f"tokens that the vocabulary lacks are added to it: {_shown_tokens(list(named), tokenizers)}"
            )
        zeros = _rows_of_zeros(maps) - {ids[filling.token] for filling in fillings}
        if zeros:
            warnings.append(f"{len(zeros)} tokens have a row in no model and become zeros: ids {_some(sorted(zeros))}")
        vocabulary = Vocabulary(keeper, notes=tuple(notes), **self.files(keeper, union))
        return self.aligned(maps, rows, vocabulary, tuple(warnings))

    def comparisons(self, keeper: int, tokenizers: Sequence[Tokenizer]) -> list[str]:
        """Say how every tokenizer differs from the keeper's."""
        sentences = []
        for which, tokenizer in enumerate(tokenizers):
            if which != keeper:
                difference = in_words(compare(tokenizers[keeper], tokenizer))
                sentences.append(f"{self.models[which]} against {self.models[keeper]}: {difference}")
        return sentences

    def filling(self, rule: TokenRule, parties: Sequence[Party]) -> Filling:
        """Find the row that a rule of the recipe names."""
        if rule.model is None:
            return Filling(rule.token, () if rule.rows == "zero" else None, rule.force)
        which = self.models.index(rule.model)
        party = parties[which]
        token = rule.token if rule.rows == "model" else rule.text
        row = rule.number if token is None else party.row(token)
        if row is None or row >= party.rows:
            missing = f"row {row}" if token is None else f"token '{token}'"
            raise RecipeError(f"'{rule.model}' has no {missing}, which 'tokens' asks for", where=self.recipe.source)
        return Filling(rule.token, ((which, row),), rule.force)

    def files(self, keeper: int, union: Union | None) -> dict[str, Any]:
        """Return the changes of config and texts of the tokenizer's files, and the donor's files that do not fit."""
        config = self.opening.sources[keeper].config
        changes = {}
        if keeper:
            changes = {key: value for key, value in config.items() if key in SPECIAL_IDS}
        generation = self.generation(keeper) if keeper else {}
        if union is None:
            return {"config_changes": changes, "texts": generation}
        texts = {JSON: union.text, **generation}
        file = self.folder(keeper) / SETTINGS
        settings = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        decoder = settings.get("added_tokens_decoder")
        if union.added and isinstance(decoder, dict):
            decoder |= _decoder_entries(union)
            texts[SETTINGS] = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
        return {"config_changes": changes, "texts": texts, "dropped": frozenset(STALE)}

    def generation(self, keeper: int) -> dict[str, str]:
        """Return the donor's settings of generation, by their file, with the ids of another model's special tokens.

        A blend with the other model's tokens would not know where its answers end by the ids of its own.
        """
        donors, keepers = self.settings_of_generation(0), self.settings_of_generation(keeper)
        if donors is None and keepers is None:
            return {}
        special = self.opening.sources[keeper].config if keepers is None else keepers
        settings = dict(donors or {})
        for key in SPECIAL_IDS:
            settings.pop(key, None)
        for key in SPECIAL_IDS:
            if key in special:
                settings[key] = special[key]
        return {GENERATION: json.dumps(settings, indent=2, ensure_ascii=False) + "\n"}

    def settings_of_generation(self, which: int) -> Mapping[str, Any] | None:
        """Read a model's generation_config.json, which is downloaded from a hub; None for a model without it."""
        repository = self.opening.models[which].repository
        if repository is not None and GENERATION in repository.files:
            cached(self.hub, repository, GENERATION)
        return generation_settings(self.folder(which))

    def as_they_are(self) -> Aligned:
        """Align models that differ by padding only; note others with different vocabularies."""
        unchanged = Aligned(self.opening, Vocabulary(0))
        counts = [rows for rows in self.rows if rows is not None]
        if len(counts) < len(self.rows) or len(counts) < 2:
            return unchanged
        if self.recipe.groups.get("embeddings") == self.models[0]:
            return unchanged  # the others' rows are of no use
        same = [self.same_tokenizer(which) for which in range(len(self.models))]
        if len(set(counts)) == 1:
            return replace(unchanged, warnings=self.differences(same))
        if not all(same) or self.tokens() > min(counts):
            return replace(unchanged, opening=self.refused(counts))
        notes = []
        for model, rows in zip(self.models, counts, strict=True):
            if rows != counts[0]:
                padding = "padding is left out" if rows > counts[0] else "padding is taken from there"
                sizes = f"{rows} rows for the same tokens as {self.models[0]}, which has {counts[0]}"
                notes.append(f"{model} has {sizes}: {padding}")
        return self.aligned(same_tokens_maps(counts, 0), counts[0], Vocabulary(0, notes=tuple(notes)), ())

    def differences(self, same: Sequence[bool | None]) -> tuple[str, ...]:
        """Warn of tokenizers that differ, or that may, though the models have equally many rows."""
        others, uncertain = [], []
        for which, model in enumerate(self.models):
            if same[which] is False:
                others.append(str(model))
            elif same[which] is None and self.has_hashes(which):
                uncertain.append(str(model))
        warnings = []
        if others:
            message = f"the tokenizers of {', '.join(others)} and {self.models[0]} differ; rows are merged by their ids"
            warnings.append(f"{message}; 'tokenizer' in the recipe would align them")
        if uncertain:
            message = f"the tokenizer's files of {', '.join(uncertain)} and {self.models[0]} differ"
            warnings.append(f"{message}; see `cuvee tokenizer compare`")
        return tuple(warnings)

    def tokens(self) -> int:
        """Return how many rows the shared tokenizer needs, 0 where it is known by its hash only."""
        return self.tokenizer(0).size if self.is_here(0) else 0

    def refused(self, counts: Sequence[int]) -> Opening:
        """Note that the vocabularies differ, and how, as far as that can be seen without downloads."""
        sizes = [f"{rows} rows in {model}" for model, rows in zip(self.models, counts, strict=True)]
        sentences = [f"the vocabularies differ: {', '.join(sizes)}"]
        if self.is_here(0):
            for which, model in enumerate(self.models):
                if which and self.is_here(which):
                    difference = in_words(compare(self.tokenizer(0), self.tokenizer(which)))
                    sentences.append(f"{model} against {self.models[0]}: {difference}")
        hint = "say which the output has: 'tokenizer: union' or 'tokenizer: base'"
        return self.opening.with_problems(CheckpointError("; ".join(sentences), where=self.recipe.source, hint=hint))

    def is_here(self, which: int) -> bool:
        """Say whether a model's tokenizer can be read without asking anybody."""
        model = self.opening.models[which]
        if lies_in_gguf(model.place) and not can_read_gguf():
            return False
        try:
            if model.place is not None or tokenizer_place(model.source) is not None:
                self.tokenizer(which)
                return True
            return model.repository is not None and bool(read_tokenizer(model.repository.folder).ids)
        except CheckpointError:
            return False

    def same_tokenizer(self, which: int) -> bool | None:
        """Say whether a model has the donor's tokenizer; None if that cannot be known."""
        if which == 0:
            return True
        if set(self.hashes(0).values()) & set(self.hashes(which).values()):
            return True
        if not (self.is_here(0) and self.is_here(which)):
            return None
        return self.tokenizer(0).ids == self.tokenizer(which).ids

    def has_hashes(self, which: int) -> bool:
        """Say whether the vocabulary files of a model and of the first can be compared."""
        return bool(self.hashes(which)) and bool(self.hashes(0))

    def hashes(self, which: int) -> dict[str, str]:
        """Return hashes of a model's vocabulary file, all that a hub may call it by."""
        model = self.opening.models[which]
        repository, place = model.repository, tokenizer_place(model.source) or model.place
        if place is None:
            files = repository.files if repository is not None else {}
            return {name: files[name].blob for name in VOCABULARIES if name in files}
        folder = place if place.is_dir() else place.parent
        for name in VOCABULARIES:
            if (folder / name).is_file():
                return _hashes_of((folder / name).read_bytes())
        return {}

    def aligned(self, maps: Sequence[RowMap], rows: int, vocabulary: Vocabulary, warnings: tuple[str, ...]) -> Aligned:
        """Return the models read with the rows of `maps`, and with the number of rows in the config."""
        sources: list[TensorSource] = []
        for which, source in enumerate(self.opening.sources):
            own_rows = self.rows[which]
            if maps[which].is_identity and own_rows == rows:
                sources.append(source)
            else:
                names = frozenset(vocabulary_tensors(source.tensors, own_rows or 0))
                sources.append(AlignedCheckpoint(self.opening.sources, which, maps[which], names))
        if rows != self.rows[0]:
            changes = {**vocabulary.config_changes, **resized(self.opening.sources[0].config, rows)}
            vocabulary = replace(vocabulary, config_changes=changes)
        return Aligned(self.opening.with_sources(sources), vocabulary, warnings)

    def with_template(self, vocabulary: Vocabulary, written: str) -> Vocabulary:
        """Return the vocabulary with the chat template that the recipe names."""
        folders = [self.folder(which) for which in range(len(self.models))]
        names = [str(model) for model in self.models]
        try:
            chosen = chosen_templates(written, names, folders, beside=self.recipe.folder)
        except RecipeError as error:
            raise RecipeError(error.message, where=self.recipe.source, hint=error.hint) from error
        donor = folders[vocabulary.donor]
        texts = {**vocabulary.texts, **chosen.files}
        file = donor / SETTINGS
        if SETTINGS not in texts and file.is_file():
            texts[SETTINGS] = file.read_text(encoding="utf-8")
        if SETTINGS in texts:
            texts[SETTINGS] = without_template(texts[SETTINGS])
        notes = [*vocabulary.notes, *chosen.notes]
        lost = [name for name in chat_templates(donor).others if name not in chosen.others]
        if lost:
            model = self.models[vocabulary.donor]
            notes.append(f"chat templates of {model} are replaced: {', '.join(lost)} is left out")
        dropped = vocabulary.dropped | {"chat_template.json"}
        return replace(vocabulary, texts=texts, dropped=dropped, notes=tuple(notes))


def _rows_of_zeros(maps: Sequence[RowMap]) -> set[int]:
    """Return the rows of the output that no model has."""
    rows: set[int] = set()
    for row_map in maps:
        rows |= {row for row, filling in row_map.fills.items() if not filling}
    return rows


def _hashes_of(data: bytes) -> dict[str, str]:
    """Return the two hashes by which hubs call a file: of its bytes, and as git's blob."""
    git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    return {"sha256": hashlib.sha256(data).hexdigest(), "git": git}


def _shown_tokens(named: Sequence[str], tokenizers: Sequence[Tokenizer]) -> str:
    """List the first of some new tokens, with the nearest known token, in case that is meant."""
    known = list(chain.from_iterable(tokenizer.ids for tokenizer in tokenizers))
    shown = []
    for token in named[:5]:
        guess = closest(token, known)
        shown.append(f"'{token}' (not '{guess}')" if guess else f"'{token}'")
    if len(named) > 5:
        shown.append("...")
    return ", ".join(shown)


def _decoder_entries(union: Union) -> dict[str, Any]:
    """Return the added tokens of a joined tokenizer as tokenizer_config.json lists them, by id."""
    by_token = {entry["content"]: entry for entry in union.content["added_tokens"]}
    entries = {}
    for token in union.added:
        entry = {key: value for key, value in by_token[token].items() if key != "id"}
        entries[str(union.ids[token])] = entry
    return entries


def _some(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:5]))
    return f"{shown}, ..." if len(numbers) > 5 else shown


def is_tokenizer_file(name: str) -> bool:
    """Say whether a companion belongs to the tokenizer."""
    if name in TOKENIZER_FILES or name.endswith(".model"):
        return True
    return is_template_file(name)


def compared(models: Sequence[str], hub: Hub) -> tuple[Described, ...]:
    """Describe the tokenizers of several models, each but the first against the first. Raises CuveeError."""
    try:
        references = tuple(dict.fromkeys(parse_reference(model) for model in models))
    except ValueError as error:
        raise RecipeError(str(error)) from error
    if len(references) < 2:
        raise RecipeError("expected two models or more to compare")
    sources = tuple(Source(model, {}) for model in references)
    recipe = Recipe("passthrough", (Slice(sources, {}),), False, {}, source="the command line")
    family = _Family(recipe, open_models(recipe, hub), hub)
    which = range(len(references))
    tokenizers = [family.tokenizer(i) for i in which]
    templates = [chat_template(family.folder(i)) for i in which]
    names = [str(model) for model in references]
    return describe_all(names, tokenizers, family.opening.sources, templates)


def generation_settings(folder: Path) -> Mapping[str, Any] | None:
    """Read a folder's generation_config.json; None for a folder without. Raises CheckpointError unless it is JSON."""
    file = folder / GENERATION
    return parse_config(file.read_text(encoding="utf-8"), file) if file.is_file() else None
