"""What nearly every predictor is made of: the sizes of a model, its processor and its module."""

from __future__ import annotations

from typing import Generic, TypeVar

from torch import nn

from diptych.capabilities.predictor import Predictor
from diptych.core.config import ModelConfig

ConfigT = TypeVar("ConfigT", bound=ModelConfig)
ProcessorT = TypeVar("ProcessorT")
ModelT = TypeVar("ModelT", bound=nn.Module)


class ModelPredictor(Predictor, Generic[ConfigT, ProcessorT, ModelT]):
    """A module of ours behind its processor.

    Args:
        config: from which the module was built.
        processor: of what it reads, with the settings that it was trained with.
        module: in evaluation mode.
        name: what reports call it.
    """

    module: ModelT

    def __init__(self, config: ConfigT, processor: ProcessorT, module: ModelT, name: str) -> None:
        self.config = config
        self.processor = processor
        self.module = module
        self.name = name
