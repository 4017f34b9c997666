"""Pictures by name in a folder of the user's, wherever below it they lie."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from diptych.core.errors import DataError
from diptych.core.visual import Image

_ENDINGS = frozenset([".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"])


class PictureFolder:
    """The pictures of a benchmark that comes without them.

    Args:
        folder: of the benchmark's files.
        images: where its pictures are; "" for `images` beside the files, or the folder itself where there is none.

    Raises:
        DataError: a folder that was named is not there.
    """

    def __init__(self, folder: Path, images: str = "") -> None:
        beside = folder / "images"
        self.folder = Path(images) if images else beside if beside.is_dir() else folder
        if images and not self.folder.is_dir():
            raise DataError(f"no folder of pictures at {images}")

    @cached_property
    def _below(self) -> dict[str, Path]:
        """Every picture in the folder and below by its file's name; of the same names the first."""
        found: dict[str, Path] = {}
        for path in sorted(self.folder.rglob("*")):
            if path.suffix.lower() in _ENDINGS:
                found.setdefault(path.name, path)
        return found

    def read(self, names: Sequence[str]) -> Image | None:
        """The first picture that has one of these names; None where there is none."""
        for name in names:
            path = self.folder / name
            if not path.is_file() and (below := self._below.get(name)) is not None:
                path = below
            if path.is_file():
                return Image(encoded=path.read_bytes(), name=name)
        return None
