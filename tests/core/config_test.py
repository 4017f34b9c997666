from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

import pytest

from diptych.core.config import from_plain, to_plain
from diptych.core.errors import ConfigError


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    width: int = 3
    rate: float = 0.5


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[int, str] = (1, "a")
    maybe: Inner | None = None
    kind: Literal["a", "b"] = "a"
    colour: Colour = Colour.RED
    where: Path = Path("x")
    table: dict[str, float] = None  # type: ignore[assignment]


FULL = Outer(Inner(5, 1.0), (4, 5, 6), (2, "b"), Inner(7), "b", Colour.RED, Path("y/z"), {"k": 1.5})


def test_what_is_written_is_read_back() -> None:
    plain = to_plain(FULL)
    assert plain["inner"] == {"width": 5, "rate": 1.0}
    assert from_plain(Outer, plain) == FULL


def test_an_integer_is_a_float_but_a_boolean_is_no_integer() -> None:
    assert from_plain(Inner, {"rate": 2}) == Inner(rate=2.0)
    with pytest.raises(ConfigError, match=r"width: expected int, got True"):
        from_plain(Inner, {"width": True})


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"inner": {"widht": 3}}, "'widht': did you mean 'width'"),
        ({"inner": 3}, "inner: expected fields of Inner"),
        ({"kind": "c"}, "value of kind 'c'"),
        ({"maybe": {"rate": "fast"}}, "maybe"),
        ({"sizes": [1, "two"]}, r"sizes\[1\]: expected int"),
    ],
)
def test_a_mistake_is_named_with_its_place(plain: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_plain(Outer, plain)


def test_what_has_no_plain_form_is_refused() -> None:
    with pytest.raises(TypeError, match="object has no place"):
        to_plain(object())
