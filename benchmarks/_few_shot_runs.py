"""One few-shot run in memory: pictures decoded once, the recipe's task, its optimizer and schedule.

B batch, N pictures, C classes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from diptych.capabilities.load import load
from diptych.core.losses import total
from diptych.core.seeding import permutation, seed_everything
from diptych.core.source import Source
from diptych.data.batches.classes import ClassBatch
from diptych.data.derived.few_shot import classes_of, shots
from diptych.data.loading.loader import evaluation_batches
from diptych.evaluation.compare import compare
from diptych.models.contrastive._on_base import OnBaseTask, adaptable, class_processor
from diptych.recipes._forgetting import evaluated, has_classes, other_set
from diptych.recipes.few_shot import FewShotRun, Method
from diptych.training.optimizer import set_learning_rate

METHODS: tuple[Method, ...] = get_args(Method)
MOST_SHOTS = 16
EVALUATION_BATCH = 128
_SHOWN = ("top1", "text_to_image_r10", "image_to_text_r10")


@dataclass(frozen=True)
class Pictures:
    """A part of the data, decoded.

    Attributes:
        places: class -> places of its pictures.
        vectors: key -> the frozen base's vector.
    """

    source: Source
    whole: ClassBatch
    places: dict[str, list[int]]
    vectors: dict[str, Tensor]

    @classmethod
    def of(cls, source: Source, base: Any, names: Sequence[str]) -> Pictures:
        """Everything of a source, as the base takes it, with the base's vectors."""
        processor = class_processor(adaptable(base), names)
        batches = list(evaluation_batches(source, processor, len(source)))
        assert len(batches) == 1
        whole = batches[0]
        assert len(whole.keys) == len(source), "a picture is bad: places would be those of others"
        with torch.inference_mode():
            found = [
                base.module.vision(base.module.normalise(some.pixels_BCHW)) for some in whole.split(EVALUATION_BATCH)
            ]
            rows = base.module.image_head(torch.cat(found))
        return cls(source, whole, classes_of(source), dict(zip(whole.keys, rows.clone(), strict=True)))

    def __len__(self) -> int:
        return len(self.whole.keys)

    def take(self, places: Sequence[int]) -> ClassBatch:
        """Some of the pictures as a batch."""
        whole = self.whole
        return replace(
            whole,
            keys=tuple(whole.keys[place] for place in places),
            pixels_BCHW=whole.pixels_BCHW[places],
            classes_B=whole.classes_B[places],
            seeds=tuple(whole.seeds[place] for place in places),
        )


def adapted_model(
    run: FewShotRun, method: Method, rate: float, count: int, seed: int, train: Pictures, names: Sequence[str]
) -> OnBaseTask:
    """The task after its budget of steps on `count` pictures a class."""
    seed_everything("few-shot", method, seed)
    task = replace(run, method=method).task(names)
    task.vectors.update(train.vectors)
    few = shots(train.source, count, seed, train.places)
    where = {key: place for place, key in enumerate(train.whole.keys)}
    places = [where[key] for key in few.keys()]
    optimizer = run.optimizer.build([group for groups in task.trainable().values() for group in groups])
    steps = run.budget.total_steps(run.batch_size)
    batches = _batches(len(places), run.batch_size, seed)
    for step in range(steps):
        batch = train.take([places[index] for index in next(batches)])
        optimizer.zero_grad()
        total(task.losses(batch)).backward()
        if run.clip_norm:
            torch.nn.utils.clip_grad_norm_([p for p in task.parameters() if p.requires_grad], run.clip_norm)
        set_learning_rate(optimizer, rate * run.schedule.factor(step, steps))
        optimizer.step()
    return task.eval()


def _batches(count: int, size: int, seed: int) -> Iterator[list[int]]:
    """Everything at every step where it fits a batch; otherwise shuffled epochs, end to end."""
    epoch, held = 0, list[int]()
    while True:
        if count <= size:
            yield list(range(count))
            continue
        while len(held) < size:
            held += permutation(count, seed, epoch).tolist()
            epoch += 1
        yield held[:size]
        held = held[size:]


@torch.inference_mode()
def accuracy(task: OnBaseTask, pictures: Pictures) -> float:
    """Top-1 over the classes."""
    task.vectors.update(pictures.vectors)
    right = [(task.logits(some).argmax(1) == some.classes_B).sum() for some in pictures.whole.split(EVALUATION_BATCH)]
    return float(torch.stack(right).sum()) / len(pictures)


def zero_shot(run: FewShotRun, pictures: Pictures, names: Sequence[str]) -> float:
    """Of the base, told the classes by the template: what CLIP-Adapter is without its adapter."""
    return accuracy(replace(run, method="clip_adapter", ratio=0.0).task(names), pictures)


def forgotten(
    run: FewShotRun,
    rates: Mapping[Method, float],
    train: Pictures,
    names: Sequence[str],
    sets: Sequence[str],
    limit: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """Each adapted model of the first seed against its base on other sets, on the same samples.

    A linear probe knows no other classes, and CoCoOp reads every text for every picture: they have no row there.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for reference in sets:
            evaluated(load(run.base), reference, run.template, Path(folder) / Path(reference).name / "base", limit)
        for method in METHODS:
            if method == "linear_probe":
                continue
            model = adapted_model(run, method, rates[method], MOST_SHOTS, 0, train, names).predictor()
            template = "{}" if method in ("coop", "cocoop") else run.template
            for reference in sets:
                if method == "cocoop" and not has_classes(other_set(reference)):
                    continue
                place = Path(folder) / Path(reference).name
                evaluated(model, reference, template, place / method, limit)
                rows += _changes(method, reference, place)
    return rows


def _changes(method: str, reference: str, place: Path) -> list[dict[str, Any]]:
    return [
        {
            "method": method, "set": Path(reference).name, "metric": one.metric, "base": round(one.first_value, 4),
            "adapted": round(one.second_value, 4), "change": round(one.difference.value, 4),
            "low": round(one.difference.low or 0.0, 4), "high": round(one.difference.high or 0.0, 4),
            "p": one.p, "pictures": one.difference.n,
        }
        for one in compare([place / "base", place / method], settings_alike=False)
        if one.metric in _SHOWN
    ]  # fmt: skip
