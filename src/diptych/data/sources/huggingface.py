"""A Hugging Face dataset, by hub id or a folder that `save_to_disk` wrote (extra: datasets)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diptych.core.errors import DataError, MissingExtra
from diptych.core.sample import Sample
from diptych.data.sources._captions import CAPTION_FIELDS, captions_of, plain_meta
from diptych.data.sources._content import digest_of
from diptych.data.sources.parquet import picture_of


class HuggingFaceSource:
    """Random access to one split; pictures stay encoded.

    Args:
        reference: a hub id or a folder.
        splits: words for the split, the first that there is counts; keys begin with the first of them.
        fields: where captions stand.

    Raises:
        MissingExtra: `datasets` is not installed.
        DataError: no such dataset or split, or no pictures in it.
    """

    def __init__(self, reference: str, splits: Sequence[str], fields: Sequence[str] = CAPTION_FIELDS) -> None:
        try:
            import datasets
        except ModuleNotFoundError as error:
            raise MissingExtra("datasets", "datasets", f"opening 'hf:{reference}'") from error
        self.name = f"hf:{reference}"
        self.problems: dict[str, list[str]] = {}
        self._fields = fields
        found: Any
        try:
            if Path(reference).is_dir():
                found = datasets.load_from_disk(reference)
                if isinstance(found, datasets.DatasetDict):
                    found = found[_first(splits, list(found))]
            else:
                there = datasets.get_dataset_split_names(reference) if len(splits) > 1 else splits
                found = datasets.load_dataset(reference, split=_first(splits, there))
        except (FileNotFoundError, KeyError, ValueError, ConnectionError) as error:
            raise DataError(f"cannot open split '{splits[0]}' of the dataset {reference}: {error}") from error
        pictures = [name for name, feature in found.features.items() if isinstance(feature, datasets.Image)]
        if not pictures:
            raise DataError(f"{self.name} has no picture column; found {', '.join(found.features)}")
        self._picture = pictures[0]
        labels = found.features.get("label")
        self._classes = labels.names if isinstance(labels, datasets.ClassLabel) else None
        self._rows = found.cast_column(self._picture, datasets.Image(decode=False))
        self._keys = [f"{splits[0]}-{index:08d}" for index in range(len(found))]

    def __len__(self) -> int:
        return len(self._keys)

    def keys(self) -> Sequence[str]:
        return self._keys

    def fingerprint(self) -> str:
        """Of what `datasets` says the rows were made by, the split, and the fields that captions come from."""
        return digest_of([self._rows._fingerprint, *self._keys[:1], *self._fields])

    def __getitem__(self, index: int) -> Sample:
        record = self._rows[index]
        key = self._keys[index]
        meta = plain_meta(record, (*self._fields, self._picture))
        if self._classes is not None:
            meta["class"] = self._classes[record["label"]]
        return Sample(
            key, (picture_of(record[self._picture], key, Path()),), captions_of(record, self._fields), meta=meta
        )


def _first(words: Sequence[str], there: Sequence[str]) -> str:
    """The first word that names a split.

    Raises:
        ValueError: none does.
    """
    for word in words:
        if word in there:
            return word
    raise ValueError(f"its splits are {', '.join(there)}")
