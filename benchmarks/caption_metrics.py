"""Caption metrics on the same tokens: diptych beside pycocoevalcap, the COCO server's own code.

python benchmarks/caption_metrics.py --out benchmarks/results/caption_metrics.json

Without --captions the sentences are made up: a few thousand words, the frequent ones frequent, 8 to 14 words each. With
it they are those of a file of Flickr8k's form ("picture#number<TAB>caption" a line), the candidates those of other
pictures and of the picture itself in turns. Both sides are given tokens with blanks between, so that neither tokenizes.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from _measure import alternate, arguments, peer, show, write
from diptych.evaluation.metrics.captioning import BLEU_NAMES, caption_scores
from diptych.evaluation.metrics.ptb_tokenizer import ptb_tokens

REFERENCES = 5


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--captions", type=Path, help="a file of captions; made up when left out")
    parser.set_defaults(repetitions=3)
    options = parser.parse_args()
    said = _read(options.captions, options.pictures) if options.captions else _made_up(options.pictures)
    said, references = _candidates(said)
    ours = caption_scores(said, references, str.split)
    scorers = _scorers()
    theirs = _values(scorers, said, references)
    apart = max(abs(ours[name] - theirs[name]) for name in theirs)
    print(f"{len(said)} pictures, furthest apart of {', '.join(theirs)}: {apart:.1e}")
    sides: dict[str, Callable[[], object]] = {"diptych": lambda: caption_scores(said, references, str.split)}
    sides |= {
        f"pycocoevalcap {name}": lambda run=run: run(*_official(said, references)) for name, run in scorers.items()
    }
    seconds = {name: statistics.median(times) for name, times in alternate(sides, options.repetitions).items()}
    total = sum(time for name, time in seconds.items() if name != "diptych")
    rows: list[dict[str, Any]] = [{"side": name, "seconds": time} for name, time in seconds.items()]
    rows += [{"side": "pycocoevalcap, all three", "seconds": total, "ratio": total / seconds["diptych"]}]
    show(f"{len(said)} pictures with {REFERENCES} references each", rows)
    peers = {"pycocoevalcap": version("pycocoevalcap")}
    write(options.out, rows, pictures=len(said), references=REFERENCES, furthest_apart=apart, peers=peers)


def _scorers() -> dict[str, Callable[..., Any]]:
    """The official scorers: references and candidates by picture -> the score of the corpus, and of each."""
    package = "pycocoevalcap"
    bleu = peer("pycocoevalcap.bleu.bleu", package).Bleu(4)
    return {
        "BLEU": lambda truth, result: bleu.compute_score(truth, result, verbose=0),
        "ROUGE-L": peer("pycocoevalcap.rouge.rouge", package).Rouge().compute_score,
        "CIDEr-D": peer("pycocoevalcap.cider.cider", package).Cider().compute_score,
    }


def _values(scorers: dict[str, Callable[..., Any]], said: list[str], references: list[list[str]]) -> dict[str, float]:
    found = {name: run(*_official(said, references))[0] for name, run in scorers.items()}
    bleu = dict(zip(BLEU_NAMES, found["BLEU"], strict=True))
    return bleu | {"rouge_l": float(found["ROUGE-L"]), "cider": float(found["CIDEr-D"])}


def _official(said: list[str], references: list[list[str]]) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    return dict(enumerate(references)), {index: [text] for index, text in enumerate(said)}


def _made_up(pictures: int) -> list[list[str]]:
    draw = random.Random(0)
    words = [f"w{rank}" for rank in range(5000)]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    return [
        [" ".join(draw.choices(words, weights, k=draw.randint(8, 14))) for _ in range(REFERENCES)]
        for _ in range(pictures)
    ]


def _read(file: Path, pictures: int) -> list[list[str]]:
    """The captions of the first pictures that have all of their references."""
    found: dict[str, list[str]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        name, _, caption = line.partition("\t")
        found.setdefault(name.partition("#")[0], []).append(" ".join(ptb_tokens(caption)))
    return [said for said in found.values() if len(said) == REFERENCES and all(said)][:pictures]


def _candidates(said: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Every third picture is given a caption of its own with the middle left out, the others that of another one."""
    candidates = []
    for index, own in enumerate(said):
        words = own[0].split()
        cut = " ".join(words[: len(words) // 2] + words[len(words) // 2 + 2 :]) or own[0]
        candidates.append(said[(7 * index + 3) % len(said)][1] if index % 3 else cut)
    return candidates, said


if __name__ == "__main__":
    main()
