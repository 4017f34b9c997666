"""Questions about what a prompt says, as a graph: a question counts only where those that it rests on are right.

TIFA (Hu et al. 2023, arXiv 2303.11897) asks questions made of a prompt, and counts the right answers. DSG (Cho et al.
2023, arXiv 2310.18235) orders them: whether the circle is red rests on there being a circle, so a picture without one
gets nothing for its colour, whatever an answerer says of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from diptych.data.scenes.captions import number_word, with_article
from diptych.data.scenes.world import COLOURS, SceneObject
from diptych.evaluation.generation.scene_agreement import related
from diptych.evaluation.generation.scene_prompts import ScenePrompt

YES_NO = ("yes", "no")
NUMBERS = tuple(number_word(n) for n in range(9))
KINDS = ("object", "colour", "relation", "count")


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        answer: what the prompt says.
        choices: what an answerer chooses from.
        parents: positions of the questions that must be right for this one to count.
        about: shape; shape and colour; first name, relation, second name; or nothing, for the number of objects.
    """

    kind: str
    text: str
    answer: str
    choices: tuple[str, ...]
    parents: tuple[int, ...] = ()
    about: tuple[str, ...] = ()


def questions_of(prompt: ScenePrompt) -> tuple[Question, ...]:
    """The questions of a prompt, parents first: each shape, its colour, each relation of these, how many there are.

    What is named twice is asked once. The colour of a shape that is named in several colours is asked of each.
    """
    shapes = list(dict.fromkeys(one.shape for one in prompt.objects))
    found = [Question("object", f"is there {with_article(shape)}?", "yes", YES_NO, (), (shape,)) for shape in shapes]
    for name, one in {one.name: one for one in prompt.objects}.items():
        found.append(_colour(name, one, prompt, shapes.index(one.shape)))
    for first, relation, second in prompt.relations:
        parents = tuple(dict.fromkeys((shapes.index(first.shape), shapes.index(second.shape))))
        text = f"is there {with_article(first.name)} {relation} {with_article(second.name)}?"
        found.append(Question("relation", text, "yes", YES_NO, parents, (first.name, relation, second.name)))
    if prompt.counts:
        answer = number_word(len(prompt.objects))
        found.append(Question("count", "how many objects are there?", answer, NUMBERS))
    return tuple(found)


def _colour(name: str, one: SceneObject, prompt: ScenePrompt, parent: int) -> Question:
    if len({other.name for other in prompt.objects if other.shape == one.shape}) > 1:
        text = f"is there {with_article(name)}?"
        return Question("colour", text, "yes", YES_NO, (parent,), (one.shape, one.colour))
    text = f"what colour is the {one.shape}?"
    return Question("colour", text, one.colour, tuple(COLOURS), (parent,), (one.shape, one.colour))


def recognised_answer(question: Question, seen: Sequence[SceneObject]) -> str:
    """What the objects that a recogniser found say; "" where there is nothing to say it of.

    The colour of a shape that it found several times is that of the first, in reading order.
    """
    if question.kind == "count":
        return number_word(len(seen)) if len(seen) < len(NUMBERS) else ""
    if question.kind == "relation":
        first, relation, second = question.about
        return _yes(related(first, relation, second, seen))
    of_shape = [one.colour for one in seen if one.shape == question.about[0]]
    if question.kind == "object":
        return _yes(bool(of_shape))
    if question.choices == YES_NO:
        return _yes(question.about[1] in of_shape)
    return of_shape[0] if of_shape else ""


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"


@dataclass(frozen=True)
class Graded:
    """What the answers to a prompt's questions are worth.

    Attributes:
        tifa: the share of right answers.
        dsg: the share of right answers among whose parents, and theirs, all are right too.
        right: of each kind of question the share of right answers.
    """

    tifa: float
    dsg: float
    right: dict[str, float]


def graded(questions: Sequence[Question], answers: Sequence[str]) -> Graded:
    """Holds answers against what the prompt says, ignoring case and surrounding space."""
    right = [answer.strip().lower() == question.answer for question, answer in zip(questions, answers, strict=True)]
    counted: list[bool] = []
    for question, is_right in zip(questions, right, strict=True):
        counted.append(is_right and all(counted[parent] for parent in question.parents))
    asked = Counter(question.kind for question in questions)
    hits = Counter(question.kind for question, is_right in zip(questions, right, strict=True) if is_right)
    return Graded(
        sum(right) / len(right), sum(counted) / len(counted), {kind: hits[kind] / asked[kind] for kind in asked}
    )
