"""A run folder as training and evaluation leave it, made up in a moment: what the report's tests read."""

import json
import math
import random
from pathlib import Path

from diptych.core.records.results import Counts, Metric, Result, SampleRecord, sample_line, write_result
from diptych.data.open import open_source

CONFIG = """name: {name}
seed: {seed}
device: cpu
stages:
- name: train
  data: scenes?objects=3&size=64&count=10000
  steps: {steps}
  optimizer:
    lr: {lr}
    weight_decay: 0.1
"""
ENVIRONMENT = {
    "commit": "0123456789abcdef0123456789abcdef01234567+",
    "python": "3.11.2",
    "platform": "Linux",
    "packages": {"torch": "2.13.0", "numpy": "2.4.0"},
    "processor": "A Processor @ 2.00GHz",
    "cores": 2,
    "torch_threads": 2,
    "devices": [],
}
CLASSES = ["circle", "square", "triangle", "star", "<b>cross</b>"]
HELD_OUT = "scenes?objects=3&size=64&count=40"


def fabricate_run(folder: Path, *, name: str = "clip_tiny", seed: int = 0, evaluated: bool = True) -> Path:
    """Writes a complete run folder with plausible curves and results."""
    steps = 600
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(CONFIG.format(name=name, seed=seed, steps=steps, lr=0.001 * (seed + 1)))
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
    (folder / "data.json").write_text(json.dumps({"train": {"read": 10_000, "bad": {"truncated image": 12}}}))
    (folder / "costs.json").write_text(json.dumps({"seconds": 81.4, "parameters": 1_234_567}))
    with (folder / "metrics.jsonl").open("w") as lines:
        for line in metric_lines(steps, seed):
            lines.write(json.dumps(line) + "\n")
        lines.write('{"stage": "train", "st')  # a line cut off by kill -9
    if evaluated:
        fabricate_results(folder, name, seed)
    return folder


def metric_lines(steps: int, seed: int) -> list[dict[str, object]]:
    draw = random.Random(seed)
    lines: list[dict[str, object]] = []
    for step in range(5, steps + 1, 5):
        loss = (1.2 + 2.6 * math.exp(-step / (150 + 40 * seed))) * (1 + 0.06 * draw.gauss(0, 1))
        line: dict[str, object] = {"stage": "train", "step": step, "samples": step * 64, "seconds": step * 0.135}
        line |= {"loss": loss, "parts": {"contrastive": loss}, "grad_norm": 1 + draw.random()}
        line |= {"lr": 1e-3 * min(step / 60, 0.5 + 0.5 * math.cos(math.pi * step / steps))}
        line |= {"images_per_second": 470 + 30 * draw.random(), "data_wait": 0.03 * draw.random()}
        if step % 150 == 0:
            line["evaluation"] = {"image_to_text_r10": 0.5 * (1 - math.exp(-step / 200))}
        lines.append(line)
    return lines


def fabricate_results(folder: Path, name: str, seed: int) -> None:
    captions = ["a red circle <script>alert(1)</script>", "a blue square left of a star", "two green triangles"]
    keys = list(open_source(HELD_OUT, "test").keys())[:8]
    gallery = [
        {"key": key, "query": "" if i % 2 else captions[0], "right": i < 5, "rank": 1 if i < 5 else i}
        | {"truth": captions[1] if i % 2 else key}
        | {"top": captions if i % 2 else [{"key": other} for other in (keys[0], keys[2], keys[4])]}
        for i, key in enumerate(keys)
    ]
    recall = {
        f"{way}_r{k}": Metric(v := min(0.95, (0.08 + 0.02 * seed) * k**0.8), v - 0.04, v + 0.04, k / 500, 500)
        for way in ("image_to_text", "text_to_image")
        for k in (1, 5, 10)
    }
    verbs = {"encode_image": "native", "encode_text": "native", "score": "cosine of encodings"}
    _write(folder, "retrieval", name, recall, verbs, {"gallery": gallery})
    matrix = [[20 if i == j else (i + 2 * j + seed) % 4 for j in range(5)] for i in range(5)]
    top = {"top1": Metric(0.61 + 0.05 * seed, 0.57, 0.69, 0.2, 500), "top5": Metric(1.0, None, None, 1.0, 500)}
    extras = {"confusion": {"classes": CLASSES, "matrix": matrix}}
    _write(folder, "zero_shot_classification", name, top, verbs, extras)
    pairs = {"strict": Metric(0.52, 0.48, 0.56, 0.5, 500), "tie_rate": Metric(0.0, 0.0, 0.0, None, 500)}
    _write(folder, "scene_pairs", name, pairs, {"score": "cosine of encodings"}, {})


def _write(folder, benchmark, name, metrics, verbs, extras):  # type: ignore[no-untyped-def]
    place = folder / "evaluation" / benchmark
    place.mkdir(parents=True)
    settings = {"templates": ["a picture of {}"], "pool": 500}
    result = Result(
        benchmark=benchmark,
        model=name,
        data=HELD_OUT,
        split="test",
        metrics=metrics,
        counts=Counts(500, 1, 2),
        verbs=verbs,
        settings=settings,
        seconds=3.2,
        data_fingerprint="f",
        model_hash="m",
        extras=extras,
        environment=ENVIRONMENT,
    )
    write_result(result, place)
    lines = (sample_line(SampleRecord(f"sample{i}", values={next(iter(metrics)): float(i % 2)})) for i in range(20))
    (place / "samples.jsonl").write_text("".join(lines), encoding="utf-8")
