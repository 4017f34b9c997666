"""What a user can get wrong, each as one sentence: what was wrong, where, and what to do about it.

The command line prints the sentence of a `DiptychError` and exits with code 2; anything else is a bug and shows its
traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class DiptychError(Exception):
    """A mistake of the user's, with a sentence to act on."""


class ConfigError(DiptychError):
    """A configuration that cannot be run."""


class DataError(DiptychError):
    """Data that cannot be found or read, or too many bad records."""


class CheckpointError(DiptychError):
    """A checkpoint or model folder that is truncated, of another model, or not one at all."""


class StorageError(DiptychError):
    """A disk that is full or a folder that cannot be written."""


class DeviceError(DiptychError):
    """A device that is not there."""


class MissingExtra(DiptychError):
    """An optional dependency that is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}: pip install 'diptych[{extra}]'")


class MissingVerb(DiptychError):
    """A model asked for something it does not offer; the sentence names what it does, and how else to have it."""

    def __init__(self, model: str, verb: str, offered: Iterable[str], instead: str = "") -> None:
        self.verb = verb
        offers = f"{model} has no verb '{verb}': it offers {', '.join(sorted(offered)) or 'none'}"
        super().__init__(f"{offers}; {instead}" if instead else offers)


class NotComparable(DiptychError):
    """A score used for a comparison that it does not support."""


class TextTooLong(DiptychError):
    """A text that must be read whole, and has more tokens than the model takes."""


class NotANumber(DiptychError):
    """A model that answers NaN, which no comparison can rank: its weights have diverged or are damaged."""


class TrainingDiverged(DiptychError):
    """A loss that is not finite; raised before the optimizer sees it."""


class ProcessLost(DiptychError):
    """Another process of the run is gone or has stopped; the sentence says which, and why where it is known."""


class Interrupted(BaseException):
    """Training stopped for a signal after its state was saved.

    Like KeyboardInterrupt it is nobody's mistake, so no handler of errors catches it.

    Attributes:
        exit_code: 128 plus the signal's number, as shells expect.
    """

    def __init__(self, signal_name: str, signal_number: int, saved: str) -> None:
        self.exit_code = 128 + signal_number
        super().__init__(f"stopped by {signal_name}; saved {saved}: go on with --resume latest")


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for a name nobody knows, with the nearest known one.

    Args:
        kind: what was looked for, in the singular ("recipe").
        name: what the user wrote.
        known: every name that would have worked.
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names) or 'none'}"
    return ConfigError(f"unknown {kind} '{name}': {hint}")
