"""The recipe's models with rows for the same tokens, and the files of the output's tokenizer.

Without `tokenizer` in the recipe only what is certain is done: models with the same tokenizer and different padding get
the base's number of rows.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cuvee.checkpoint import TensorSource
from cuvee.errors import CheckpointError, CuveeError, RecipeError
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
from cuvee.tokenizers.union import Union, join

STALE = ("tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json")
"""Other forms of a vocabulary, which a joined tokenizer.json replaces."""

TOKENIZER_FILES = (*FILES, SETTINGS, "special_tokens_map.json", TEMPLATE, "chat_template.json", "tekken.json")
SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "decoder_start_token_id")


@dataclass(frozen=True)
class Vocabulary:
    """What is done to vocabularies. `donor` is whose tokenizer files are copied, but for `dropped` and `texts`."""

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
        self._made: dict[Path, tempfile.TemporaryDirectory[str]] = {}

    def tokenizer(self, which: int) -> Tokenizer:
        if which not in self._tokenizers:
            self._tokenizers[which] = read_tokenizer(self.folder(which))
        return self._tokenizers[which]

    def folder(self, which: int) -> Path:
        """Return where a model's tokenizer is. Of a model on a hub its files are downloaded: they are small."""
        repository, place = self.opening.repositories[which], self.opening.places[which]
        own = tokenizer_place(self.opening.sources[which])
        if own is not None:
            return own
        if place is not None and lies_in_gguf(place):
            return self.made_folder(place)
        if place is not None:
            return place if place.is_dir() else place.parent
        if repository is None:
            message = "'tokenizer' and 'chat_template' need models in folders or on a hub"
            raise RecipeError(message, where=str(self.models[which]))
        for name in repository.files:
            if name in TOKENIZER_FILES or is_template_file(name):
                cached(self.hub, repository, name)
        return repository.folder

    def made_folder(self, file: Path) -> Path:
        """Return a folder with the tokenizer of a GGUF file, which is there as long as this is."""
        if file not in self._made:
            self._made[file] = tempfile.TemporaryDirectory()
            for name, text in tokenizer_texts(file).items():
                (Path(self._made[file].name) / name).write_text(text, encoding="utf-8")
        return Path(self._made[file].name)

    def as_asked(self, choice: TokenizerChoice) -> Aligned:
        """Align to the vocabulary that the recipe names."""
        keeper = self.models.index(choice.source) if isinstance(choice.source, ModelRef) else 0
        if None in self.rows:
            raise CheckpointError("has no embedding of tokens to align", where=str(self.models[self.rows.index(None)]))
        tokenizers = [self.tokenizer(which) for which in range(len(self.models))]
        union = join(tokenizers) if choice.source == "union" else None
        ids = union.ids if union else tokenizers[keeper].ids
        parties = [Party(t, rows or 0) for t, rows in zip(tokenizers, self.rows, strict=True)]
        fillings = [self.filling(rule, parties) for rule in choice.rules]
        rows = padded_rows(max(ids.values(), default=-1) + 1, parties[keeper].rows, choice.pad_to_multiple_of)
        try:
            base = 0 if self.recipe.base_model is not None else None
            maps = row_maps(ids, rows, parties, base=base, keeper=keeper, fillings=fillings)
        except RecipeError as error:
            raise RecipeError(error.message, where=self.recipe.source, hint=error.hint) from error
        notes, warnings = [f"tokenizer: {choice.source}, {len(ids)} tokens, {rows} rows"], []
        for which, tokenizer in enumerate(tokenizers):
            if which != keeper:
                found = in_words(compare(tokenizers[keeper], tokenizer))
                notes.append(f"{self.models[which]} against {self.models[keeper]}: {found}")
        zeros = sorted({n for m in maps for n, fill in m.fills.items() if not fill} - {ids[f.token] for f in fillings})
        if zeros:
            warnings.append(f"{len(zeros)} tokens have a row in no model and become zeros: ids {_some(zeros)}")
        if union:
            notes.append(f"{check_union(union, tokenizers)} texts were encoded and decoded with the joined tokenizer")
        vocabulary = Vocabulary(keeper, notes=tuple(notes), **self.files(keeper, union))
        return self.aligned(maps, rows, vocabulary, tuple(warnings))

    def filling(self, rule: TokenRule, parties: Sequence[Party]) -> Filling:
        """Find the row that a rule of the recipe names."""
        if rule.model is None:
            return Filling(rule.token, (), rule.force)
        which = self.models.index(rule.model)
        named = rule.token if rule.rows == "model" else rule.text
        row = rule.number if named is None else parties[which].row(named)
        if row is None or row >= parties[which].rows:
            what = f"token '{named}'" if named is not None else f"row {row}"
            raise RecipeError(f"'{rule.model}' has no {what}, which 'tokens' asks for", where=self.recipe.source)
        return Filling(rule.token, ((which, row),), rule.force)

    def files(self, keeper: int, union: Union | None) -> dict[str, Any]:
        """Return what the tokenizer's files say and which of the donor's do not fit."""
        ids = {key: value for key, value in self.opening.sources[keeper].config.items() if key in SPECIAL_IDS}
        changes = ids if keeper else {}
        if union is None:
            return {"config_changes": changes}
        settings = self.folder(keeper) / SETTINGS
        texts = {JSON: union.text}
        known = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
        if union.added and isinstance(known.get("added_tokens_decoder"), dict):
            entries = {entry["content"]: entry for entry in union.content["added_tokens"]}
            for token in union.added:
                entry = {key: value for key, value in entries[token].items() if key != "id"}
                known["added_tokens_decoder"][str(union.ids[token])] = entry
            texts[SETTINGS] = json.dumps(known, indent=2, ensure_ascii=False) + "\n"
        return {"config_changes": changes, "texts": texts, "dropped": frozenset(STALE)}

    def as_they_are(self) -> Aligned:
        """Align models that differ by padding only; note others with different vocabularies."""
        known = [rows for rows in self.rows if rows is not None]
        unchanged = Aligned(self.opening, Vocabulary(0))
        if len(known) < len(self.rows) or len(known) < 2:
            return unchanged
        if self.recipe.groups.get("embeddings") == self.models[0]:
            return unchanged  # the others' rows are of no use
        same = [self.same_tokenizer(which) for which in range(len(self.models))]
        if len(set(known)) == 1:
            return replace(unchanged, warnings=self.differences(same))
        if all(same) and self.tokens() <= min(known):
            notes = [
                f"{model} has {rows} rows for the same tokens as {self.models[0]}, which has {known[0]}: "
                + ("padding is left out" if rows > known[0] else "padding is taken from there")
                for model, rows in zip(self.models, known, strict=True)
                if rows != known[0]
            ]
            maps = same_tokens_maps(known, 0)
            return self.aligned(maps, known[0], Vocabulary(0, notes=tuple(notes)), ())
        return replace(unchanged, opening=self.refused(known))

    def differences(self, same: Sequence[bool | None]) -> tuple[str, ...]:
        """Warn of tokenizers that differ, or that may, though the models have equally many rows."""
        warnings = []
        if others := [str(model) for model, equal in zip(self.models, same, strict=True) if equal is False]:
            message = f"the tokenizers of {', '.join(others)} and {self.models[0]} differ; rows are merged by their ids"
            warnings.append(f"{message}; 'tokenizer' in the recipe would align them")
        unknown = [i for i, equal in enumerate(same) if equal is None and self.hashes(i) and self.hashes(0)]
        if unknown:
            names = ", ".join(str(self.models[i]) for i in unknown)
            warnings.append(
                f"the tokenizer's files of {names} and {self.models[0]} differ; see `cuvee tokenizer compare`"
            )
        return tuple(warnings)

    def tokens(self) -> int:
        """Return how many rows the shared tokenizer needs, 0 where it is known by its hash only."""
        return self.tokenizer(0).size if self.is_here(0) else 0

    def refused(self, known: Sequence[int]) -> Opening:
        """Say that the vocabularies differ, and how, as far as that is known without downloads."""
        counts = ", ".join(f"{rows} rows in {model}" for model, rows in zip(self.models, known, strict=True))
        found = [
            f"{model} against {self.models[0]}: {in_words(compare(self.tokenizer(0), self.tokenizer(which)))}"
            for which, model in enumerate(self.models)
            if which and self.is_here(0) and self.is_here(which)
        ]
        message = "; ".join([f"the vocabularies differ: {counts}", *found])
        hint = "say which the output has: 'tokenizer: union' or 'tokenizer: base'"
        problem: CuveeError = CheckpointError(message, where=self.recipe.source, hint=hint)
        return replace(self.opening, problems=(*self.opening.problems, problem))

    def is_here(self, which: int) -> bool:
        """Say whether a model's tokenizer can be read without asking anybody."""
        try:
            repository = self.opening.repositories[which]
            if lies_in_gguf(self.opening.places[which]) and not can_read_gguf():
                return False
            if self.opening.places[which] is not None or tokenizer_place(self.opening.sources[which]) is not None:
                self.tokenizer(which)
                return True
            return repository is not None and bool(read_tokenizer(repository.folder).ids)
        except CheckpointError:
            return False

    def same_tokenizer(self, which: int) -> bool | None:
        """Say whether a model has the donor's tokenizer; None if that cannot be known."""
        if which == 0:
            return True
        first, second = self.hashes(0), self.hashes(which)
        if any(print_ in second.values() for print_ in first.values()):
            return True
        if not (self.is_here(0) and self.is_here(which)):
            return None
        return self.tokenizer(0).ids == self.tokenizer(which).ids

    def hashes(self, which: int) -> dict[str, str]:
        """Return hashes of a model's vocabulary file, all that a hub may call it by."""
        own = tokenizer_place(self.opening.sources[which])
        repository, place = self.opening.repositories[which], own or self.opening.places[which]
        if repository is not None and place is None:
            return {name: repository.files[name].blob for name in FILES[:5] if name in repository.files}
        folder = place if place is None or place.is_dir() else place.parent
        file = next((folder / name for name in FILES[:5] if folder and (folder / name).is_file()), None)
        if file is None:
            return {}
        data = file.read_bytes()
        git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        return {"sha256": hashlib.sha256(data).hexdigest(), "git": git}

    def aligned(self, maps: Sequence[RowMap], rows: int, vocabulary: Vocabulary, warnings: tuple[str, ...]) -> Aligned:
        sources: list[TensorSource] = []
        for which, (source, own) in enumerate(zip(self.opening.sources, self.rows, strict=True)):
            names = vocabulary_tensors(source.tensors, own or 0)
            if maps[which].is_identity and own == rows:
                sources.append(source)
            else:
                sources.append(AlignedCheckpoint(self.opening.sources, which, maps[which], frozenset(names)))
        donor = self.opening.sources[0]
        if rows != self.rows[0]:
            changes = {**vocabulary.config_changes, **resized(donor.config, rows)}
            vocabulary = replace(vocabulary, config_changes=changes)
        return Aligned(replace(self.opening, sources=tuple(sources)), vocabulary, warnings)

    def with_template(self, vocabulary: Vocabulary, written: str) -> Vocabulary:
        folders = [self.folder(which) for which in range(len(self.models))]
        try:
            names = [str(model) for model in self.models]
            chosen = chosen_templates(written, names, folders, beside=self.recipe.folder)
        except RecipeError as error:
            raise RecipeError(error.message, where=self.recipe.source, hint=error.hint) from error
        file = folders[vocabulary.donor] / SETTINGS
        texts = {**vocabulary.texts, **chosen.files}
        if SETTINGS in texts or file.is_file():
            texts[SETTINGS] = without_template(texts.get(SETTINGS) or file.read_text(encoding="utf-8"))
        notes = list(chosen.notes)
        lost = [name for name in chat_templates(folders[vocabulary.donor]).others if name not in chosen.others]
        if lost:
            notes.append(
                f"chat templates of {self.models[vocabulary.donor]} are replaced: {', '.join(lost)} is left out"
            )
        dropped = vocabulary.dropped | {"chat_template.json"}
        return replace(vocabulary, texts=texts, dropped=dropped, notes=(*vocabulary.notes, *notes))


def _some(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:5]))
    return f"{shown}, ..." if len(numbers) > 5 else shown


def is_tokenizer_file(name: str) -> bool:
    """Say whether a companion belongs to the tokenizer."""
    return name in TOKENIZER_FILES or name.endswith(".model") or is_template_file(name)


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
    return describe_all([str(model) for model in references], tokenizers, family.opening.sources, templates)
