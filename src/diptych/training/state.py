"""What a stage needs to go on bit for bit, as named tensors, and how they are written and read.

    task/NAME                       weights and buffers
    optimizer/PHASE/NAME/KEY        what an optimizer keeps for a parameter
    average/NAME, average/updates   the weight average, where there is one
    random                          torch's random state on the main process

They go through torch.distributed.checkpoint in its safetensors format: every process writes what it holds, nothing is
pickled, and reading them back on another number of processes, sharded or not, puts each piece where it belongs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from diptych.core.errors import CheckpointError, StorageError
from diptych.core.task import Task
from diptych.distributed.world import current
from diptych.training.ema import WeightAverage

Tensors = dict[str, Tensor]
RESTORE = "restore the settings of the run, or start a new one"


@dataclass(frozen=True)
class TrainingState:
    """The parts of a stage that training changes.

    Attributes:
        names: of each phase, the trained parameters by name.
    """

    task: nn.Module
    optimizers: Mapping[str, Optimizer]
    names: Mapping[str, Mapping[str, nn.Parameter]]
    average: WeightAverage | None

    @classmethod
    def of(cls, task: Task, optimizers: Mapping[str, Optimizer], average: WeightAverage | None) -> TrainingState:  # type: ignore[type-arg]
        """That of a task whose optimizers were built from its `trainable()`."""
        names = {
            phase: {name: parameter for group in groups for name, parameter in group.parameters.items()}
            for phase, groups in task.trainable().items()
        }
        return cls(task, optimizers, names, average)

    def tensors(self) -> Tensors:
        """Everything by name, in the memory of what is trained; sharded tensors stay sharded, and of a weight that
        stands under two names the second is a copy."""
        found = {f"task/{name}": tensor.detach() for name, tensor in self.task.state_dict().items()}
        for phase, optimizer in self.optimizers.items():
            for name, parameter in self.names[phase].items():
                for key, tensor in optimizer.state.get(parameter, {}).items():
                    found[f"optimizer/{phase}/{name}/{key}"] = tensor
        if self.average is not None:
            found |= {f"average/{name}": tensor for name, tensor in self.average.average.items()}
            found["average/updates"] = torch.tensor(self.average.updates)
        if current().is_main:
            found["random"] = torch.get_rng_state()
        return unshared(found)

    def restore(self, folder: Path) -> None:
        """Reads what `write` wrote into the places it belongs to, strictly: all of it or none.

        Raises:
            CheckpointError: it is damaged, or of another model or other settings.
        """
        saved = metadata(folder)
        self._require_fit(folder, {name: one.size for name, one in saved.items()})
        targets = self._targets(saved)
        read_into(targets, folder)
        if self.average is not None:
            self.average.updates = int(targets["average/updates"])
        torch.set_rng_state(targets["random"])

    def _targets(self, saved: Mapping[str, TensorStorageMetadata]) -> Tensors:
        """Where each saved tensor goes; what a fresh optimizer does not hold yet is made."""
        targets = {f"task/{name}": tensor.detach() for name, tensor in self.task.state_dict().items()}
        for phase, optimizer in self.optimizers.items():
            for name, parameter in self.names[phase].items():
                begin = f"optimizer/{phase}/{name}/"
                keys = [key.removeprefix(begin) for key in saved if key.startswith(begin)]
                state = {key: _room(parameter, saved[begin + key]) for key in keys}
                if state:
                    optimizer.state[parameter] = state
                targets |= {begin + key: tensor for key, tensor in state.items()}
        if self.average is not None:
            targets |= {f"average/{name}": tensor for name, tensor in self.average.average.items()}
            targets["average/updates"] = torch.tensor(0)
        return {**targets, "random": torch.get_rng_state()}

    def _require_fit(self, folder: Path, saved: Mapping[str, torch.Size]) -> None:
        expected = {f"task/{name}": tensor.shape for name, tensor in self.task.state_dict().items()}
        found = {name: shape for name, shape in saved.items() if name.startswith("task/")}
        if wrong := [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]:
            first = sorted(wrong)[0].removeprefix("task/")
            raise CheckpointError(f"{folder} is of another model: {first} differs; start a new run for this one")
        phases = {name.split("/")[1] for name in saved if name.startswith("optimizer/")}
        has_average = any(name.startswith("average/") for name in saved)
        if not phases <= self.optimizers.keys() or has_average != (self.average is not None):
            raise CheckpointError(f"{folder} was saved with other phases or another weight average: {RESTORE}")
        for phase in phases:
            trained = {"/".join(name.split("/")[2:-1]) for name in saved if name.startswith(f"optimizer/{phase}/")}
            if not trained <= self.names[phase].keys():  # what had no gradient yet has no state
                raise CheckpointError(f"{folder}: the optimizer of phase '{phase}' has other parameters: {RESTORE}")
        averaged = {name.removeprefix("average/") for name in saved if name.startswith("average/")}
        if self.average is not None and averaged != {*self.average.average, "updates"}:
            raise CheckpointError(f"{folder}: the weight average is of other parameters: {RESTORE}")


def unshared(tensors: Tensors) -> Tensors:
    """With copies of those that share memory with one before (tied weights): safetensors refuses these."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        address = local.untyped_storage().data_ptr()
        found[name] = tensor.clone() if address and address in seen else tensor
        seen.add(address)
    return found


def _room(parameter: nn.Parameter, saved: TensorStorageMetadata) -> Tensor:
    """Memory for what an optimizer keeps: sharded like the parameter where it has its shape."""
    dtype = saved.properties.dtype
    if saved.size == parameter.shape:
        return torch.zeros_like(parameter.detach(), dtype=dtype)
    return torch.zeros(saved.size, dtype=dtype, device=parameter.device)


def write(tensors: Tensors, folder: Path) -> None:
    """Writes a folder of safetensors files; every process calls it and writes what it holds.

    Raises:
        StorageError, OSError: the disk is full or the folder cannot be written, on any process.
    """
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    with _failures(StorageError, f"cannot write {folder}"), _quiet():
        save(tensors, storage_writer=writer, no_dist=current().size == 1)


def read_into(tensors: Tensors, folder: Path) -> None:
    """Fills tensors in place.

    Raises:
        CheckpointError: a file is missing, truncated or damaged.
    """
    with _failures(CheckpointError, f"{folder} is truncated or damaged"), _quiet():
        load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=current().size == 1)


def read(folder: Path) -> Tensors:
    """Every tensor, whole, in this process alone.

    Raises:
        CheckpointError: a file is truncated or damaged.
    """
    tensors = {name: torch.zeros(one.size, dtype=one.properties.dtype) for name, one in metadata(folder).items()}
    with _failures(CheckpointError, f"{folder} is truncated or damaged"), _quiet():
        load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
    return tensors


def metadata(folder: Path) -> dict[str, TensorStorageMetadata]:
    """Name -> shape and type of every tensor that was written.

    Raises:
        CheckpointError: a file is truncated or damaged.
    """
    with _failures(CheckpointError, f"{folder} is truncated or damaged"):
        found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: one for name, one in found.items() if isinstance(one, TensorStorageMetadata)}


@contextmanager
def _failures(kind: type[StorageError | CheckpointError], what: str) -> Iterator[None]:
    """Turns what torch.distributed.checkpoint raises into one sentence; an OSError comes out as it is."""
    try:
        yield
    except CheckpointException as error:
        first = next(failure for failure, _ in error.failures.values())
        if isinstance(first, OSError) and kind is StorageError:
            raise first from None
        raise kind(f"{what}: {_first_line(first)}") from error
    except (SafetensorError, ValueError, LookupError, RuntimeError) as error:
        raise kind(f"{what}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's warning that a single process is a single process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
