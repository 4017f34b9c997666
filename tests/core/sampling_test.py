"""How texts and pictures are drawn: what is refused, and seeds."""

from collections.abc import Callable

import pytest

from diptych.core.errors import ConfigError
from diptych.core.sampling import ImageSampling, TextSampling, seeds_for

NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ImageSampling(guidance=-1.0), "guidance -1.0 is negative"),
        (lambda: ImageSampling(guidance=NAN), "guidance nan is negative or no number"),
        (lambda: ImageSampling(guidance=INFINITE), "guidance inf"),
        (lambda: ImageSampling(steps=-1), "steps -1"),
        (lambda: ImageSampling(candidates=0), "candidates 0 at least 1"),
        (lambda: ImageSampling(temperature=NAN), "temperature nan"),
        (lambda: TextSampling(0), "max_tokens 0"),
        (lambda: TextSampling(temperature=-0.5), "temperature -0.5"),
        (lambda: TextSampling(top_p=0.0), "top_p 0.0"),
        (lambda: TextSampling(top_p=NAN), "top_p nan"),
        (lambda: TextSampling(beams=2, temperature=1.0), "2 beams are searched, not drawn"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


def test_zero_guidance_and_zero_temperature_are_choices() -> None:
    assert ImageSampling(guidance=0.0).guidance == 0.0
    assert ImageSampling(temperature=0.0).of_codes(4, own=0.7).temperature == 0.0
    assert ImageSampling().of_codes(4, own=0.7).temperature == 0.7


def test_one_seed_becomes_one_for_each_place() -> None:
    first, again, other = seeds_for(3, 5, "texts"), seeds_for(2, 5, "texts"), seeds_for(3, 6, "texts")
    assert first[:2] == again and len(set(first)) == 3 and not set(first) & set(other)
    assert seeds_for(2, [7, 7], "texts") == [7, 7]
    with pytest.raises(ConfigError, match="2 seeds for 1 texts"):
        seeds_for(1, [1, 2], "texts")
