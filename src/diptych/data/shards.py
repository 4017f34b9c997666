"""How many files a source is cut into."""

from __future__ import annotations

from diptych.core.source import Source
from diptych.data.batches.features import KeysOnly
from diptych.data.derived.mapped import Mapped
from diptych.data.derived.mixture import Mixture
from diptych.data.derived.subset import Subset
from diptych.data.derived.task_turns import TaskTurns
from diptych.data.sources.tar import TarSource


def shards_of(source: Source) -> int:
    """The number of tars behind a source, through the sources that are derived from them; 0 where there are none."""
    if isinstance(source, TarSource):
        return source.num_shards
    if isinstance(source, Subset | Mapped | TaskTurns):
        return shards_of(source.whole)
    if isinstance(source, KeysOnly):
        return shards_of(source.source)
    if isinstance(source, Mixture):
        return sum(shards_of(one) for one in source.sources)
    return 0
