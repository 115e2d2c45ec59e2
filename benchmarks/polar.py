"""Time isotropic merging by polar factors against full singular value decompositions, on one matrix, in one run.

    python benchmarks/polar.py [OUT IN]

Both get the sum of three random task vectors, on one thread of the linear algebra library. Prints CPU seconds, their
ratios, and how far the results are apart relative to the largest entry.
"""

import sys
import time
from collections.abc import Callable

import numpy as np

from cuvee.ops.blas import one_thread_a_matrix
from cuvee.ops.spectrum import isotropic


def main() -> None:
    out, size = map(int, sys.argv[1:3] or (2048, 5632))
    matrix = np.random.default_rng(0).standard_normal((3, out, size)).astype(np.float32).sum(axis=0)
    with one_thread_a_matrix():
        seconds, merged = timed(lambda: isotropic(matrix))
        print(f"{out} x {size}: polar factor {seconds:.1f} s")
        for dtype in (np.float32, np.float64):
            taken, direct = timed(lambda dtype=dtype: by_decomposition(matrix.astype(dtype)))
            apart = np.abs(merged - direct).max() / np.abs(direct).max()
            print(f"full decomposition in {dtype.__name__} {taken:.1f} s, {taken / seconds:.1f} x, apart {apart:.1e}")


def by_decomposition(matrix: np.ndarray) -> np.ndarray:
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    return values.mean() * (left @ right)


def timed(work: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


if __name__ == "__main__":
    main()
