"""The contract of merge methods as tests, for built-in methods and for those of plug-ins."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from cuvee.engine.arrays import merge_by_definition, merge_tensors
from cuvee.errors import CuveeError
from cuvee.kernels import BLOCK
from cuvee.method import Method

SHAPES = ((1,), (7,), (1, 5), (5, 1), (3, 4), (2, 3, 4), (BLOCK + 3,), (257, 131))
LARGE = ((9 * BLOCK + 17,), (3, 70, 499))
SEMANTICS = ("mergekit", "paper")

Settings = Mapping[str, Any]


class MethodContract:
    """The properties of a merge method. A subclass names a method, and pytest collects a test for each property.

        class TestUnanimous(MethodContract):
            method = unanimous
            settings = {"weight": 0.6}

    - `method`: the method, installed under the entry point `cuvee.methods`.
    - `settings`: settings at which the method does its work: some entries left out, models of unequal weight.
    - `whole`: settings at which it leaves nothing out: then a model merged with itself is that model.

    A subclass sets a test to None where its method lacks the property by design.
    """

    method: Method
    settings: Settings = MappingProxyType({})
    whole: Settings = MappingProxyType({})

    def test_the_engine_equals_the_definition(self) -> None:
        """Merging in blocks gives the result of the plain rule on whole tensors."""
        for shape in SHAPES:
            tensors, base = self.example(shape)
            for options in self._options():
                streamed = self.merge(tensors, base, chunk=BLOCK, **options)
                np.testing.assert_allclose(
                    streamed, self.define(tensors, base, **options), rtol=1e-6, atol=1e-6, err_msg=f"{shape} {options}"
                )

    def test_chunks_change_no_bit(self) -> None:
        for shape in LARGE:
            tensors, base = self.example(shape)
            for options in self._options():
                whole = self.merge(tensors, base, chunk=16 * BLOCK, **options).tobytes()
                for chunk in (BLOCK, 5 * BLOCK):
                    merged = self.merge(tensors, base, chunk=chunk, **options).tobytes()
                    assert merged == whole, f"chunks of {chunk} entries change {shape}, {options}"

    def test_equal_models_give_that_model(self) -> None:
        tensors, base = self.example((4, 5))
        if self.method.base == "endpoint":
            base = tensors[0]
        merged = self.merge([tensors[0]] * len(tensors), base, **self.whole)
        np.testing.assert_allclose(merged, tensors[0], rtol=1e-6, atol=1e-6)

    def test_models_equal_to_the_base_give_the_base_bit_for_bit(self) -> None:
        tensors, base = self.example((4, 5))
        if base is None:
            return
        base[0, 0] = -0.0
        merged = self.merge([base.copy() for _ in tensors], base, **self.settings)
        if self.method.base == "endpoint":
            np.testing.assert_allclose(merged, base, rtol=1e-6)
        else:
            assert merged.tobytes() == base.tobytes()

    def test_one_expert_at_full_weight_is_that_expert(self) -> None:
        if not self.works_on_deltas or self.method.models[0] > 1:
            return
        tensors, base = self.example((4, 5))
        merged = self.merge(tensors[:1], base, **self.whole)
        np.testing.assert_allclose(merged, tensors[0], rtol=1e-6, atol=1e-6)

    def test_the_order_of_models_changes_no_draw_and_no_tie(self) -> None:
        tensors, base = self.example((37, 11))
        if self.method.base == "endpoint" or len(tensors) == 1:
            return
        order = list(range(len(tensors)))
        straight = self._in_order(order, tensors, base)
        turned = self._in_order(order[-1:] + order[:-1], tensors, base)
        np.testing.assert_allclose(turned, straight, atol=1e-6 * np.abs(straight).max())

    def test_larger_task_vectors_give_a_larger_change(self) -> None:
        tensors, base = self.example((6, 7))
        if base is None or not self.works_on_deltas:
            return
        zero = np.zeros_like(base)
        deltas = [tensor - base for tensor in tensors]
        once = self.merge(deltas, zero, **self.settings)
        eightfold = self.merge([np.float32(8) * delta for delta in deltas], zero, **self.settings)
        np.testing.assert_allclose(eightfold, 8 * once, rtol=1e-5, atol=1e-6)

    def test_lambda_scales_the_change(self) -> None:
        tensors, base = self.example((6, 7))
        if base is None or not self.works_on_deltas:
            return
        once = self.merge(tensors, base, **self.settings)
        half = self.merge(tensors, base, **self.settings, lambda_=0.5)
        np.testing.assert_allclose(half - base, 0.5 * (once - base), atol=1e-6)

    def test_other_number_types_agree_with_float32(self) -> None:
        tensors, base = self.example((9, 8))
        narrow = [tensor.astype(np.float16) for tensor in tensors]
        narrow_base = None if base is None else base.astype(np.float16)
        reference = self._merged_in(np.float32, narrow, narrow_base)
        for dtype in (np.float16, np.float64):
            merged = self._merged_in(dtype, narrow, narrow_base)
            assert merged.dtype == dtype
            np.testing.assert_allclose(merged, reference, rtol=2e-3, atol=2e-3)

    def test_a_number_that_is_not_finite_stops_the_merge(self) -> None:
        for value in (np.nan, np.inf):
            tensors, base = self.example((3, 4))
            tensors[0][1, 2] = value
            message = self._refusal(tensors, base, **self.settings)
            assert "element 6" in message, f"expected an error that names element 6 for {value}, got {message!r}"

    def test_unknown_settings_are_named(self) -> None:
        tensors, base = self.example((3,))
        message = self._refusal(tensors, base, **self.settings, densty=0.5)
        assert "takes no parameter 'densty'" in message, message

    def test_the_method_says_what_it_does(self) -> None:
        assert self.method.summary.endswith("."), "the docstring of the rule begins with a sentence"
        assert self.method.formula, "a method has a formula"
        assert self.method.key == self.method.rule.__name__, "the function is called like the method"

    @property
    def works_on_deltas(self) -> bool:
        return self.method.base in ("delta", "optional")

    def example(self, shape: tuple[int, ...], seed: int = 0) -> tuple[list[np.ndarray], np.ndarray | None]:
        """Make tensors with ties and untouched entries, and their base if the method has one.

        A third of the entries of each task vector is zero; half of the others lie on a coarse grid.
        """
        generator = np.random.default_rng(seed)
        base = generator.standard_normal(shape).astype(np.float32)
        tensors = []
        for _ in range(self._count()):
            change = generator.standard_normal(shape) * 0.1
            change = np.where(generator.random(shape) < 0.5, np.round(change * 8) / 8, change)
            tensors.append(base + np.where(generator.random(shape) < 1 / 3, 0, change).astype(np.float32))
        return tensors, None if self.method.base == "member" else base

    def merge(self, tensors: list[np.ndarray], base: np.ndarray | None, **options: Any) -> np.ndarray:
        """Merge as the engine does: block by block, with kernels."""
        return np.asarray(merge_tensors(self.method.key, tensors, base=base, **options))

    def define(self, tensors: list[np.ndarray], base: np.ndarray | None, **options: Any) -> np.ndarray:
        """Merge by the plain rule on whole tensors."""
        if self.method.base == "endpoint" and base is not None:
            return np.asarray(merge_by_definition(self.method.key, np.stack([base, *tensors]), **options))
        return np.asarray(merge_by_definition(self.method.key, np.stack(tensors), base=base, **options))

    def _count(self) -> int:
        least, most = self.method.models
        if self.method.base == "endpoint":
            return 1
        return min(most or 3, max(3, least))

    def _options(self) -> Iterator[dict[str, Any]]:
        for semantics in SEMANTICS:
            yield {**self.settings, "semantics": semantics}

    def _in_order(self, order: list[int], tensors: list[np.ndarray], base: np.ndarray | None) -> np.ndarray:
        settings = dict(self.settings)
        if "weight" in settings:
            settings["weight"] = [(0.5, 0.3, 0.9)[i] for i in order]
        names = ["abc"[i] for i in order]
        return self.merge([tensors[i] for i in order], base, names=names, **settings)

    def _merged_in(self, dtype: type, tensors: list[np.ndarray], base: np.ndarray | None) -> np.ndarray:
        converted: list[np.ndarray] = [tensor.astype(dtype) for tensor in tensors]
        return self.merge(converted, None if base is None else base.astype(dtype), **self.settings)

    def _refusal(self, tensors: list[np.ndarray], base: np.ndarray | None, **options: Any) -> str:
        try:
            self.merge(tensors, base, **options)
        except CuveeError as error:
            return str(error)
        return ""
