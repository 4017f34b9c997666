"""Is one model better than another, or only luckier? Paired comparison on the samples that both were evaluated on.

The same pictures are hard for most models, so differences on the same samples say more than two intervals side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diptych.core.errors import ConfigError, DataError, unknown_name
from diptych.core.records.results import Metric, Result, SampleRecord, read_result, read_samples
from diptych.core.records.run_folder import RunFolder
from diptych.evaluation.statistics import paired

_TIES = "tie_rate"


@dataclass(frozen=True)
class Comparison:
    """One metric of one benchmark, of two runs.

    Attributes:
        first, second: the runs' folders; first_value, second_value: their means over the same samples.
        difference: second minus first, with its 95 % bootstrap interval over pictures.
        p: two-sided, of the exact sign test over the pictures on which they differ.
    """

    benchmark: str
    metric: str
    first: str
    second: str
    first_value: float
    second_value: float
    difference: Metric
    p: float


def compare(
    folders: Sequence[Path | str], benchmarks: Sequence[str] = (), seed: int = 0, settings_alike: bool = True
) -> list[Comparison]:
    """The first run against each of the others, on every metric that has a value for every sample.

    Args:
        folders: run folders, or folders that `diptych eval --out` wrote; two or more.
        benchmarks: which; all that every run was evaluated on when empty.
        seed: of the bootstrap.
        settings_alike: whether runs that were evaluated with different settings are refused; False where each model
            has settings of its own (the prompt that one was given and another learned).

    Raises:
        ConfigError: fewer than two runs, or a benchmark that they were not evaluated on.
        DataError: a folder without results, or runs that were evaluated on different samples or with other settings.
    """
    places = [_evaluations(Path(folder)) for folder in folders]
    if len(places) < 2:
        raise ConfigError("a comparison needs two runs or more")
    shared = [name for name in places[0] if all(name in place for place in places)]
    for name in benchmarks:
        if name not in shared:
            raise unknown_name("benchmark of these runs", name, shared)
    if not shared:
        had = "; ".join(f"{folder}: {', '.join(place)}" for folder, place in zip(folders, places, strict=True))
        raise DataError(f"the runs were evaluated on no benchmark in common ({had})")
    return [
        one
        for name in benchmarks or shared
        for place in places[1:]
        for one in _compare(places[0][name], place[name], seed, settings_alike)
    ]


def _evaluations(folder: Path) -> dict[str, Path]:
    """Benchmark -> where its result lies."""
    root = RunFolder(folder).evaluation if RunFolder(folder).evaluation.is_dir() else folder
    found = {path.parent.name: path.parent for path in sorted(root.glob("*/result.json"))}
    if not found:
        raise DataError(f"{folder} holds no evaluation: `diptych eval {folder} --benchmarks ...` makes one")
    return found


def _compare(first: Path, second: Path, seed: int, settings_alike: bool) -> list[Comparison]:
    results = read_result(first), read_result(second)
    _require_alike(*results, first, second, settings_alike)
    one, other = ({record.key: record for record in read_samples(folder)} for folder in (first, second))
    names = [
        name
        for name in results[0].metrics
        if not name.endswith(_TIES) and any(name in record.values for record in one.values())
    ]
    if not names:
        raise DataError(f"{first}/samples.jsonl holds no values to compare: evaluate the run again")
    return [_one(name, one, other, first, second, seed) for name in names]


def _require_alike(first: Result, second: Result, a: Path, b: Path, settings_alike: bool) -> None:
    """Raises a DataError when the two numbers answer different questions."""
    for what, one, other in (
        ("data", first.data_fingerprint, second.data_fingerprint),
        ("settings", first.settings, second.settings),
        ("seed", first.seed, second.seed),
    ):
        if one != other and (settings_alike or what != "settings"):
            shown = (first.data, second.data) if what == "data" else (one, other)
            raise DataError(
                f"{a} and {b} cannot be compared: they were evaluated with different {what} "
                f"({shown[0]} and {shown[1]}); evaluate one of them again like the other"
            )


def _one(
    name: str, first: dict[str, SampleRecord], second: dict[str, SampleRecord], a: Path, b: Path, seed: int
) -> Comparison:
    keys = [key for key, record in first.items() if name in record.values]
    others = {key for key, record in second.items() if name in record.values}
    if different := sorted(set(keys) ^ others):
        raise DataError(
            f"{a} and {b} cannot be compared: {len(different)} samples have a {name} in one of them only "
            f"('{different[0]}'); evaluate both on the same data"
        )
    one, other = ([side[key].values[name] for key in keys] for side in (first, second))
    # A caption's key is its picture's with a number behind: captions of one picture are not independent.
    difference, p = paired(one, other, [key.partition("#")[0] for key in keys], seed)
    means = sum(one) / len(one), sum(other) / len(other)
    return Comparison(a.name, name, str(_run_of(a)), str(_run_of(b)), *means, difference, p)


def _run_of(folder: Path) -> Path:
    """The run that an evaluation's folder is of."""
    return folder.parent.parent if folder.parent.name == "evaluation" else folder.parent
