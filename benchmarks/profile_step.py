"""Where the time of a CLIP training step goes: torch's profiler, operators grouped by what they are for.

The share is of the processor time of all operators, without those they call. What the loss costs is timed on embeddings
alone, and what reaching for data costs as the loader's wait beside a training that consumes scenes of the same size.

python benchmarks/profile_step.py --out benchmarks/results/profile_step.json
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import cycle
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from _clip_sides import OPTIMIZER, SIZE, autocast, batches, our_task
from _measure import alternate, arguments, show, write
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.loading.loader import Loader
from diptych.data.open import open_source
from diptych.data.words.tokenizer import Tokenizer
from diptych.objectives.contrastive import info_nce
from diptych.training.backward import backward

GROUPS = {
    "matrix products": ("mm", "addmm", "bmm", "baddbmm", "linear", "mkldnn_linear", "mkldnn_linear_backward"),
    "attention": (
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention_for_cpu_backward",
        "_softmax",
        "_softmax_backward_data",
    ),
    "norms": ("native_layer_norm", "native_layer_norm_backward"),
    "activations": ("gelu", "gelu_backward", "sigmoid", "sigmoid_backward", "silu", "silu_backward"),
    "optimizer": ("_fused_adamw_",),
    "sums, products, residuals": ("add", "add_", "mul", "mul_", "div", "div_", "sub", "sum", "neg", "pow"),
    "copies and casts": ("copy_", "cat", "clone", "stack", "index", "index_select", "index_put_", "gather"),
    "embedding": ("embedding_dense_backward", "index_add_", "embedding"),
    "memory": ("zero_", "fill_", "empty", "empty_strided", "empty_like", "resize_", "zeros", "new_zeros"),
}
"""What operators are for, by their names in torch; everything else is "other"."""
OF = {name: group for group, names in GROUPS.items() for name in names}


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows: list[dict[str, Any]] = []
    largest: list[dict[str, Any]] = []
    for precision in ("fp32", "bf16"):
        step = _step(options.batch, precision)
        seconds = alternate({"step": step}, options.repetitions, warm_up=2)["step"]
        found, operators = _profiled(step, options.repetitions)
        median = sorted(seconds)[len(seconds) // 2]
        rows += [{"precision": precision, "group": g, "share": s, "ms a step": s * median * 1e3} for g, s in found]
        rows.append({"precision": precision, "group": "whole step", "share": 1.0, "ms a step": median * 1e3})
        rows.append(_beside(precision, "of it, the loss", _loss_seconds(options.batch, options.repetitions), median))
        largest += [{"precision": precision, "operator": name, "share": share} for name, share in operators[:12]]
    rows.append(_beside("fp32", "waiting for data", _data_wait(options.batch), _of(rows, "fp32")))
    show(f"a step of {options.batch} pairs", rows)
    show("largest operators", largest)
    write(options.out, rows, operators=largest, batch=options.batch, threads=options.threads)


def _beside(precision: str, group: str, seconds: float, step: float) -> dict[str, Any]:
    return {"precision": precision, "group": group, "share": seconds / step, "ms a step": seconds * 1e3}


def _of(rows: list[dict[str, Any]], precision: str) -> float:
    """Seconds of the whole step."""
    (row,) = (row for row in rows if (row["precision"], row["group"]) == (precision, "whole step"))
    return float(row["ms a step"]) / 1e3


def _step(batch: int, precision: str) -> Callable[[], None]:
    """The trainer's step on batches that are there."""
    torch.manual_seed(0)
    task = our_task()
    (groups,) = task.trainable().values()
    optimizer = OPTIMIZER.build(groups)
    turn = cycle([pairs.cut() for pairs in batches(4, batch)])

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        backward(task, [next(turn)], autocast=autocast(precision), seed=(0,))
        optimizer.step()
        task.after_step()

    return step


def _profiled(step: Callable[[], None], steps: int) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """Shares by group and by operator, largest first."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(steps):
            step()
    groups: dict[str, float] = defaultdict(float)
    operators: dict[str, float] = {}
    for event in seen.key_averages():
        name = event.key.removeprefix("aten::")
        operators[name] = event.self_cpu_time_total
        optimizer = name.startswith(("Optimizer.", "_foreach", "_fused"))
        groups["optimizer" if optimizer else OF.get(name, "other")] += event.self_cpu_time_total
    return _shares(groups), _shares(operators)


def _shares(times: dict[str, float]) -> list[tuple[str, float]]:
    total = sum(times.values())
    return sorted(((name, time / total) for name, time in times.items()), key=lambda pair: -pair[1])


def _loss_seconds(batch: int, repetitions: int) -> float:
    """Median seconds of the loss and its gradient on embeddings alone."""
    image_ND, text_ND = (torch.randn(batch, 512, requires_grad=True) for _ in range(2))
    scale = torch.tensor(14.0, requires_grad=True)
    runs = {"loss": lambda: info_nce(image_ND, text_ND, scale).backward()}  # type: ignore[no-untyped-call]
    return sorted(alternate(runs, 4 * repetitions + 1)["loss"])[2 * repetitions]


def _data_wait(batch: int, steps: int = 6) -> float:
    """Seconds that a step waits for the loader, beside the training that the loader runs behind."""
    source = open_source(f"scenes?size={SIZE}&count=4000", "train")
    tokenizer = Tokenizer.fit([text for index in range(200) for text in source[index].texts], 512)
    processor = ImageTextProcessor(ImageTextConfig(ImagePreprocessing(SIZE), TextPreprocessing(77)), tokenizer)
    step, waited = _step(batch, "fp32"), []
    with Loader(source, processor, batch, 0, threads=2) as loader:
        for _ in range(steps):
            started = time.perf_counter()
            next(loader)
            waited.append(time.perf_counter() - started)
            step()
    return sum(waited[1:]) / (steps - 1)  # the first batch is the loader's start


if __name__ == "__main__":
    sys.exit(main())
