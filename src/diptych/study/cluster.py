"""The runs of a study on the machines of a Ray cluster (extra `ray`), each in a process of its own there."""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from diptych.core.errors import ConfigError, MissingExtra
from diptych.core.storage import write_text
from diptych.study.machine import Shared, run_here
from diptych.study.queue import Tell, outcome

MARK = "cluster.txt"
_ANSWER = 10.0
"""Seconds in which a cluster's address must answer."""


class Cluster:
    """As many runs at a time as the cluster has room for (an `Engine`)."""

    def __init__(
        self, address: str, out: Path, tell: Tell, *, cores: int = 1, gpu: bool = False, most: int = 0
    ) -> None:
        """
        Args:
            address: "auto" for the cluster that this machine is part of, "HOST:6379" for another.
            out: the study's folder, which every machine sees at the same path.
            cores: that each run takes.
            gpu: whether each run takes one.
            most: runs at a time; 0 for no limit.

        Raises:
            MissingExtra: ray is not installed.
        """
        self._ray = _ray()
        self._address, self._mark, self._tell, self._most = address, out.absolute() / MARK, tell, most
        self._needs: dict[str, Any] = {"num_cpus": cores, "num_gpus": int(gpu), "max_retries": 0}
        self._going: dict[Any, Path] = {}

    def outcomes(self, folders: Sequence[Path]) -> Iterator[str]:
        """Does the runs: a sentence of each, as it ends.

        Raises:
            ConfigError: there is no such cluster, or a machine of it does not see the study's folder.
        """
        self._connect()
        shared = Shared(str(Path.cwd()), str(self._mark), secrets.token_hex(16))
        write_text(self._mark, shared.words)
        self._check(shared)
        work = self._ray.remote(**self._needs)(run_here)
        waiting = [folder.absolute() for folder in folders]
        while waiting or self._going:
            while waiting and (not self._most or len(self._going) < self._most):
                folder = waiting.pop(0)
                self._going[work.remote(str(folder), shared)] = folder
            (ended,), _ = self._ray.wait(list(self._going), num_returns=1)
            yield self._outcome(self._going.pop(ended), ended)
        self._leave()

    def stop(self) -> None:
        """Interrupts what is going on, and waits until it has saved."""
        for task in self._going:
            self._ray.cancel(task)
        if self._going:
            self._ray.wait(list(self._going), num_returns=len(self._going))
        self._leave()

    def _connect(self) -> None:
        host, colon, port = self._address.rpartition(":")
        try:
            if colon and port.isdigit():  # Ray asks for minutes where nobody answers
                socket.create_connection((host.rpartition("/")[2], int(port)), _ANSWER).close()
            self._ray.init(address=self._address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ConfigError(
                f"no Ray cluster at '{self._address}' ({reason}): `ray start --head` on one machine and `ray start "
                f"--address HOST:6379` on the others make one"
            ) from error

    def _leave(self) -> None:
        self._mark.unlink(missing_ok=True)
        self._ray.shutdown()

    def _check(self, shared: Shared) -> None:
        """Asks every machine whether it sees the study's folder, before anything is begun."""
        machines = [node for node in self._ray.nodes() if node["Alive"]]
        placed = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        look = self._ray.remote(num_cpus=0, max_retries=0)(Shared.missing)
        asked = [look.options(scheduling_strategy=placed(one["NodeID"], soft=False)).remote(shared) for one in machines]
        for machine, task in zip(machines, asked, strict=True):
            missing, lost = self._answer(task, "")
            if missing or lost:
                why = f"does not see {missing}" if missing else f"cannot do a run ({lost})"
                raise ConfigError(
                    f"{machine['NodeManagerHostname']} {why}: every machine of the cluster needs diptych, and sees the "
                    f"working folder and --out at the same path, on a file system that all share"
                )
        self._tell_size(len(machines))

    def _tell_size(self, machines: int) -> None:
        found = self._ray.cluster_resources()
        cores, gpus = (int(found.get(what, 0)) for what in ("CPU", "GPU"))
        self._tell(f"the cluster has {machines} machine{'s' * (machines > 1)}, {cores} cores and {gpus} GPUs")
        if self._needs["num_gpus"] > gpus or self._needs["num_cpus"] > cores:
            self._tell("that is less than a run takes: the runs wait for a machine that joins")

    def _outcome(self, folder: Path, task: Any) -> str:
        (code, missing), lost = self._answer(task, (1, ""))
        if lost:
            return f"{folder.name} was lost ({lost}): the same command goes on with what it saved"
        if missing:
            return f"{folder.name} was not begun: a machine that joined the cluster does not see {missing}"
        return outcome(folder, code)

    def _answer(self, task: Any, none: Any) -> tuple[Any, str]:
        """What a task returned and "", or `none` and what became of it."""
        try:
            return self._ray.get(task), ""
        except self._ray.exceptions.RayError as error:
            return none, f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtra("ray", "ray", "a study on a cluster") from error
    return ray
