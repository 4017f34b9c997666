import pytest

from diptych.core.errors import DataError
from diptych.evaluation.metrics.relaxed_accuracy import relaxed_accuracy


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("100", "100", 1), ("105", "100", 1), ("95", "100", 1), ("105.1", "100", 0), ("94.9", "100", 0),
        ("-105", "-100", 1), ("105", "-100", 0), ("10%", "0.1", 1), ("10", "10%", 0), ("10.4%", "10%", 1),
        ("0", "0", 1), ("0.0", "0", 0), ("Yes ", "yes", 1), ("2,000", "2000", 0), ("blue", "red", 0), ("", "5", 0),
        ("nan", "nan", 1), ("inf", "5", 0),
    ],
)  # fmt: skip
def test_known_cases(answer: str, reference: str, right: float) -> None:
    assert relaxed_accuracy(answer, [reference]) == right
    assert relaxed_accuracy(answer, ["another", reference]) == right


def test_without_a_reference() -> None:
    with pytest.raises(DataError, match="without a single reference"):
        relaxed_accuracy("1", [])
