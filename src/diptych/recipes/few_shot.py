"""A trained contrastive model adapted to classes by a few pictures of each: prompts, adapters, LoRA, a linear probe.

    diptych train few_shot --base runs/clip --data flowers --method coop --shots 4

The base is frozen but for what the method adds. The test part is read once, at the end, with the base beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Literal

from diptych.adapters.context import ContextConfig
from diptych.adapters.lora import LoraConfig
from diptych.capabilities.load import load
from diptych.core.errors import ConfigError
from diptych.data.derived.few_shot import classes_of, shots
from diptych.data.labelled import Labelled, labelled_parts
from diptych.data.pixels.views import Views
from diptych.models.contrastive import adapted, cocoop, linear_classifier
from diptych.models.contrastive._on_base import OnBaseTask, adaptable, class_processor
from diptych.recipes._forgetting import check_sets, report_change
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget, Run
from diptych.training.stages import Context, Report, Stage, Train

Method = Literal["coop", "cocoop", "vpt_shallow", "vpt_deep", "clip_adapter", "lora", "linear_probe"]

RATES: dict[Method, float] = {
    "coop": 3e-2,
    "cocoop": 1e-2,
    "vpt_shallow": 1e-2,
    "vpt_deep": 3e-2,
    "clip_adapter": 1e-2,
    "lora": 1e-3,
    "linear_probe": 3e-4,
}
"""Learning rates, selected on pictures held out of the training part of one data set (benchmarks/few_shot.py)."""


@dataclass(frozen=True, kw_only=True)
class FewShotRun(Run):
    """A base, a method, and a few pictures a class.

    Attributes:
        base: a run, a model folder, a `transformers` or open_clip folder, or a hub id.
        method: what is trained (docs/adapters.md).
        shots: pictures a class, drawn by a hash of their keys and the seed; the rest of the training part is not seen.
        test: the split that is reported, where names tell splits apart.
        test_share: of the pictures, where nothing tells splits apart.
        forgetting: other data, labelled or with captions, on which the adapted model is compared with its base.
        template: how the base is told a class; CoOp and CoCoOp learn what stands around it instead.
        context: of CoOp and CoCoOp.
        prompts: of VPT, for each layer that has some.
        reduction, ratio: of CLIP-Adapter.
        lora: of LoRA.
        augment: whether training pictures are augmented, by `views`; without it frozen vectors are computed once.
        optimizer: a learning rate of 0 takes the method's own.
    """

    base: str = ""
    method: Method = "coop"
    shots: int = 4
    test: str = "test"
    test_share: float = 0.5
    forgetting: tuple[str, ...] = ()
    template: str = "a photo of a {}"
    context: ContextConfig = field(default_factory=lambda: ContextConfig(words="a photo of a"))
    prompts: int = 8
    reduction: int = 4
    ratio: float = 0.2
    lora: LoraConfig = field(default_factory=LoraConfig)
    augment: bool = False
    views: Views = field(default_factory=lambda: Views(crop_scale=(0.5, 1.0), flip=0.5))

    def stages(self) -> Sequence[Stage]:
        if not self.base:
            raise ConfigError("few_shot needs a trained model to start from: --base RUN_OR_FOLDER")
        check_sets(self.forgetting, self.method)
        parts = labelled_parts(self.data, self.test, self.test_share)
        places = cache(lambda: classes_of(parts.train))  # reads every sample of the training part
        rate = self.optimizer.lr or RATES[self.method]
        return (
            Train(
                "train",
                source=lambda context: shots(parts.train, self.shots, self.seed, places()),
                task=lambda context: self.task(list(places())),
                settings=replace(self, optimizer=replace(self.optimizer, lr=rate)),
            ),
            Report("test", lambda context: self._report(parts, context)),
        )

    def task(self, names: Sequence[str]) -> OnBaseTask:
        """The method's task on a fresh copy of the base.

        Raises:
            ConfigError: the method does not fit the base.
        """
        base = adaptable(load(self.base))
        processor = class_processor(base, names, self.views if self.augment else None)
        if self.method == "linear_probe":
            return linear_classifier.LinearClassifierTask(linear_classifier.Config(), processor, base)
        if self.method == "cocoop":
            return cocoop.CocoopTask(cocoop.Config(self.context), processor, base)
        config = adapted.Config(
            self.method, self.template, self.context, self.prompts, self.reduction, self.ratio, self.lora
        )
        return adapted.AdaptedTask(config, processor, base)

    def _report(self, parts: Labelled, context: Context) -> None:
        """The test part and the other sets, with the base beside the adapted model."""
        base, model = load(self.base, context.device), load(context.folder.best_model(), context.device)
        own = "{}" if self.method in ("coop", "cocoop", "linear_probe") else self.template
        templates, root = (self.template, own), context.folder.path / "comparison"
        report_change(base, model, parts.test, templates, (root / "test" / "base", context.folder.evaluation))
        for number, reference in enumerate(self.forgetting, start=1):
            place = root / f"{number}-{Path(reference.partition('?')[0]).name}"
            report_change(base, model, reference, templates, (place / "base", place / "adapted"))


def few_shot() -> FewShotRun:
    """A minute or less for a small base; 100 steps of at most 32 pictures, the same for all methods."""
    return FewShotRun(
        name="few_shot",
        data="scenes?objects=1",
        batch_size=32,
        budget=Budget(steps=100),
        optimizer=AdamWConfig(lr=0.0, weight_decay=0.0, beta2=0.999, eps=1e-8),
        schedule=WarmupCosine(warmup=5),
        log_every=50,
    )
