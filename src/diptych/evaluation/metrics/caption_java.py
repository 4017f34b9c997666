"""METEOR and SPICE, which are programs in Java: through pycocoevalcap, on our tokens.

(Denkowski and Lavie 2014; Anderson et al. 2016, arXiv 1607.08822.) N pictures.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from diptych.core.errors import DataError, DiptychError, MissingExtra
from diptych.evaluation.metrics.captioning import Tokenize
from diptych.evaluation.metrics.ptb_tokenizer import ptb_tokens

_SPICE_MODELS = "stanford-corenlp-3.6.0-models.jar"
_Said = dict[int, list[str]]


def meteor(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokenize: Tokenize = ptb_tokens
) -> tuple[float, NDArray[np.float64]]:
    """METEOR 1.5 of a corpus, which is not the mean of its captions, and of each caption [N]; 0 to 1.

    Raises:
        MissingExtra: pycocoevalcap is not installed.
        DiptychError: there is no Java.
        DataError: not one candidate a picture, or a picture without references.
    """
    scorer = _module("METEOR", "pycocoevalcap.meteor.meteor").Meteor()
    truth, result = _official(candidates, references, tokenize)
    score, each = scorer.compute_score(truth, result)
    return float(score), np.array(each, np.float64)


def spice(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokenize: Tokenize = ptb_tokens
) -> NDArray[np.float64]:
    """SPICE of each caption [N], 0 to 1; of a corpus it is their mean.

    Raises:
        MissingExtra: pycocoevalcap is not installed.
        DiptychError: there is no Java, or no parser, which is fetched apart.
        DataError: not one candidate a picture, or a picture without references.
    """
    module = _module("SPICE", "pycocoevalcap.spice.spice")
    if not (Path(str(module.__file__)).parent / "lib" / _SPICE_MODELS).is_file():
        raise DiptychError(
            "SPICE needs the parser of Stanford CoreNLP 3.6.0 (400 MB): "
            "python -m pycocoevalcap.spice.get_stanford_models fetches it"
        )
    truth, result = _official(candidates, references, tokenize)
    _, each = module.Spice().compute_score(truth, result)
    return np.array([one["All"]["f"] for one in each], np.float64)


def _module(metric: str, name: str) -> ModuleType:
    """The scorer's module, if it could run."""
    if find_spec("pycocoevalcap") is None:
        raise MissingExtra("pycocoevalcap", "captions", metric)
    if shutil.which("java") is None:
        raise DiptychError(f"{metric} is a program in Java, which is not there: install a Java runtime, 8 or later")
    return importlib.import_module(name)


def _official(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokenize: Tokenize
) -> tuple[_Said, _Said]:
    """References and candidates as the server's scorers take them: tokens with a blank between, by picture."""
    if len(candidates) != len(references) or not all(references):
        raise DataError(
            f"{len(candidates)} candidates, {len(references)} pictures, {sum(not said for said in references)} of them "
            f"without a reference: give one caption a picture, and each picture one reference or more"
        )
    truth = {index: [" ".join(tokenize(text)) for text in said] for index, said in enumerate(references)}
    return truth, {index: [" ".join(tokenize(text))] for index, text in enumerate(candidates)}
