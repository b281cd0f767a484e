"""What is asked of the network and what comes back: tasks, their wording, and which expert answers. Imports no torch.

Wording follows the paper (section 10 of its supplement) and the authors' demo. The task token is plain text, not an
entry of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

from vlm.text_box import Percent


class Granularity(IntEnum):
    """Which of the three experts answers; the integer indexes the expert list of every decoder layer."""

    IMAGE = 0
    REGION = 1
    PIXEL = 2


class Task(StrEnum):
    """One kind of question the network was trained on."""

    CAPTION = "caption"
    QUESTION = "question"
    CLASSIFY = "classify"
    DESCRIBE_CHANGE = "describe_change"
    GROUND = "ground"
    DESCRIBE_REGION = "describe_region"
    SEGMENT = "segment"
    SEGMENT_CHANGE = "segment_change"


@dataclass(frozen=True)
class TaskFacts:
    """What is fixed about a task: its token in the prompt, its expert, how many images it takes, its wordings.

    The first wording is the one that inference uses; training draws from all of them. `{}` stands for the query's text.
    """

    token: str
    granularity: Granularity
    images: int
    wordings: tuple[str, ...]


_CHANGE_WORDINGS = (
    "Please briefly describe the changes in these two images.",
    "What are the differences between these two images?",
    "Can you describe the key changes in the second image compared to the first?",
    "What visual changes can be observed between the two images?",
    "Highlight the main differences between the two images.",
    "What has been altered in the second image compared to the first one?",
    "Describe any noticeable transformations in these images.",
    "What specific details have changed from the first image to the second?",
    "Point out the adjustments made between these two images.",
    "What are the most significant changes visible in the images?",
)

TASKS: dict[Task, TaskFacts] = {
    Task.CAPTION: TaskFacts("[CAP]", Granularity.IMAGE, 1, ("Describe this image briefly.",)),
    Task.QUESTION: TaskFacts("[VQA]", Granularity.IMAGE, 1, ("{}",)),
    Task.CLASSIFY: TaskFacts(
        "[CLS]",
        Granularity.IMAGE,
        1,
        ("Choose the best category describe the image from: {}. Only output the category.",),
    ),
    Task.DESCRIBE_CHANGE: TaskFacts("[CCD]", Granularity.IMAGE, 2, _CHANGE_WORDINGS),
    Task.GROUND: TaskFacts("[VG]", Granularity.REGION, 1, ("{}",)),
    Task.DESCRIBE_REGION: TaskFacts("[REF]", Granularity.REGION, 1, ("what is {}?",)),
    Task.SEGMENT: TaskFacts(
        "[SEG]",
        Granularity.PIXEL,
        1,
        (
            "Please segment the {} in this image.",
            "Can you segment the {} in this image?",
            "What is {} in this image? Please respond with segmentation mask.",
            "What is {} in this image? Please output segmentation mask.",
        ),
    ),
    Task.SEGMENT_CHANGE: TaskFacts(
        "[SEG]",
        Granularity.PIXEL,
        2,
        ("Please segment the {} area in the images that have changed in the second image.",),
    ),
}


@dataclass(frozen=True)
class Query:
    """One request to the network.

    images: one or two RGB images (PIL images, or uint8 arrays of shape (height, width, 3)); `before` first.
    text: what fills the wording: the question, the object sought, the class name, the box as text, the category names
        joined with ", "; for a caption nothing, or the name of its scene, where the network was taught with names;
        empty for a description of changes.
    labels: the answers the grammar may write: the class names of a mask (without "others"), or the categories of a
        classification; empty leaves the answer free.
    wording: which of the task's wordings to use.
    granularity: overrides the task's expert, as the reference permits.
    """

    task: Task
    images: tuple[Any, ...]
    text: str = ""
    labels: tuple[str, ...] = ()
    wording: int = 0
    granularity: Granularity | None = None

    def __post_init__(self) -> None:
        wanted = TASKS[self.task].images
        if len(self.images) != wanted:
            raise ValueError(f"{self.task} takes {wanted} image(s), not {len(self.images)}: pass them in `images`")

    @property
    def expert(self) -> Granularity:
        """The expert that answers: the override if there is one, else the task's own."""
        return TASKS[self.task].granularity if self.granularity is None else self.granularity

    @property
    def message(self) -> str:
        """Task token and wording, without the image placeholders: `[SEG] Please segment the water in this image.`"""
        facts = TASKS[self.task]
        message = f"{facts.token} {facts.wordings[self.wording].replace('{}', self.text)}"
        return f"{message} {self.text}" if self.task == Task.CAPTION and self.text else message


class TooLong(ValueError):
    """A query that is longer than the network can read; the text says by how much, and what to do."""


@dataclass(frozen=True)
class Answer:
    """What the network wrote, and how sure it was.

    confidence: in 0..1, from the probabilities of the answer's tokens; None when the model cannot say.
    finished: False when the answer was cut at the token limit.
    each: of an answer of boxes, the confidence of each, in their order; of a mask, how likely each cell, or each of as
    many equal parts a side of every cell, is of the class, row by row over the image; () when the model cannot say.
    boxes: where boxes are asked for, all that the model considered, those that the text tells among them: left, top,
    right, bottom in percent, not rounded, and how likely such an object is there, the likeliest first; None when the
    model cannot say.
    """

    text: str
    confidence: float | None = None
    finished: bool = True
    each: tuple[float, ...] = ()
    boxes: tuple[tuple[Percent, float], ...] | None = None


PLACEHOLDER = "<image>"
ANY_CHANGE = "change"
"""What stands for a class where change of any kind is meant."""
SYSTEM = "You are a helpful assistant."


def granularity_of(message: str) -> Granularity:
    """The reference's rule on raw text: `[SEG]` anywhere is pixel, else `[VG]` or `[REF]` region, else image."""
    if "[SEG]" in message:
        return Granularity.PIXEL
    if "[VG]" in message or "[REF]" in message:
        return Granularity.REGION
    return Granularity.IMAGE


def chat_prompt(message: str, images: int) -> str:
    """The ChatML prompt of the reference for one user turn with `images` placeholders joined by one space."""
    question = f"{' '.join([PLACEHOLDER] * images)}\n{message}" if images else message
    return f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def list_categories(names: Sequence[str]) -> str:
    """Category names as the classification wording lists them; `Query.labels` carries the same names."""
    return ", ".join(names)


def means_one(text: str) -> bool:
    """Whether the name of what is sought means one object ("the leftmost ship") and not all of a class ("ship")."""
    return text.strip().lower().startswith("the ")
