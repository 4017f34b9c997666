"""A folder of class folders: every picture below `cats/` is of the class "cats"."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diptych.core.sample import Sample
from diptych.data.sources._content import digest_of, files_digest
from diptych.data.sources._tar_members import PICTURES
from diptych.data.sources.table import read_picture


class ClassFolders:
    """One sample a picture; its class is the name of the folder it lies in.

    Args:
        folder: keys are paths relative to it.
        within: only what lies in these folders of it; () for everything.
    """

    def __init__(self, folder: Path, within: Sequence[str] = ()) -> None:
        self.name = str(folder)
        self.problems: dict[str, list[str]] = {}
        self._folder = folder
        self._fingerprint = ""
        self._keys = sorted(
            str(path.relative_to(folder))
            for top in ([folder / name for name in within] or [folder])
            for path in top.rglob("*")
            if path.suffix.lower().removeprefix(".") in PICTURES and path.parent != top
        )

    def __len__(self) -> int:
        return len(self._keys)

    def keys(self) -> Sequence[str]:
        return self._keys

    def fingerprint(self) -> str:
        """Of keys and pictures, as they are when it is first asked for."""
        if not self._fingerprint:
            self._fingerprint = digest_of([*self._keys, files_digest([self._folder / key for key in self._keys])])
        return self._fingerprint

    def __getitem__(self, index: int) -> Sample:
        key = self._keys[index]
        path = self._folder / key
        return Sample(key, (read_picture(path, key),), meta={"class": path.parent.name})
