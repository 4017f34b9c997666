"""Writes the lists of keys that part data without a training split of their own into training and test pictures.

    python benchmarks/make_key_lists.py --data PATH      # the folder that holds caltech101/ and fashion_mnist/

A key is a test key when its hash falls below 0.3: the rule by which linear_probe and knn part such data, so
that `--data caltech101` alone and the lists named one by one give the same parts. fashion_mnist is the official
test split only; whoever has its official training split uses that.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from diptych.core.source import Source
from diptych.data.derived.subset import hash_split
from diptych.data.open import open_source
from diptych.evaluation.probing import TEST_SALT

KEYS = Path(__file__).parent / "keys"
SETS = ("caltech101", "fashion_mnist")
TEST_SHARE = 0.3


def key_lists(source: Source) -> dict[str, str]:
    """The text of each part's file; keys in order of the alphabet."""
    train, test = hash_split(source, TEST_SHARE, TEST_SALT)
    return {
        name: "".join(f"{key}\n" for key in sorted(part.keys())) for name, part in (("train", train), ("test", test))
    }


def main() -> None:
    """Writes every list and prints its length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the sets")
    folder = parser.parse_args().data
    KEYS.mkdir(exist_ok=True)
    for name in SETS:
        for part, text in key_lists(open_source(str(folder / name))).items():
            (KEYS / f"{name}-{part}.txt").write_text(text, encoding="utf-8")
            print(f"{name}-{part}: {text.count(chr(10)):,} keys")


if __name__ == "__main__":
    main()
