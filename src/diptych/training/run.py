"""`Run`: the typed configuration of a complete run, which every recipe extends.

A recipe is a function that returns a `Run`; the command line overrides any field by its dotted name; `stages()` says
what happens, in order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from diptych.core.errors import ConfigError
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.parallel import Parallel
from diptych.training.precision import Precision

if TYPE_CHECKING:
    from diptych.training.stages import Stage


@dataclass(frozen=True)
class Budget:
    """How long a training stage is: a number of steps, or of samples seen.

    Attributes:
        steps: optimizer steps; 0 when samples are given.
        samples: samples seen, repetitions counted; 0 when steps are given.
    """

    steps: int = 0
    samples: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.samples) < 0 or (self.steps > 0) == (self.samples > 0):
            raise ConfigError(f"a budget is a number of steps or of samples, one of them: got {self}")

    def total_steps(self, batch_size: int) -> int:
        """Steps for a global batch of this size."""
        return self.steps or max(1, round(self.samples / batch_size))


@dataclass(frozen=True)
class Run(ABC):
    """What every run has.

    Attributes:
        name: of the recipe.
        seed: of initialisation, order, draws and noise.
        data: where the samples come from ("scenes", a path, "hf:org/name"); `diptych list sources` says which kinds.
        device: "cpu", "cuda", "cuda:1", "mps"; "auto" for a CUDA device where there is one, else the CPU.
        precision: "bf16" runs forward and backward passes under autocast; weights stay fp32. "auto" does so where the
            device is faster that way: many processors are not.
        threads: torch's threads; 0 leaves torch's choice.
        loader_threads: that decode and augment.
        batch_size: of the global batch, over all processes.
        micro_batch: samples a process puts through the model at once; 0 for all of its share. The gradient is that of
            the whole batch either way.
        parallel: what several processes hold: "ddp", all of the model each; "fsdp" (FSDP2), a share of weights,
            gradients and optimizer each.
        stall_timeout: seconds without a step after which a run on several processes ends and says whose fault it is.
        clip_norm: largest gradient norm; 0 for no limit.
        ema_decay: of the weight average; 0 for none.
        compile: whether the model is compiled (torch.compile).
        checkpointing: whether activations are recomputed in the backward pass: memory for time.
        bad_threshold: largest share of bad samples.
        log_every, evaluate_every, save_every: in steps; 0 for never (the end of a stage is always saved).
        keep_last: checkpoints kept besides the best.
        wandb: a Weights & Biases project to log to; "" for none.
    """

    name: str = "run"
    seed: int = 0
    data: str = "scenes"
    device: str = "auto"
    precision: Precision = "fp32"
    threads: int = 0
    loader_threads: int = 2
    batch_size: int = 64
    micro_batch: int = 0
    parallel: Parallel = "ddp"
    stall_timeout: float = 600.0
    budget: Budget = Budget(steps=100)
    optimizer: AdamWConfig = field(default_factory=AdamWConfig)
    schedule: WarmupCosine = field(default_factory=WarmupCosine)
    clip_norm: float = 1.0
    ema_decay: float = 0.0
    compile: bool = False
    checkpointing: bool = False
    bad_threshold: float = 0.05
    log_every: int = 10
    evaluate_every: int = 0
    save_every: int = 0
    keep_last: int = 1
    wandb: str = ""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.micro_batch < 0:
            raise ConfigError(f"batch_size {self.batch_size} and micro_batch {self.micro_batch} make no batch")
        if self.clip_norm < 0 or not 0 <= self.ema_decay < 1:
            raise ConfigError(
                f"clip_norm {self.clip_norm} and ema_decay {self.ema_decay}: a norm is 0 (no limit) or more, a decay "
                f"from 0 (no average) to less than 1"
            )
        if self.stall_timeout <= 0:
            raise ConfigError(f"stall_timeout {self.stall_timeout} would end a run at once: give seconds above 0")
        if self.keep_last < 1:
            raise ConfigError("keep_last must be at least 1: without a checkpoint nothing can be resumed")

    @abstractmethod
    def stages(self) -> Sequence[Stage]:
        """What happens, in order."""
