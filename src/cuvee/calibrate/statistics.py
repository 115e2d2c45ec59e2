"""Writes statistics: the numbers of the sites in turn, and their origin when all are there."""

import json
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from cuvee.checkpoint.dtypes import name_of
from cuvee.checkpoint.write import partial_folder, refuse_existing, remove_empty, write_error
from cuvee.statistics import RECORD_FILE, STATISTICS_FILE, Record

ENTRY_BYTES = 700
"""Room for what the header says of one tensor: a name of up to 512 characters, its type, its shape, its place."""


class StatisticsWriter:
    """Writes a folder of statistics, which appears whole or not at all. Use it as a context manager.

    How many tensors there are at the most decides how much room the header of the file is given before them: the
    tensors and their sizes are only known in the end.
    """

    def __init__(self, out: Path, most_tensors: int) -> None:
        self.out = out
        self._partial = partial_folder(out)
        self._folder = self._partial / "statistics"
        self._header_bytes = 8 * (most_tensors * ENTRY_BYTES // 8 + 1)
        self._entries: dict[str, Any] = {}
        self._end = 0

    def __enter__(self) -> "StatisticsWriter":
        refuse_existing(self.out, overwrite=None)
        try:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            self._file = (self._folder / STATISTICS_FILE).open("wb")
            self._file.seek(8 + self._header_bytes)
        except OSError as error:
            raise write_error(error, self.out) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._file.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        remove_empty(self._partial)

    def add(self, name: str, numbers: np.ndarray) -> None:
        """Write a tensor."""
        try:
            self._file.write(np.ascontiguousarray(numbers).reshape(-1).view(np.uint8).data)
        except OSError as error:
            raise write_error(error, self.out) from error
        end = self._end + numbers.nbytes
        self._entries[name] = {
            "dtype": name_of(numbers.dtype),
            "shape": list(numbers.shape),
            "data_offsets": [self._end, end],
        }
        self._end = end

    def finish(self, record: Record) -> None:
        """Write the header and the record, and rename the folder into place."""
        header = json.dumps(self._entries, separators=(",", ":")).encode()
        if len(header) > self._header_bytes:
            raise AssertionError(f"the header has {len(header)} bytes, and {self._header_bytes} are kept for it")
        try:
            self._file.seek(0)
            self._file.write(self._header_bytes.to_bytes(8, "little") + header.ljust(self._header_bytes))
            self._file.close()
            (self._folder / RECORD_FILE).write_text(
                record.model_dump_json(indent=1, by_alias=True) + "\n", encoding="utf-8"
            )
            refuse_existing(self.out, overwrite=None)  # it may have appeared since the start
            os.rename(self._folder, self.out)
        except OSError as error:
            raise write_error(error, self.out) from error
