"""One conversation about a picture for each of several tasks, told apart by an identifier before what is asked.

MiniGPT-v2 (Chen et al. 2023, arXiv 2310.09478, section 2.2): "[vqa]" answers a question, "[caption]" says what is seen,
"[refer]" gives the box of a phrase, "[identify]" the phrase of a box, "[grounding]" says what is seen with a box behind
every phrase. What a sample can be asked follows from what is known of it: its conversation, its captions, its boxes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from diptych.core.errors import ConfigError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample, Turn
from diptych.core.seeding import hash_to_int
from diptych.core.source import Source
from diptych.core.visual import Image
from diptych.data.pixels.decode import decode
from diptych.data.words.box_text import Hundredths, hundredths, named_box

TaskName = Literal["vqa", "caption", "refer", "identify", "grounding"]
TASKS: tuple[TaskName, ...] = ("vqa", "caption", "refer", "identify", "grounding")
DESCRIBE = "describe the picture"
"""What "[caption]" and "[grounding]" both ask: only the identifier tells them apart."""


def asked(task: TaskName, what: str) -> str:
    """ "[refer] red circle"."""
    return f"[{task}] {what}"


@dataclass(frozen=True)
class TaskTurns:
    """A source in which every sample is a conversation of one task, by a hash of its key.

    Attributes:
        whole: the source.
        tasks: a task named twice has twice the share, among the samples that can be asked it.
        rounds: how often each sample comes, with a task of its own each time.

    Raises:
        ConfigError: no task, or no round.
    """

    whole: Source
    tasks: tuple[TaskName, ...] = TASKS
    rounds: int = 1

    def __post_init__(self) -> None:
        if not self.tasks or self.rounds < 1:
            raise ConfigError(f"{len(self.tasks)} tasks in {self.rounds} rounds are nothing to train on")

    @property
    def name(self) -> str:
        return f"{self.whole.name}, a task each"

    def __len__(self) -> int:
        return len(self.whole) * self.rounds

    def keys(self) -> Sequence[str]:
        own = self.whole.keys()
        return [self._key(key, number) for number in range(self.rounds) for key in own]

    def fingerprint(self) -> str:
        return f"{hash_to_int(self.whole.fingerprint(), 'tasks', *self.tasks, self.rounds):016x}"

    def __getitem__(self, index: int) -> Sample:
        """Raises BadSample where a box is bad, or the sample can be asked nothing."""
        number, place = divmod(index, len(self.whole))
        sample = self.whole[place]
        return with_task(replace(sample, key=self._key(sample.key, number)), self.tasks)

    def _key(self, key: str, number: int) -> str:
        return f"{key}#{number}" if number else key


def with_task(sample: Sample, tasks: Sequence[TaskName]) -> Sample:
    """The sample as a conversation of one of the tasks.

    Raises:
        BadSample: "bad box", or "no task": nothing is known of it that one of the tasks asks.
    """
    offered = conversations(sample)
    possible = [task for task in tasks if offered.get(task)]
    if not possible:
        raise BadSample(sample.key, "no task", f"it has nothing that {', '.join(sorted(set(tasks)))} asks")
    task = possible[hash_to_int("task", sample.key) % len(possible)]
    turns = offered[task][hash_to_int("turns", sample.key) % len(offered[task])]
    return replace(sample, turns=turns)


def conversations(sample: Sample) -> dict[TaskName, list[tuple[Turn, ...]]]:
    """Every conversation that a sample offers, by task; none where it has nothing for it.

    Raises:
        BadSample: a box is out of order, without area or outside the picture.
    """
    phrases = phrases_of(sample)
    return {
        "vqa": _questions(sample),
        "caption": [_talk("caption", DESCRIBE, text) for text in sample.texts if text.strip()],
        "refer": [_talk("refer", phrase, box.text()) for phrase, box in phrases.items()],
        "identify": [_talk("identify", box.text(), phrase) for phrase, box in phrases.items()],
        "grounding": [_talk("grounding", DESCRIBE, text) for text in grounded(sample.texts, phrases)],
    }


def phrases_of(sample: Sample) -> dict[str, Hundredths]:
    """The boxes by what is there; what is there twice cannot be referred to.

    Raises:
        BadSample: as for `conversations`.
    """
    if not sample.boxes or not sample.visuals or not isinstance(sample.visuals[0], Image):
        return {}
    height, width = decode(sample.visuals[0], sample.key).shape[:2]
    boxes = [(box.label.strip(), hundredths(box, width, height, sample.key)) for box in sample.boxes]
    once = Counter(label for label, _ in boxes)
    return {label: box for label, box in boxes if label and once[label] == 1}


def grounded(texts: Sequence[str], phrases: Mapping[str, Hundredths]) -> list[str]:
    """The captions that name every phrase once, with its box behind it."""
    if not phrases:
        return []
    longest_first = sorted(phrases, key=len, reverse=True)  # "red circle" is not found inside "large red circle"
    pattern = re.compile("|".join(map(re.escape, longest_first)))
    named = [text for text in texts if sorted(pattern.findall(text)) == sorted(phrases)]
    return [pattern.sub(lambda match: named_box(match[0], phrases[match[0]]), text) for text in named]


def _questions(sample: Sample) -> list[tuple[Turn, ...]]:
    """The sample's own conversation, where somebody asks and is answered."""
    turns = sample.turns
    if len(turns) < 2 or turns[0].role != "user" or turns[1].role != "assistant":
        return []
    return [(replace(turns[0], text=asked("vqa", turns[0].text)), *turns[1:])]


def _talk(task: TaskName, question: str, answer: str) -> tuple[Turn, ...]:
    return Turn("user", asked(task, question)), Turn("assistant", answer)
