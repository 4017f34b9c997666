"""What `diptych plan` says of public runs, beside what their authors report.

open_clip's models on LAION-400M, 32 epochs each: A100 hours as its docs/PRETRAINED.md has them. A few scenes stand for
the pictures, with texts that fill the 77 tokens that open_clip computes on.

python benchmarks/known_runs.py --out benchmarks/results/known_runs.json
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from _measure import arguments, show, write
from diptych.core.sample import Sample
from diptych.core.source import Source
from diptych.data.batches.image_text import ImageTextConfig, ImageTextProcessor
from diptych.data.open import open_source
from diptych.data.words.tokenizer import Tokenizer
from diptych.guide.calibration import assumed_overhead, assumed_speed
from diptych.guide.devices import DEVICES
from diptych.guide.plan import Machine, StagePlan
from diptych.models.contrastive import clip
from diptych.models.contrastive._options import PairOptions
from diptych.recipes.clip_tiny import ClipRun, clip_tiny
from diptych.training.preflight.footprints import footprints
from diptych.training.run import Budget, Run

SAMPLES = 32 * 400_000_000


@dataclass(frozen=True)
class Known:
    """A run.

    Attributes:
        hours: of A100s, as reported.
    """

    name: str
    model: clip.Config
    hours: float


def _b16_plus() -> clip.Config:
    """open_clip's ViT-B-16-plus-240."""
    base = clip.Config.vit_b16()
    vision = replace(base.vision, image_size=240, width=896, heads=14, hidden=3584)
    return clip.Config(vision, replace(base.text, width=640, heads=10, hidden=2560), width=640)


KNOWN = (
    Known("ViT-B/32", clip.Config.vit_b32(), 4_600),
    Known("ViT-B/16", clip.Config.vit_b16(), 10_700),
    Known("ViT-B/16+", _b16_plus(), 13_620),
    Known("ViT-L/14", clip.Config.vit_l14(), 50_800),
)


class Wordy:
    """Samples whose text is as long as a tower reads."""

    def __init__(self, source: Source) -> None:
        self._source, self.name = source, source.name

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Sample:
        sample = self._source[index]
        return replace(sample, texts=(" ".join(sample.texts[:1] * 40),))

    def keys(self) -> Sequence[str]:
        return self._source.keys()

    def fingerprint(self) -> str:
        return self._source.fingerprint()


class _WordyRun(ClipRun):
    """CLIP on them."""

    def training_data(self) -> Source:
        return Wordy(open_source(self.data, "train"))

    def task(self, settings: ImageTextConfig, tokenizer: Tokenizer, options: PairOptions) -> clip.ClipTask:
        """With as many embeddings as the public vocabulary has."""
        return clip.ClipTask(self.model, ImageTextProcessor(settings, tokenizer), options)


def run_of(known: Known) -> Run:
    """128 GPUs with 256 pairs each."""
    tiny = clip_tiny()
    fields = {name: getattr(tiny, name) for name in tiny.__dataclass_fields__}
    fields |= {
        "name": known.name,
        "data": "scenes?count=64",
        "image": replace(tiny.image, size=known.model.vision.image_size),
        "model": known.model,
        "context": known.model.text.context,
        "batch_size": 32_768,
        "budget": Budget(samples=SAMPLES),
        "precision": "bf16",
        "threads": 1,
    }
    return _WordyRun(**fields)


def plan_of(known: Known, folder: Path = Path("runs")) -> StagePlan:
    """For 128 A100s."""
    (stage,) = footprints(run_of(known), folder, processes=128)
    machine = Machine(128, DEVICES["A100"], 0.0, "ddp")
    return StagePlan(stage, machine, assumed_overhead(machine.device), assumed_speed(machine.device, stage.precision))


def row_of(known: Known) -> dict[str, Any]:
    """What is planned beside what is reported."""
    plan = plan_of(known)
    hours = [128 * one for one in plan.hours]
    rate = plan.flops / (known.hours * 3600)
    return {
        "model": known.name,
        "parameters": plan.stage.parameters,
        "GFLOP a pair": plan.stage.step_flops(plan.stage.batch_size, 128) / plan.stage.batch_size / 1e9,
        "GB of a GPU": plan.held("ddp").value / 1e9,
        "hours": hours[1],
        "low": hours[0],
        "high": hours[2],
        "reported": known.hours,
        "share of the peak": rate / plan.machine.device.rate("bf16"),
    }


def main() -> None:
    parser = arguments(__doc__ or "")
    options = parser.parse_args()
    rows = []
    for known in KNOWN:
        rows.append(row_of(known))
        show("A100 hours", rows)
        write(options.out, rows)


if __name__ == "__main__":
    main()
