"""One thread of the linear algebra library for each matrix.

With more, its sums are cut up differently, and the bytes of a merge would depend on the number of threads. Matrices are
merged side by side instead: a model has many, and one thread each keeps the cores busier than several on one.
"""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread_a_matrix() -> Iterator[None]:
    """Hold the libraries that NumPy and torch calculate with to one thread for each of their callers."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield
