"""The model card of a folder that is to be shared: what it learned from, what it scored, under which licence.

A model's file writes what is particular to it: the class that reads it, how it is used. What is true of any model is
added here, from the run that it came from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import yaml

from diptych.core.errors import DataError
from diptych.core.records.results import Metric, Result, read_result
from diptych.core.records.run_folder import RunFolder

CARD = "README.md"
UNSAID = "What it was trained and evaluated on stands in the run it came from; say it here before you publish."
"""What a model's file ends its card with; the run's facts take its place where there is a run."""
_RULE = "---\n"


def begun(name: str, architecture: str, parameters: int, library: str, usage: str, task: str = "") -> str:
    """The card as a model's file writes it.

    Args:
        architecture: the class there that reads the folder.
        library: "transformers", "diffusers" ...
        usage: how it is used, in Markdown.
        task: the hub's name for what it does ("image-to-text"); "" for none.
    """
    front = f"library_name: {library}\n" + (f"pipeline_tag: {task}\n" if task else "")
    said = f"A `{architecture}` of {parameters:,} parameters, written by diptych."
    return f"{_RULE}{front}{_RULE}# {name}\n\n{said}\n\n{usage.strip()}\n\n{UNSAID}\n"


def completed(card: str, run: RunFolder | None, licence: str) -> str:
    """The card with its licence, and with what the run says of data and numbers.

    Args:
        card: begins with front matter, as `begun` writes it.
        run: where the model comes from; None where that is not known.
        licence: the hub's name of one ("apache-2.0"); "" for none yet.
    """
    if licence:
        card = card.replace(_RULE, f"{_RULE}license: {licence}\n", 1)
    if run is None:
        return card
    facts = [_training(run), _evaluation(results_of(run))]
    return card.replace(UNSAID, "\n\n".join(fact for fact in facts if fact))


def results_of(run: RunFolder) -> list[Result]:
    """Every evaluation of a run that was finished."""
    found = []
    for path in sorted(run.evaluation.glob("*/result.json")):
        try:
            found.append(read_result(path.parent))
        except DataError:
            continue  # half of a result is none
    return found


def _training(run: RunFolder) -> str:
    config: dict[str, Any] = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    saved = run.best_model().parent.name
    commit = json.loads(run.environment.read_text(encoding="utf-8")).get("commit") if run.environment.is_file() else ""
    lines = [
        "## Training",
        "",
        f"Recipe `{config.get('name', '')}` on `{config.get('data', '')}`; the weights are those of `{saved}`"
        + (f", at commit `{commit}`." if commit else "."),
        "",
        "<details><summary>Every setting</summary>",
        "",
        "```yaml",
        yaml.safe_dump(config, sort_keys=False, allow_unicode=True).strip(),
        "```",
        "",
        "</details>",
    ]
    return "\n".join(lines)


def _evaluation(results: Sequence[Result]) -> str:
    if not results:
        return "## Evaluation\n\nNone was made."
    rows = [
        f"| {one.benchmark} | {one.data} {one.split} | {name} | {_number(metric)} | {_interval(metric)} | "
        f"{'' if metric.chance is None else f'{metric.chance:.3f}'} | {metric.n:,} |"
        for one in results
        for name, metric in one.metrics.items()
    ]
    head = "| benchmark | data | metric | value | 95 % interval | chance | n |\n|---|---|---|---|---|---|---|"
    return "\n".join(["## Evaluation", "", head, *rows])


def _number(metric: Metric) -> str:
    return f"{metric.value:.3f}" if metric.unit == "share" else f"{metric.value:.4g}"


def _interval(metric: Metric) -> str:
    return "" if metric.low is None or metric.high is None else f"{metric.low:.3f} to {metric.high:.3f}"
