"""Runs a claim: every arm with every seed in a process of its own, then the comparisons and the verdict.

Finished runs are not repeated, stopped ones go on. A result is only written when the definition and its threshold were
committed before.

python benchmarks/claims/run.py siglip_small_batch --jobs 2 --out benchmarks/claims/results/siglip_small_batch.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from _claim import Claim, claim, names, shown
from _origin import committed
from _training import Job, finished, train
from _verdict import verdict

from diptych.core.errors import DiptychError
from diptych.core.records.environment import environment
from diptych.core.storage import write_text


def main(words: Sequence[str] | None = None) -> int:
    options = _arguments(words)
    try:
        definition = claim(options.name)
        if options.arm:
            train(Job(options.name, options.arm, options.seed, options.steps, options.limit), options.work)
        else:
            _all(definition, options)
    except DiptychError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help=f"one of {', '.join(names())}")
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread each that train at a time")
    parser.add_argument("--out", type=Path, help="where to write the result; printed only when left out")
    parser.add_argument("--work", type=Path, help="where the runs lie; runs/claims/NAME when left out")
    parser.add_argument("--draft", action="store_true", help="a trial: nothing needs to be committed")
    parser.add_argument("--seeds", type=int, default=0, help="so many instead of the definition's, in a draft")
    parser.add_argument("--steps", type=int, default=0, help="of every training, in a draft")
    parser.add_argument("--limit", type=int, default=0, help="samples of every evaluation, in a draft")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if (options.steps or options.limit) and not options.draft:
        parser.error("--steps and --limit make another experiment than the one defined: give --draft too")
    draft = "-draft" if options.draft else ""
    options.work = options.work or Path("runs") / "claims" / f"{options.name}{draft}"
    return options


def _all(definition: Claim, options: argparse.Namespace) -> None:
    seeds = options.seeds or definition.seeds
    if seeds != definition.seeds and not options.draft:
        sys.exit(f"the definition says {definition.seeds} seeds, not {seeds}: leave --seeds out, or give --draft")
    origin = {"draft": True} if options.draft else committed(options.name)
    jobs = [
        Job(options.name, arm.name, seed, options.steps, options.limit)
        for seed in range(seeds)
        for arm in definition.arms
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        documents = dict(zip(jobs, pool.map(lambda job: _one(job, options.work), jobs), strict=True))
    found = _result(definition, documents) | {
        "definition": origin,
        "command": f"python benchmarks/claims/run.py {options.name} --jobs {options.jobs} --out {shown(options.name)}",
        "seeds": list(range(seeds)),
    }
    print(json.dumps({name: found[name] for name in ("verdict", "comparisons")}, indent=1))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_text(options.out, json.dumps(found, indent=1) + "\n")


def _one(job: Job, work: Path) -> dict[str, Any]:
    """The numbers of a job, trained in a process of its own unless they are there."""
    known = finished(job, work)
    if known is None:
        _in_process(job, work)
        known = finished(job, work)
        assert known is not None
    print(f"{job.arm} seed {job.seed}: {known['values']['seconds']:.0f} s of training", flush=True)
    return known


def _in_process(job: Job, work: Path) -> None:
    command = [sys.executable, __file__, job.claim, "--arm", job.arm, "--seed", job.seed, "--work", work]
    command += ["--draft", "--steps", job.steps, "--limit", job.limit] if job.steps or job.limit else []
    alone = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    work.mkdir(parents=True, exist_ok=True)
    log = work / f"{job.arm}-{job.seed}.log"
    with log.open("w", encoding="utf-8") as written:
        done = subprocess.run([str(word) for word in command], env=alone, stdout=written, stderr=written, check=False)
    if done.returncode:
        sys.exit(f"{job.arm} with seed {job.seed} failed:\n{log.read_text(encoding='utf-8')[-2000:]}")


def _result(definition: Claim, documents: Mapping[Job, dict[str, Any]]) -> dict[str, Any]:
    """Everything that was found, with what it depends on."""
    arms: dict[str, Any] = {}
    for arm in definition.arms:
        own = [document for job, document in documents.items() if job.arm == arm.name]
        config = {name: value for name, value in own[0]["config"].items() if name != "seed"}
        arms[arm.name] = {
            "values": [one["values"] for one in own],
            "parameters": own[0]["parameters"],
            "config": config,
        }
    said, comparisons = verdict(definition, {name: arm["values"] for name, arm in arms.items()})
    return {
        "sentence": definition.sentence,
        "threshold": definition.threshold,
        "verdict": said,
        "comparisons": comparisons,
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "commits_of_runs": sorted({document["commit"] for document in documents.values()}),
        "environment": environment(),
        "arms": arms,
    }


if __name__ == "__main__":
    sys.exit(main())
