"""Any source as plain tars: pictures made small once instead of in every epoch, as JPEG or as raw arrays.

DST/<name>-00000.tar, ...       shards in the order of the source, webdataset's layout, an index beside each
DST/<name>.pack.json            what was packed and how: what an interrupted pack is continued by
DST/<name>.bad.jsonl            samples that could not be packed, with the reason

A shard has its final name only when it is whole, and holds the same bytes whenever it is made.
"""

from __future__ import annotations

import json
import tarfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from diptych.core.config import to_plain
from diptych.core.errors import ConfigError, DataError, StorageError
from diptych.core.processor import BadSample
from diptych.core.source import Source
from diptych.core.storage import atomic_file, storage_errors, write_text
from diptych.data._pack_members import Packed, PictureFormat, packed
from diptych.data.sources._tar_index import SUFFIX, index_of, write_index

_AHEAD = 16
"""Samples a thread may be ahead of the writer: bounds the memory."""


@dataclass
class PackReport:
    """What a pack did.

    Attributes:
        shards: of the whole pack.
        kept: shards that an earlier, interrupted pack had made.
        samples: packed by this call.
        bytes: of all shards.
        bad: counts by reason, of the whole pack.
    """

    shards: int = 0
    kept: int = 0
    samples: int = 0
    bytes: int = 0
    bad: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Pack:
    """Where a pack lies and what belongs into it.

    Attributes:
        folder: of the shards.
        name: they begin with.
        per_shard: samples of the source in a shard.
    """

    source: Source
    folder: Path
    form: PictureFormat = field(default_factory=PictureFormat)
    name: str = "shard"
    per_shard: int = 1000
    threads: int = 2

    def __post_init__(self) -> None:
        if self.per_shard < 1 or self.threads < 1:
            raise ConfigError(f"per_shard {self.per_shard} and threads {self.threads} must be at least 1")
        if len(self.source) == 0:
            raise DataError(f"{self.source.name} has no samples: nothing to pack")

    @property
    def shards(self) -> list[Path]:
        count = -(-len(self.source) // self.per_shard)
        return [self.folder / f"{self.name}-{number:05d}.tar" for number in range(count)]

    @property
    def bad_log(self) -> Path:
        return self.folder / f"{self.name}.bad.jsonl"

    def run(self, progress: Callable[[int], None] = lambda samples: None) -> PackReport:
        """Makes the shards that are not there yet.

        Args:
            progress: called with the number of samples that were just dealt with.

        Raises:
            ConfigError: the folder holds something else, or a pack of other data or settings.
            DataError: the source cannot be read, or not one of its samples could be packed.
            StorageError: the disk is full or the folder cannot be written; finished shards stay.
        """
        self._prepare()
        report = PackReport(len(self.shards))
        with ThreadPoolExecutor(self.threads, "pack", initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for number, shard in enumerate(self.shards):
                indices = range(number * self.per_shard, min((number + 1) * self.per_shard, len(self.source)))
                if shard.is_file():
                    report.kept += 1
                    progress(len(indices))
                else:
                    report.samples += self._write(pool, shard, indices, progress)
                if not Path(f"{shard}{SUFFIX}").is_file():
                    write_index(index_of(str(shard)))
                report.bytes += shard.stat().st_size
        report.bad = Counter(line["reason"] for line in self._bad_lines())
        if report.bad.total() == len(self.source):
            reasons = ", ".join(f"{reason} {count}" for reason, count in report.bad.items())
            raise DataError(f"not one sample of {self.source.name} could be packed: {reasons}; see {self.bad_log}")
        return report

    def _prepare(self) -> None:
        """Refuses a folder of something else; clears away what an interruption left half done."""
        plan = self.folder / f"{self.name}.pack.json"
        now = {
            **to_plain(self.form),
            "per_shard": self.per_shard,
            "samples": len(self.source),
            "fingerprint": self.source.fingerprint(),
        }
        with storage_errors(self.folder):
            if plan.is_file():
                _require_same(plan, now)
            elif self.folder.is_dir() and any(self.folder.iterdir()) and not any(self.folder.glob("*.pack.json")):
                raise ConfigError(f"{self.folder} is not empty and holds no pack: name another folder, or empty it")
            write_text(plan, json.dumps(now, indent=2) + "\n")
            for part in self.folder.glob(f".{self.name}-*.tar.*"):
                part.unlink()
        done = {shard.name for shard in self.shards if shard.is_file()}
        lines = [line for line in self._bad_lines() if line["shard"] in done]
        write_text(self.bad_log, "".join(json.dumps(line) + "\n" for line in lines))

    def _write(
        self, pool: ThreadPoolExecutor, shard: Path, indices: Sequence[int], progress: Callable[[int], None]
    ) -> int:
        """One shard; the number of samples in it. Its bad samples are on disk before it has its name."""
        count = 0
        with atomic_file(shard) as part:
            with (
                tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as tar,
                self.bad_log.open("a", encoding="utf-8") as log,
            ):
                for made in self._in_order(pool, indices):
                    if isinstance(made, Packed):
                        made.write(tar)
                        count += 1
                    else:
                        line = {"key": made.key, "reason": made.reason, "detail": made.detail, "shard": shard.name}
                        log.write(json.dumps(line) + "\n")
                    progress(1)
            part.chmod(0o644)
        return count

    def _in_order(self, pool: ThreadPoolExecutor, indices: Sequence[int]) -> Iterator[Packed | BadSample]:
        """What the threads make of the samples, a bounded number of them ahead."""
        waiting: deque[Future[Packed | BadSample]] = deque()
        try:
            for index in indices:
                waiting.append(pool.submit(self._make, index))
                if len(waiting) >= self.threads * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()

    def _make(self, index: int) -> Packed | BadSample:
        try:
            return packed(self.source[index], self.form)
        except BadSample as error:
            return error
        except OSError as error:  # otherwise it would be told as a failure to write
            raise DataError(f"cannot read {self.source.name}: {error}") from error

    def _bad_lines(self) -> list[dict[str, Any]]:
        """The log; a last line that was cut off is left out."""
        lines: list[dict[str, Any]] = []
        if self.bad_log.is_file():
            for line in self.bad_log.read_text(encoding="utf-8").splitlines():
                try:
                    lines.append(json.loads(line))
                except ValueError:
                    break
        return lines


def mean_size(source: Source, form: PictureFormat, samples: int = 16) -> float:
    """Bytes of a sample in a pack, with what a tar adds to each member; 0 where none of the first can be packed."""
    sizes = []
    for index in range(min(len(source), samples)):
        try:
            made = packed(source[index], form)
        except BadSample:
            continue
        sizes.append(sum(tarfile.BLOCKSIZE * (1 - -len(data) // tarfile.BLOCKSIZE) for _, data in made.members))
    return sum(sizes) / len(sizes) if sizes else 0.0


def _require_same(plan: Path, now: dict[str, Any]) -> None:
    try:
        before = json.loads(plan.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StorageError(f"{plan} is damaged: remove {plan.parent} and pack again") from error
    for name, value in now.items():
        if before.get(name) != value:
            what = "other data" if name in ("fingerprint", "samples") else f"another {name}"
            raise ConfigError(
                f"{plan.parent} holds a pack of {what} ({before.get(name)} there, {value} now): "
                f"restore it to continue, or name another folder"
            )
