"""A folder of one's own pictures, of which nothing else is known: found recursively, in the order of their paths."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.source import Source
from diptych.core.visual import Image
from diptych.data.open import open_source
from diptych.data.sources._content import digest_of, files_digest

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


class PictureFolder:
    """One sample a picture; keys are paths below the folder. A single picture is a folder of one.

    What begins with a dot is not looked at, and links to folders are not followed. Folders that cannot be read are
    counted in `problems`, by reason.

    Raises:
        DataError: nothing there, or no pictures.
    """

    def __init__(self, place: Path) -> None:
        self.name = str(place)
        self.folder = place if place.is_dir() else place.parent
        self.problems: dict[str, list[str]] = {}
        self._fingerprint = ""
        self._keys = sorted(self._found()) if place.is_dir() else [place.name]
        if not self._keys:
            unread = "; not all of its folders can be read" if self.problems else ""
            raise DataError(f"{place} holds no pictures: looked in all of its folders for {', '.join(ENDINGS)}{unread}")

    def _found(self) -> Iterator[str]:
        for folder, inner, names in os.walk(self.folder, onerror=self._note):
            inner[:] = [name for name in inner if not name.startswith(".")]
            for name in names:
                if name.lower().endswith(ENDINGS) and not name.startswith("."):
                    yield (Path(folder) / name).relative_to(self.folder).as_posix()

    def _note(self, error: OSError) -> None:
        place = Path(str(error.filename)).relative_to(self.folder).as_posix()
        self.problems.setdefault(f"folder cannot be read ({error.strerror})", []).append(place)

    def __len__(self) -> int:
        return len(self._keys)

    def keys(self) -> Sequence[str]:
        return self._keys

    def path(self, key: str) -> Path:
        """Where a picture lies."""
        return self.folder / key

    def fingerprint(self) -> str:
        """Of paths and contents, as they are when it is first asked for."""
        if not self._fingerprint:
            self._fingerprint = digest_of([*self._keys, files_digest([self.path(key) for key in self._keys])])
        return self._fingerprint

    def __getitem__(self, index: int) -> Sample:
        """Reads the file.

        Raises:
            BadSample: it cannot be read, or is empty.
        """
        key = self._keys[index]
        path = self.path(key)
        try:
            encoded = path.read_bytes()
        except OSError as error:
            raise BadSample(key, "file cannot be read", error.strerror or str(error)) from error
        if not encoded:
            raise BadSample(key, "empty file")
        return Sample(key, (Image(encoded=encoded, name=str(path)),))


def open_pictures(reference: str) -> Source:
    """A folder of pictures, a single picture, or any other data: tars, parquet, `hf:org/name` (data/open.py).

    Raises:
        DataError: nothing there, or no pictures.
    """
    place = Path(reference)
    if place.is_dir() or (place.is_file() and place.suffix.lower() in ENDINGS):
        return PictureFolder(place)
    if not place.exists() and "://" not in reference and place.suffix.lower() in ENDINGS:
        raise DataError(f"no picture at {place}")
    return open_source(reference)
