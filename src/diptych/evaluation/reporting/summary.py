"""What was run, in a few facts a run, and how the runs' configurations differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diptych.evaluation.reporting.format import MISSING, count, duration, short, title
from diptych.evaluation.reporting.read import RunRecord

MOST_DIFFERENCES = 40


@dataclass(frozen=True)
class Summary:
    """A run's facts, in the order in which they are printed."""

    label: str
    color: int
    facts: dict[str, str]


@dataclass(frozen=True)
class Difference:
    """A field that not all runs agree on, with its value in each."""

    field: str
    values: list[str]


def summary(run: RunRecord) -> Summary:
    """The facts of one run; those it did not write are dashes."""
    last = run.lines[-1] if run.lines else {}
    facts = {
        "Recipe": str(run.config.get("name") or MISSING),
        "Data": ", ".join(data_references(run)) or MISSING,
        "Steps": count(last.get("step")),
        "Samples seen": count(last.get("samples")),
        "Training time": duration(run.costs.get("seconds", last.get("seconds"))),
        "Parameters": short(run.costs.get("parameters")),
        "Final loss": short(last.get("loss")),
        "Device": device(run),
        "Commit": commit(run.environment),
    }
    return Summary(run.label, run.color, facts)


def data_references(run: RunRecord) -> list[str]:
    """Every data reference in the configuration (fields named `data`), in order, each once."""
    found = [value for name, value in flat(run.config).items() if name.rpartition(".")[2] == "data"]
    return list(dict.fromkeys(str(value) for value in found if value))


def device(run: RunRecord) -> str:
    """The accelerator where there is one, else the processor with its cores and threads."""
    devices = run.environment.get("devices") or []
    if devices and run.config.get("device") != "cpu":
        return ", ".join(str(name) for name in devices)
    processor, cores = run.environment.get("processor"), run.environment.get("cores")
    if not processor:
        return MISSING
    return f"{processor}, {cores} cores" if cores else str(processor)


def commit(environment: dict[str, Any]) -> str:
    """The commit's first letters; `+` says that there were uncommitted changes."""
    whole = str(environment.get("commit") or "")
    if not whole:
        return MISSING
    return whole[:10] + ("+" if whole.endswith("+") else "")


def flat(value: Any, where: str = "") -> dict[str, Any]:
    """A nested configuration as dotted names and plain values."""
    if isinstance(value, dict):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        items = [(str(i), item) for i, item in enumerate(value)]
    else:
        return {where: value}
    return {name: leaf for key, item in items for name, leaf in flat(item, f"{where}.{key}".lstrip(".")).items()}


def differences(runs: Sequence[RunRecord]) -> list[Difference]:
    """The configuration's fields on which runs differ, at most `MOST_DIFFERENCES` of them."""
    configs = [flat(run.config) for run in runs]
    names = dict.fromkeys(name for config in configs for name in config)
    found = []
    for name in names:
        values = [str(config[name]) if name in config else MISSING for config in configs]
        if len(set(values)) > 1:
            found.append(Difference(name, values))
    return found[:MOST_DIFFERENCES]


def environment_facts(environment: dict[str, Any]) -> dict[str, str]:
    """The environment as names and short texts, packages each by itself."""
    facts: dict[str, str] = {}
    for name, value in environment.items():
        if isinstance(value, dict):
            facts |= {str(package): str(version) for package, version in value.items()}
        elif isinstance(value, list):
            facts[title(name)] = ", ".join(map(str, value)) or "none"
        else:
            facts[title(name)] = MISSING if value in (None, "") else str(value)
    return facts
