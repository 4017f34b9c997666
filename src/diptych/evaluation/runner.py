"""`evaluate`: a model on benchmarks, with everything a number depends on written beside it."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from diptych.capabilities.load import load
from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import missing
from diptych.core import discovery
from diptych.core.config import from_plain, to_plain
from diptych.core.errors import ConfigError, DataError, MissingVerb, unknown_name
from diptych.core.records.environment import environment
from diptych.core.records.results import Counts, Result, write_result
from diptych.core.source import Source
from diptych.data.open import has_training_split, open_source
from diptych.evaluation.benchmark import BenchmarkModule, Records
from diptych.evaluation.files import AnnotationFolder
from diptych.evaluation.model_hash import model_hash


def evaluate(
    model: Predictor | str | Path,
    benchmarks: Sequence[str],
    data: Source | str | None = None,
    *,
    split: str = "test",
    folder: Path | str | None = None,
    limit: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Result]:
    """Runs benchmarks, one after the other.

    Args:
        model: a predictor, or what `diptych.load` takes.
        benchmarks: names that `diptych list benchmarks` prints, or modules of your own ("my_package.my_benchmark").
        data: a source or a reference ("scenes", a path, "hf:org/name"); None for each benchmark's own default.
        split: of the data, where names tell splits apart.
        folder: where to write `<benchmark>/samples.jsonl` and `result.json`; None to write nothing.
        limit: the most samples.
        seed: of what benchmarks draw.
        settings: benchmark -> the fields of its `Settings` to change.

    Returns:
        one result a benchmark, in their order: metrics with intervals, counts, and all that the numbers depend on.

    Raises:
        MissingVerb: a benchmark needs a verb that the model does not have; nothing has run then.
        ConfigError: an unknown benchmark or setting.
        DataError: the data cannot be opened, or holds nothing that the benchmark can use.
    """
    predictor = model if isinstance(model, Predictor) else load(model)
    modules = {name: benchmark_module(name) for name in benchmarks}
    for module in modules.values():
        _require_verbs(predictor, module)
    identity = model_hash(predictor.module)
    results = []
    for name, module in modules.items():
        reference = data if isinstance(data, str) else module.DATA if data is None else ""
        source = _open(module, reference, split) if data is None or isinstance(data, str) else data
        chosen: Any = from_plain(module.Settings, (settings or {}).get(name, {}), name)
        if getattr(module, "TRAINS", False) and not chosen.train and has_training_split(reference, split):
            chosen = replace(chosen, train=reference)
        place = Path(folder) / name.rpartition(".")[2] if folder is not None else None
        found = _one(predictor, name, module, source, chosen, place, identity, seed, limit)
        found = replace(found, data=reference or source.name, split=split)
        if place is not None:
            write_result(found, place)
        results.append(found)
    return results


def benchmark_module(name: str) -> BenchmarkModule:
    """The module of a listed benchmark or of a user's own.

    Raises:
        ConfigError: nobody knows it; the nearest is named.
    """
    known = discovery.benchmarks()
    if name in known:
        return cast(BenchmarkModule, known[name].load())
    if "." not in name:
        raise unknown_name("benchmark", name, known)
    try:
        return cast(BenchmarkModule, importlib.import_module(name))
    except ModuleNotFoundError as error:
        raise ConfigError(f"no benchmark module named '{name}': {error}") from error


def _require_verbs(model: Predictor, module: BenchmarkModule) -> None:
    """Raises MissingVerb where the benchmark asks what the model cannot answer."""
    sentences = getattr(module, "SENTENCES", False)
    if lacking := missing(model.VERBS, module.REQUIRES, reads_text=model.READS_TEXT, sentences=sentences):
        raise MissingVerb(model.name, lacking[0], model.verbs)


def _open(module: BenchmarkModule, reference: str, split: str) -> Source:
    """The data of a benchmark: samples, or the folder of its own files."""
    if not getattr(module, "OWN_FILES", False):
        holds_files = getattr(module, "holds_files", None)
        if holds_files is not None and Path(reference).is_dir() and holds_files(Path(reference)):
            return AnnotationFolder(Path(reference))
        return open_source(reference, split)
    if not Path(reference).is_dir():
        raise DataError(f"no folder at {reference}: this benchmark reads its official files, name theirs with --data")
    return AnnotationFolder(Path(reference))


def _one(
    model: Predictor, name: str, module: BenchmarkModule, source: Source, settings: Any, folder: Path | None,
    identity: str, seed: int, limit: int | None,
) -> Result:  # fmt: skip
    """One benchmark on one source."""
    plain = to_plain(settings)
    depends = {"model": identity, "data": source.fingerprint(), "settings": plain, "seed": seed, "limit": limit}
    records = Records(folder, depends, seed, limit)
    started = time.perf_counter()
    outcome = module.run(model, source, settings, records)
    counts = _counts(records, source)
    if counts.evaluated == 0:
        raise DataError(f"{name}: none of the samples of {source.name} could be evaluated")
    return Result(
        benchmark=name.rpartition(".")[2],
        model=model.name,
        data=source.name,
        metrics=outcome.metrics,
        counts=counts,
        verbs={verb: model.how(verb) for verb in outcome.verbs or module.REQUIRES},
        settings=plain | ({"limit": limit} if limit is not None else {}),
        seed=seed,
        seconds=round(time.perf_counter() - started, 2),
        data_fingerprint=source.fingerprint(),
        model_hash=identity,
        extras=outcome.extras,
        environment=environment(),
    )


def _counts(records: Records, source: Source) -> Counts:
    """Samples by what became of them; a caption's record counts with its picture."""
    status: dict[str, str] = {}
    for record in records.done.values():
        status.setdefault(record.key.partition("#")[0], record.status)
    evaluated = sum(one == "ok" for one in status.values())
    skipped = sum(one.startswith("skipped") for one in status.values())
    return Counts(evaluated, len(status) - evaluated - skipped, skipped)
