"""Scores of pairs, a row a picture: what a matching head is asked for, in blocks, and kept on the way.

A model that looks at a picture and a text together takes minutes for what cosines take seconds for. So every finished
row is written down beside the evaluation's lines, and one that was interrupted goes on with the rows it has.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diptych.capabilities.nan_check import checked
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.storage import storage_errors, write_text
from diptych.core.visual import Image
from diptych.evaluation.benchmark import PAIR_ROWS, Records
from diptych.evaluation.comparability import in_single
from diptych.evaluation.encoding import batched
from diptych.evaluation.progress import shown

BLOCK = 256
"""The most pairs in one call."""

Columns = NDArray[np.int64]
Scores = NDArray[np.float32]


def pair_rows(
    model: Any, samples: Sequence[Sample], texts: Sequence[str], columns: Sequence[Columns], records: Records
) -> dict[int, Scores]:
    """Position of each picture that can be read -> its scores with the texts of its columns.

    Args:
        model: has `score_pairs`.
        columns: for each picture the positions in `texts` of what it is paired with.
    """
    kept = KeptRows(records.folder)
    found: dict[int, Scores] = {}
    for index, sample in shown(enumerate(samples), "scores of pairs", len(samples), records):
        row = kept.row(sample.key, columns[index])
        if row is None:
            try:
                row = _row(model, sample.image, [texts[column] for column in columns[index]], sample.key)
            except BadSample as bad:
                records.fail(BadSample(sample.key, bad.reason, bad.detail))
                continue
            kept.add(sample.key, columns[index], row)
        found[index] = row
    kept.finished()
    return found


def _row(model: Any, image: Image, texts: Sequence[str], key: str) -> Scores:
    scores = [checked(model.score_pairs([image] * len(some), some), model, key) for some in batched(texts, BLOCK)]
    row: Scores = in_single(torch.cat(scores), model).cpu().numpy() if scores else np.zeros(0, np.float32)
    return row


class KeptRows:
    """The rows of an evaluation that was interrupted, in `pairs.jsonl` beside its lines."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / PAIR_ROWS if folder else None
        self._rows: dict[str, tuple[Columns, Scores]] = {}
        if self._path is not None and self._path.is_file():
            self._read(self._path)

    def _read(self, path: Path) -> None:
        with path.open(encoding="utf-8") as file:
            lines = [line for line in file if line.endswith("\n")]
        write_text(path, "".join(lines))  # without a last line that was cut off, to which the next would be joined
        for one in map(json.loads, lines):
            self._rows[one["key"]] = np.array(one["columns"], np.int64), np.array(one["scores"], np.float32)

    def row(self, key: str, columns: Columns) -> Scores | None:
        """The scores of a picture with exactly these texts, where they are known."""
        if key not in self._rows:
            return None
        known, scores = self._rows[key]
        return scores if np.array_equal(known, columns) else None

    def add(self, key: str, columns: Columns, scores: Scores) -> None:
        """Writes a row down.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        if self._path is None:
            return
        line = json.dumps({"key": key, "columns": columns.tolist(), "scores": scores.tolist()})
        with storage_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def finished(self) -> None:
        """Removes the file: what the rows said goes into the evaluation's lines now."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
