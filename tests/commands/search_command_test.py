"""`diptych search`: what it finds, when its index is made anew, and what is refused."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from colours import ColourEncoder, fill, picture, saved
from torch import Tensor

from diptych.cli import main
from diptych.core.visual import as_image


class ColourJudge(ColourEncoder):
    """Looks at a picture and a text together, and has no vectors."""

    VERBS = ("score_pairs",)
    name = "colour_judge"

    def score_pairs(self, visuals: Sequence[Any], texts: Sequence[str]) -> Tensor:
        encoder = ColourEncoder()
        return (encoder.encode_image(visuals) * encoder.encode_text(texts)).sum(1)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "diptych" / "search"


def found(arguments: Sequence[str], out: Path) -> list[str]:
    """The files of a search, best first."""
    assert main(["search", *arguments, "--out", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    return [row["file"] for row in rows]


def test_words_and_pictures_find_what_looks_like_them(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, model = str(fill(tmp_path / "photos", 3)), saved(ColourEncoder(), tmp_path / "model")
    out, page = tmp_path / "out.jsonl", tmp_path / "page.html"
    by_words = found([photos, "--model", model, "something <green>", "--top", "3", "--html", str(page)], out)
    assert sorted(by_words) == [f"green/{index:03d}.png" for index in range(3)]
    said = capsys.readouterr().out
    assert "9 new" in said.replace("\n", " ") and len(list(cache.iterdir())) == 1
    assert page.read_text().count("data:image/jpeg") == 3 and "something &lt;green&gt;" in page.read_text()
    picture("blue", 50).save(tmp_path / "like.png")
    arguments = [photos, "--model", model, "--picture", str(tmp_path / "like.png"), "--top", "3", "--html", str(page)]
    assert sorted(found(arguments, out)) == [f"blue/{index:03d}.png" for index in range(3)]
    assert page.read_text().count("data:image/jpeg") == 4
    assert "0 new, 0 changed" in capsys.readouterr().out.replace("\n", " ")


def test_another_model_in_the_same_place_makes_the_cache_anew_and_not_one_s_own(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, model = str(fill(tmp_path / "photos", 1)), saved(ColourEncoder(), tmp_path / "model")
    own = ["--index", str(tmp_path / "own")]
    for more in ([], own):
        assert main(["search", photos, "red", "--model", model, *more]) == 0
    changed = ColourEncoder()
    with torch.no_grad():
        changed.module.weight.copy_(-torch.eye(3))
    (tmp_path / "model").rename(tmp_path / "before")
    saved(changed, tmp_path / "model")
    capsys.readouterr()
    out = tmp_path / "out.jsonl"
    assert found([photos, "red", "--model", model], out)[-1] == "red/000.png"
    assert "is the index of another model" in capsys.readouterr().out.replace("\n", " ")
    assert main(["search", photos, "red", "--model", model, *own]) == 2
    assert "--rebuild makes it anew" in capsys.readouterr().err
    assert found([photos, "red", "--model", model, *own, "--rebuild"], out)[-1] == "red/000.png"
    assert len(list(cache.iterdir())) == 1 and len(list((tmp_path / "own").iterdir())) == 2


def test_a_model_without_vectors_scores_every_picture(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, model = fill(tmp_path / "photos", 2), saved(ColourJudge(), tmp_path / "model")
    keys = [path.relative_to(photos).as_posix() for path in sorted(photos.rglob("*.png"))]
    scores = ColourJudge().score_pairs([as_image(photos / key) for key in keys], ["red"] * 6)
    expected = [keys[place] for place in scores.argsort(descending=True).tolist()]
    assert found([str(photos), "red", "--model", model, "--top", "4"], tmp_path / "out.jsonl") == expected[:4]
    assert "has no vectors to keep" in capsys.readouterr().out and not cache.exists()
    assert main(["search", str(photos), "--model", model, "--picture", str(photos / keys[0])]) == 2
    said = capsys.readouterr().err
    assert "colour_judge has no verb 'encode_image'" in said and "models that have it: " in said and "clip" in said


def test_there_is_one_thing_to_search_for(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = fill(tmp_path / "photos", 1)
    one = str(photos / "red" / "000.png")
    for query, sentence in (
        ([], "give a query, or --picture FILE"),
        (["red", "--picture", one], "give a query, or --picture FILE"),
        ([" "], "the query is empty"),
        (["--picture", "none.png"], "no picture at none.png"),
        (["red", "--top", "0"], "--top 0 must be at least 1"),
    ):
        assert main(["search", str(photos), *query, "--model", "no/model"]) == 2
        said = capsys.readouterr().err
        assert sentence in said and said.count("\n") == 1
    assert not cache.exists()
