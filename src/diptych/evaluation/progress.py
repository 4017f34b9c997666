"""A bar for what takes long, where its lines are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import track

from diptych.evaluation.benchmark import Records

Item = TypeVar("Item")

_FEW = 20


def shown(items: Iterable[Item], title: str, total: int, records: Records) -> Iterator[Item]:
    """The items, with a bar that goes as far as they do.

    An evaluation that writes nothing is a part of something else, which has a bar of its own; a few items need none.
    """
    yield from track(items, title, total, transient=True, disable=records.folder is None or total < _FEW)
