"""METEOR through Java, where it is there; a sentence where it is not."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from diptych.core.errors import DataError, DiptychError, MissingExtra
from diptych.evaluation.metrics import caption_java
from diptych.evaluation.metrics.caption_java import meteor, spice

JAVA = shutil.which("java") is not None and find_spec("pycocoevalcap") is not None
needs_java = pytest.mark.skipif(not JAVA, reason="needs Java and pycocoevalcap")


@pytest.mark.slow
@needs_java
def test_meteor_of_tokens_is_the_servers() -> None:
    # What pycocoevalcap 1.2 gives for the tokens of these, without punctuation.
    score, each = meteor(["A dog runs fast!", "Cats are sitting."], [["a dog runs"], ["Two cats sit on a mat"]])
    assert score == pytest.approx(0.25543832193707244, abs=1e-12)
    assert each.tolist() == pytest.approx([0.48704502558483637, 0.10666666666666667], abs=1e-12)


@needs_java
def test_bad_input_is_said() -> None:
    with pytest.raises(DataError, match="1 candidates, 2 pictures, 1 of them without a reference"):
        meteor(["a"], [["a"], []])


@pytest.mark.parametrize("metric", [meteor, spice])
def test_what_is_missing_is_said(metric: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_java, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"needs pycocoevalcap: pip install 'diptych\[captions\]'"):
        metric(["a"], [["a"]])  # type: ignore[operator]
    monkeypatch.setattr(caption_java, "find_spec", lambda name: object())
    monkeypatch.setattr(caption_java.shutil, "which", lambda name: None)
    with pytest.raises(DiptychError, match="program in Java, which is not there: install a Java runtime"):
        metric(["a"], [["a"]])  # type: ignore[operator]


def test_spice_says_what_to_fetch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Module:
        __file__ = str(tmp_path / "spice.py")

    monkeypatch.setattr(caption_java, "_module", lambda metric, name: Module)
    with pytest.raises(DiptychError, match=r"python -m pycocoevalcap\.spice\.get_stanford_models fetches it"):
        spice(["a"], [["a"]])
