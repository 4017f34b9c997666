"""What masking patches saves: ViT-B/16 at 224 pixels with 0, 50 and 75 % of the patches dropped.

The image tower alone, forward and backward, then CLIP's whole step, beside open_clip's patch dropout with the same
weights; the embeddings of both are compared where nothing is dropped. FLIP (arXiv 2212.00794, table 1) reports 3.7x
less time at 75 %.

python benchmarks/patch_masking.py --out benchmarks/results/patch_masking.json
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from _clip_sides import Pairs, autocast, batches, open_clip_step, task_step
from _measure import alternate, arguments, rate, show, write
from _open_clip import open_clip
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.words.tokenizer import Tokenizer
from diptych.models import _open_clip_tables as tables
from diptych.models._weight_tables import read
from diptych.models.contrastive import clip
from diptych.models.contrastive._options import Masking, PairOptions

RATIOS = (0.0, 0.5, 0.75)
SIZES = {
    "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "head_width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
}
Work = dict[str, Callable[[], object]]


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", choices=("fp32", "bf16"), nargs="+", default=["fp32", "bf16"])
    parser.set_defaults(repetitions=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    package = open_clip()
    theirs = _open_clip_model(package)
    ours = _our_task(theirs)
    (pairs,) = batches(1, options.batch, side=224)
    apart = _apart(theirs, ours, pairs)
    print(f"furthest apart, embeddings of both sides without masking: {apart:.1e}")
    rows: list[dict[str, Any]] = []
    for precision in options.precision:
        works = {
            "image tower": _towers(theirs, ours, pairs, precision),
            "whole step": _steps(theirs, ours, package, pairs, precision),
        }
        for what, sides in works.items():
            rows += _timed(what, precision, sides, theirs, ours, options)
    show(f"ViT-B/16 at 224 pixels, batches of {options.batch}", rows)
    write(options.out, rows, batch=options.batch, threads=options.threads, apart=apart)


def _open_clip_model(package: Any) -> Any:
    """With a dropout of patches whose share is set before each measurement."""
    torch.manual_seed(0)
    vision = {**SIZES["vision_cfg"], "patch_dropout": 0.5}
    return package.model.CLIP(embed_dim=512, vision_cfg=vision, text_cfg=SIZES["text_cfg"]).train()


def _our_task(theirs: Any) -> clip.ClipTask:
    """With open_clip's weights."""
    settings = ImageTextConfig(ImagePreprocessing(224), TextPreprocessing(77))
    processor = ImageTextProcessor(settings, Tokenizer.fit(["a caption"], 300))
    task = clip.ClipTask(clip.Config.vit_b16(), processor)
    task.model.load_state_dict(read(tables.open_clip_clip(12, 12), theirs.state_dict(), Path("open_clip")))
    return task.train()


def _mask(theirs: Any, ours: clip.ClipTask, ratio: float) -> None:
    theirs.visual.patch_dropout.prob = ratio
    ours.options = PairOptions(Masking(image=ratio))


@torch.no_grad()
def _apart(theirs: Any, ours: clip.ClipTask, pairs: Pairs) -> float:
    """The largest difference of any coordinate."""
    _mask(theirs, ours, 0.0)
    expected_BD = torch.nn.functional.normalize(theirs.visual(pairs.image_BCHW), dim=-1)
    return float((ours.model.encode_image(pairs.image_BCHW) - expected_BD).abs().max())


def _towers(theirs: Any, ours: clip.ClipTask, pairs: Pairs, precision: str) -> Work:
    """Forward and backward of the image tower; which patches are kept is drawn anew each time."""
    batch, context = pairs.cut(), autocast(precision)

    def peer() -> None:
        with context():
            embedded_BD = torch.nn.functional.normalize(theirs.visual(pairs.image_BCHW), dim=-1)
        embedded_BD.float().square().sum().backward()
        theirs.zero_grad(set_to_none=True)

    def own() -> None:
        with context():
            embedded_BD = ours.model.encode_image(batch.pixels_BCHW, ours.kept_patches(batch))
        embedded_BD.float().square().sum().backward()
        ours.zero_grad(set_to_none=True)

    return {"open_clip": peer, "diptych": own}


def _steps(theirs: Any, ours: clip.ClipTask, package: Any, pairs: Pairs, precision: str) -> Work:
    """The training step of both sides."""
    peer, own = open_clip_step(theirs, package, precision, compiled=False), task_step(ours, precision)
    return {"open_clip": lambda: peer(pairs), "diptych": lambda: own(pairs)}


def _timed(
    what: str, precision: str, sides: Work, theirs: Any, ours: clip.ClipTask, options: Any
) -> list[dict[str, Any]]:
    """A row for each side and ratio; the gain is over the same side without masking."""
    seconds = {}
    for ratio in RATIOS:
        _mask(theirs, ours, ratio)
        seconds[ratio] = alternate(sides, options.repetitions)
    return [
        {
            "what": what,
            "precision": precision,
            "masked": f"{ratio:.0%}",
            "side": side,
            "images/s": rate(options.batch, seconds[ratio][side]),
            "gain over 0 %": statistics.median(seconds[0.0][side]) / statistics.median(seconds[ratio][side]),
            "beside open_clip": statistics.median(
                a / b for a, b in zip(seconds[ratio]["open_clip"], seconds[ratio][side], strict=True)
            ),
        }
        for ratio in RATIOS
        for side in sides
    ]


if __name__ == "__main__":
    sys.exit(main())
