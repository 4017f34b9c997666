"""A small CLIP on a mixture of scenes, trained by any number of processes that may be killed, and what it saw.

A session is one start of a run on some processes. Each process writes down what it is given at every step.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from killed_runs import SERVER
from torch import Tensor

from diptych.capabilities.predictor import Predictor
from diptych.core.errors import DataError, DiptychError, Interrupted
from diptych.core.records.run_folder import RunFolder
from diptych.core.sample import Sample
from diptych.core.source import Source
from diptych.core.task import LocalOutput
from diptych.data.batches.image_text import (
    ImagePreprocessing,
    ImageTextBatch,
    ImageTextConfig,
    ImageTextProcessor,
    TextPreprocessing,
)
from diptych.data.derived.mixture import Mixture
from diptych.data.pixels.views import Views
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.text_transformer import TextConfig
from diptych.layers.vision_transformer import VisionConfig
from diptych.models.contrastive import clip
from diptych.training import checkpoint
from diptych.training.fit import fit
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget, Run
from diptych.training.stages import Context, Report, Stage, Train

STEPS = 24
WORDS = ["a small large red green blue yellow circle square triangle to the left right of above below"]


def mixture() -> Mixture:
    """Two kinds of scenes of unlike sizes in unlike shares: several rounds through the smaller one."""
    one, two = SceneConfig(objects=1, size=32), SceneConfig(objects=2, size=32)
    return Mixture([Scenes("train", 30, one), Scenes("train", 50, two)], [0.7, 0.3], length=64)


class Seeing(clip.ClipTask):
    """Writes down a line a step: the samples of this process and a hash of their pixels and tokens."""

    def __init__(self, log: Path, begun: int) -> None:
        tokenizer = Tokenizer.fit(WORDS, 280)
        vision = VisionConfig(32, 8, 32, 1, 2, 64, pre_norm=True, patch_bias=False)
        config = clip.Config(vision, TextConfig(tokenizer.vocab_size, 64, 32, 1, 2, 64), width=16)
        image = ImagePreprocessing(32, views=Views(crop_scale=(0.5, 1.0), brightness=0.3))
        super().__init__(config, ImageTextProcessor(ImageTextConfig(image, TextPreprocessing(64)), tokenizer))
        self.log, self.step = log, begun

    def features(self, batch: ImageTextBatch, phase: str = "main") -> LocalOutput:
        if torch.is_grad_enabled():  # gradient caching makes a pass without a graph before
            self._write(batch)
        return super().features(batch, phase)

    def _write(self, batch: ImageTextBatch) -> None:
        rank = dist.get_rank() if dist.is_initialized() else 0
        seen = [
            (key, hashlib.sha1(pixels.numpy().tobytes() + tokens[:length].numpy().tobytes()).hexdigest())
            for key, pixels, tokens, length in zip(
                batch.keys, batch.pixels_BCHW, batch.tokens_BT, batch.lengths_B.tolist(), strict=True
            )
        ]
        with (self.log / f"seen-{rank}.jsonl").open("a") as file:
            file.write(json.dumps({"session": os.environ.get("SESSION", ""), "step": self.step, "seen": seen}) + "\n")

    def after_step(self) -> None:
        self.step += 1
        super().after_step()


@dataclass(frozen=True)
class SeenRun(Run):
    """24 steps of 8 samples."""

    threads: int = 1
    loader_threads: int = 1
    batch_size: int = 8
    budget: Budget = field(default_factory=lambda: Budget(steps=STEPS))
    optimizer: AdamWConfig = field(default_factory=lambda: AdamWConfig(lr=3e-4, eps=1e-4))
    schedule: WarmupCosine = field(default_factory=lambda: WarmupCosine(warmup=3))
    log_every: int = 1
    save_every: int = 3
    stall_timeout: float = 30.0
    ema_decay: float = 0.5
    fault: str = ""
    evaluation_seconds: float = 0.0
    report_seconds: float = 0.0

    def stages(self) -> Sequence[Stage]:
        def task(context: Context) -> Seeing:
            newest = checkpoint.latest(context.folder, "train")
            return Seeing(context.folder.path, 0 if newest is None else checkpoint.read_progress(newest).step)

        def measure(model: Predictor) -> dict[str, float]:
            time.sleep(self.evaluation_seconds)
            return {"score": float(model.encode_text(["a red circle"])[0, 0])}

        evaluate = (lambda context: measure) if self.evaluation_seconds else None
        train = Train("train", source=self.source, task=task, evaluate=evaluate)
        report = Report("report", lambda context: time.sleep(self.report_seconds))
        return (train, report, replace(train, name="more")) if self.report_seconds else (train,)

    def source(self, context: Context) -> Source:
        """The mixture; on the last process with a fault behind its 20th sample."""
        is_last = context.world.rank == context.world.size - 1
        return Faulty(mixture(), self.fault) if self.fault and is_last else mixture()


class Faulty:
    """A source that hangs or breaks behind its 20th sample."""

    def __init__(self, source: Source, fault: str) -> None:
        self.source, self.fault, self.read = source, fault, 0
        self.name = source.name

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        self.read += 1
        if self.read > 20 and self.fault == "hangs":
            time.sleep(3600)
        if self.read > 20 and self.fault == "breaks":
            raise DataError("the disk with the pictures is gone")
        if self.read > 20 and self.fault == "runs out of memory":
            raise torch.OutOfMemoryError("no memory is left")
        return self.source[index]

    def keys(self) -> Sequence[str]:
        return self.source.keys()

    def fingerprint(self) -> str:
        return self.source.fingerprint()


@dataclass(frozen=True)
class Kill:
    """What happens to a session.

    Attributes:
        ranks: the processes that are struck.
        moment: the n-th time that one of them touches a file of the run.
        number: the signal.
        name: only files whose names start so.
    """

    ranks: tuple[int, ...]
    moment: int
    number: int = signal.SIGKILL
    name: str = ""


def session(rank: int, size: int, port: int, folder: Path, settings: Run, kill: Kill | None, name: str) -> None:
    """One process."""
    torch.set_num_threads(1)
    os.environ["SESSION"] = name
    if size > 1:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    with folder.with_suffix(f".log{rank}").open("a") as log:
        os.dup2(log.fileno(), 2)
    if kill is not None and rank in kill.ranks:
        _strike(folder, kill)
    try:
        fit(settings, folder, resume=RunFolder.is_one(folder))
    except DiptychError as error:
        print(f"diptych: {error}", file=sys.stderr, flush=True)
        os._exit(2)
    except Interrupted as stopped:
        os._exit(stopped.exit_code)
    except RuntimeError as error:
        print(f"bug: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def _strike(folder: Path, kill: Kill) -> None:
    touched = [0]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        path = str(arguments[0]) if event in ("open", "os.rename", "os.mkdir") else ""
        if path.startswith(f"{folder}/") and Path(path).name.startswith(kill.name):
            touched[0] += 1
            if touched[0] == kill.moment:
                os.kill(os.getpid(), kill.number)

    sys.addaudithook(watch)


def run_session(
    size: int, folder: Path, settings: Run, kill: Kill | None = None, name: str = "", patience: float = 60
) -> list[int | None]:
    """Starts a run, or goes on with it, on `size` processes; their exit codes, None for one that hangs."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [
        SERVER.Process(target=session, args=(rank, size, port, folder, settings, kill, name)) for rank in range(size)
    ]
    for process in processes:
        process.start()
    ends = time.monotonic() + patience
    for process in processes:
        process.join(max(ends - time.monotonic(), 0.1))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return codes


def said(folder: Path, rank: int) -> str:
    """What a process wrote to its standard error."""
    return folder.with_suffix(f".log{rank}").read_text()


def seen(folder: Path) -> dict[int, list[tuple[str, str]]]:
    """Step -> its samples in the order of the global batch, as the session that got furthest with the step saw them."""
    by_step: dict[int, dict[str, dict[int, Any]]] = {}
    for path in sorted(folder.glob("seen-*.jsonl")):
        rank = int(path.stem.partition("-")[2])
        for line in path.read_text().splitlines():
            one = json.loads(line)
            by_step.setdefault(one["step"], {}).setdefault(one["session"], {})[rank] = one["seen"]
    found = {}
    for step, sessions in sorted(by_step.items()):
        versions = [[tuple(s) for rank in sorted(ranks) for s in ranks[rank]] for ranks in sessions.values()]
        found[step] = max(versions, key=len)
        assert all(set(version) <= set(found[step]) for version in versions), f"step {step} was another one before"
    return found


def weights(folder: Path) -> dict[str, Tensor]:
    """Everything in the last checkpoint but the random state."""
    tensors = checkpoint.load(folder / "checkpoints" / f"train-{STEPS:08d}")[1]
    return {name: tensor for name, tensor in tensors.items() if name != "random"}
