"""The vectors of a folder's pictures on disk: made once, and after that only of what is new or changed.

pictures.json     whose vectors they are, and for each picture its number and its stamp (size and time of the file)
vectors-*.usearch the vectors by number, in usearch's own format; the one that pictures.json names counts

Both are written beside their place and renamed, pictures.json last: a reader meets the old index or the new one.

N pictures, D width.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from torch import Tensor

from diptych.capabilities.nan_check import checked
from diptych.capabilities.predictor import Predictor
from diptych.core.errors import CheckpointError, MissingExtra
from diptych.core.source import Source
from diptych.core.storage import atomic_file, write_text
from diptych.core.visual import Image
from diptych.data.derived.subset import select_keys
from diptych.serving.job import JobOptions, Outcome, Row, ask_all, demand_answers
from diptych.serving.pictures import PictureFolder

DESCRIPTION = "pictures.json"
FORMAT = 1
EXACT_UP_TO = 100_000
"""Up to so many pictures every one is compared; above, usearch's graph finds the nearest, and may miss one."""
SAVE_EVERY = 20_000
"""New pictures after which a long build is saved, so that a kill does not cost all of it."""


@dataclass(frozen=True)
class Entry:
    """Where a picture's vector is, and of which file."""

    number: int
    stamp: str


@dataclass(frozen=True)
class Hit:
    """A picture that was found; the score is the cosine."""

    key: str
    score: float


@dataclass
class Update:
    """What has changed since the index was last brought up to date.

    Attributes:
        outcome: of looking at new and changed pictures; None where there are none.
    """

    new: int = 0
    changed: int = 0
    gone: int = 0
    outcome: Outcome | None = None


@dataclass
class PictureIndex:
    """Vectors of pictures by one model.

    Attributes:
        folder: where it lies; made when it is first saved.
        fingerprint: of the model and its preprocessing.
        name: of the model, for messages.
    """

    folder: Path
    fingerprint: str
    name: str
    entries: dict[str, Entry] = field(default_factory=dict)
    _vectors: Any = None
    _unsaved: int = 0
    _next: int = 0

    @classmethod
    def open(cls, folder: Path, fingerprint: str, name: str) -> PictureIndex:
        """The index in a folder; an empty one where there is none.

        Raises:
            CheckpointError: it is of another model, or damaged, or no index.
            MissingExtra: usearch is not installed.
        """
        index = cls(folder, fingerprint, name)
        path = folder / DESCRIPTION
        if not path.is_file():
            if folder.is_dir() and any(folder.iterdir()):
                raise CheckpointError(f"{folder} is no index of pictures, and not empty: name another folder")
            return index
        plain = _description(path)
        if plain["fingerprint"] != fingerprint:
            raise CheckpointError(
                f"{folder} is the index of another model, {plain['name']}, or of other weights or preprocessing than "
                f"those of {name} now: its vectors cannot be compared with this one's"
            )
        index.entries = {key: Entry(int(number), stamp) for key, (number, stamp) in plain["pictures"].items()}
        index._next = int(plain["next"])
        index._vectors = _restored(folder / plain["vectors"], plain["bytes"])
        return index

    def update(
        self, model: Any, source: Source, options: JobOptions, advance: Callable[[int], None] = lambda _: None
    ) -> Update:
        """Takes in what is new or changed, and forgets what is gone; an interrupt keeps what was taken in.

        Raises:
            DataError: the index is empty, and not one of the pictures can be read.
            StorageError: the index cannot be written.
        """
        found = stamps(source)
        gone = [key for key in self.entries if key not in found]
        old = [key for key, entry in self.entries.items() if key in found and found[key] != entry.stamp]
        missing = [key for key in source.keys() if key not in self.entries or key in set(old)]
        self._forget([*gone, *old])
        done = Update(len(missing) - len(old), len(old), len(gone))
        if missing:
            done.outcome = self._take_in(model, source, missing, found, options, advance)
        if self._unsaved or gone or old:
            self.save()
        return done

    def _take_in(
        self, model: Any, source: Source, keys: Sequence[str], found: Mapping[str, str], options: JobOptions,
        advance: Callable[[int], None],
    ) -> Outcome:  # fmt: skip
        def ask(some: Sequence[str], images: Sequence[Image]) -> list[Row]:
            self._add(some, checked(model.encode_image(list(images)), model, some[0]), found)
            if self._unsaved >= SAVE_EVERY:
                self.save()
            return [{}] * len(some)

        chosen = select_keys(source, keys)
        done = ask_all(model, chosen, ask, options, advance)
        if not self.entries:  # of new pictures none may be readable; of all there are, one must be
            demand_answers(done, model, chosen)
        return done

    def _add(self, keys: Sequence[str], vectors_ND: Tensor, found: Mapping[str, str]) -> None:
        if self._vectors is None:
            self._vectors = _empty(vectors_ND.shape[1])
        numbers = np.arange(self._next, self._next + len(keys), dtype=np.uint64)
        self._next += len(keys)
        self._vectors.add(numbers, vectors_ND.float().cpu().numpy())
        for key, number in zip(keys, numbers.tolist(), strict=True):
            self.entries[key] = Entry(number, found[key])
        self._unsaved += len(keys)

    def _forget(self, keys: Sequence[str]) -> None:
        if keys:
            self._vectors.remove(np.array([self.entries.pop(key).number for key in keys], np.uint64))

    def save(self) -> None:
        """Writes it in place of what was there.

        Raises:
            StorageError: the disk is full, or the folder cannot be written.
        """
        if self._vectors is None:
            return
        path = self.folder / f"vectors-{uuid4().hex[:12]}.usearch"
        with atomic_file(path) as part:
            part.write_bytes(self._vectors.save())
        plain = {
            "format": FORMAT, "fingerprint": self.fingerprint, "name": self.name, "vectors": path.name,
            "next": self._next, "bytes": path.stat().st_size,
            "pictures": {key: [entry.number, entry.stamp] for key, entry in self.entries.items()},
        }  # fmt: skip
        write_text(self.folder / DESCRIPTION, json.dumps(plain))
        for other in self.folder.glob("vectors-*.usearch"):
            if other != path:
                other.unlink(missing_ok=True)
        self._unsaved = 0

    def search(self, vector_D: Tensor, top: int) -> list[Hit]:
        """The nearest pictures, best first; equal ones in the order of their keys."""
        if not self.entries:
            return []
        keys = {entry.number: key for key, entry in self.entries.items()}
        exact = len(keys) <= EXACT_UP_TO
        found = self._vectors.search(vector_D.float().cpu().numpy(), min(top, len(keys)), exact=exact)
        pairs = zip(found.keys.tolist(), found.distances.tolist(), strict=True)
        hits = [Hit(keys[number], 1.0 - distance) for number, distance in pairs]
        return sorted(hits, key=lambda hit: (-hit.score, hit.key))


def stamps(source: Source) -> dict[str, str]:
    """What changes when a picture does: size and time of its file; of other data the fingerprint of all of them."""
    if not isinstance(source, PictureFolder):
        return dict.fromkeys(source.keys(), source.fingerprint())
    found = {}
    for key in source.keys():
        try:
            stat = source.path(key).stat()
        except OSError:
            found[key] = "missing"
        else:
            found[key] = f"{stat.st_size}:{stat.st_mtime_ns}"
    return found


def _description(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is truncated or not JSON") from error
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no index of pictures of format {FORMAT}")
    return plain


def _usearch() -> Any:
    try:
        from usearch import index
    except ModuleNotFoundError as error:
        raise MissingExtra("usearch", "search", "an index of pictures") from error
    return index


def _empty(width: int) -> Any:
    return _usearch().Index(ndim=width, metric="ip", dtype="f32")


def _restored(path: Path, size: int) -> Any:
    """The vectors of a file whose length is as it was written: usearch trusts what it reads."""
    index = _usearch()
    if not path.is_file() or path.stat().st_size != size:
        raise CheckpointError(f"{path} is missing or truncated")
    try:
        return index.Index.restore(os.fspath(path))
    except RuntimeError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def fingerprint_of(model: Predictor) -> str:
    """32 hex digits of everything a picture's vector depends on: the kind of model, its settings, every weight."""
    from hashlib import blake2b

    import torch

    digest = blake2b(digest_size=16)
    kind = f"{type(model).__module__}:{type(model).__qualname__}"
    digest.update(json.dumps([kind, model.describe()], sort_keys=True).encode())
    for name, tensor in sorted(model.module.state_dict().items()):
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        digest.update(memoryview(flat.view(torch.uint8).numpy()))
    return digest.hexdigest()
