"""Wording after section 10 of the paper's supplement and the messages of the authors' demo."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm.prompts import (
    PLACEHOLDER,
    TASKS,
    Granularity,
    Query,
    Task,
    chat_prompt,
    granularity_of,
    list_categories,
)

PAPER = {
    (Task.CLASSIFY, "airport, beach"): [
        "[CLS] Choose the best category describe the image from: airport, beach. Only output the category."
    ],
    (Task.QUESTION, "How many basketball courts?"): ["[VQA] How many basketball courts?"],
    (Task.GROUND, "Where is the windmill?"): ["[VG] Where is the windmill?"],
    (Task.DESCRIBE_REGION, "[1, 20, 9, 30]"): ["[REF] what is [1, 20, 9, 30]?"],
    (Task.CAPTION, ""): ["[CAP] Describe this image briefly."],
    (Task.SEGMENT, "water"): [
        "[SEG] Please segment the water in this image.",
        "[SEG] Can you segment the water in this image?",
        "[SEG] What is water in this image? Please respond with segmentation mask.",
        "[SEG] What is water in this image? Please output segmentation mask.",
    ],
    (Task.DESCRIBE_CHANGE, ""): [
        "[CCD] Please briefly describe the changes in these two images.",
        "[CCD] What are the differences between these two images?",
        "[CCD] Can you describe the key changes in the second image compared to the first?",
        "[CCD] What visual changes can be observed between the two images?",
        "[CCD] Highlight the main differences between the two images.",
        "[CCD] What has been altered in the second image compared to the first one?",
        "[CCD] Describe any noticeable transformations in these images.",
        "[CCD] What specific details have changed from the first image to the second?",
        "[CCD] Point out the adjustments made between these two images.",
        "[CCD] What are the most significant changes visible in the images?",
    ],
    (Task.SEGMENT_CHANGE, "building"): [
        "[SEG] Please segment the building area in the images that have changed in the second image."
    ],
}


def query(task: Task, text: str = "", wording: int = 0) -> Query:
    return Query(task, ("image",) * TASKS[task].images, text, wording=wording)


@pytest.mark.parametrize(("task", "text"), PAPER, ids=str)
def test_every_task_is_worded_as_in_the_paper_and_the_demo(task: Task, text: str) -> None:
    messages = [query(task, text, wording).message for wording in range(len(TASKS[task].wordings))]
    assert messages == PAPER[task, text]


def test_the_wordings_of_all_tasks_are_held_against_the_paper() -> None:
    assert {task for task, _ in PAPER} == set(Task)


@pytest.mark.parametrize("task", Task)
def test_the_token_of_a_task_leads_the_raw_text_rule_to_its_expert(task: Task) -> None:
    asked = query(task, "anything")
    assert granularity_of(asked.message) == asked.expert == TASKS[task].granularity


@pytest.mark.parametrize(
    ("message", "expert"),
    [
        ("[REF] and [SEG]", Granularity.PIXEL),
        ("what is it? [VG]", Granularity.REGION),
        ("[REF] what is [1, 20, 9, 30]?", Granularity.REGION),
        ("[seg] water.", Granularity.IMAGE),
        ("SEG", Granularity.IMAGE),
        ("", Granularity.IMAGE),
    ],
)
def test_raw_text_chooses_the_expert_as_in_the_reference(message: str, expert: Granularity) -> None:
    assert granularity_of(message) == expert


def test_the_expert_of_a_query_can_be_overridden() -> None:
    asked = Query(Task.SEGMENT, ("image",), "water", granularity=Granularity.IMAGE)
    assert asked.expert == Granularity.IMAGE
    assert Query(Task.SEGMENT, ("image",), "water").expert == Granularity.PIXEL


def test_the_chat_prompt_is_that_of_the_reference_for_one_and_two_images() -> None:
    head = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    tail = "<|im_end|>\n<|im_start|>assistant\n"
    assert chat_prompt("[SEG] water.", 1) == f"{head}<image>\n[SEG] water.{tail}"
    assert chat_prompt("[CCD] changes?", 2) == f"{head}<image> <image>\n[CCD] changes?{tail}"
    assert chat_prompt("hello", 0) == f"{head}hello{tail}"


@pytest.mark.parametrize("task", Task)
def test_a_query_with_the_wrong_number_of_images_is_refused(task: Task) -> None:
    for count in {0, 1, 2, 3} - {TASKS[task].images}:
        with pytest.raises(ValueError, match=f"takes {TASKS[task].images} image"):
            Query(task, ("image",) * count)


@given(st.sampled_from(Task), st.text(max_size=30))
def test_the_text_of_a_query_is_put_in_as_it_is(task: Task, text: str) -> None:
    for wording, words in enumerate(TASKS[task].wordings):
        before, slot, after = words.partition("{}")
        message = query(task, text, wording).message
        name = f" {text}" if task == Task.CAPTION and text else ""
        assert message == f"{TASKS[task].token} {before}{text if slot else ''}{after}{name}"
        assert chat_prompt(message, TASKS[task].images).count(PLACEHOLDER) >= TASKS[task].images


def test_categories_are_listed_with_comma_and_space() -> None:
    assert list_categories(["airport", "dense residential", "beach"]) == "airport, dense residential, beach"


@pytest.mark.parametrize("module", ["vlm", "vlm.prompts", "vlm.text_box", "vlm.text_mask", "vlm.grammar"])
def test_importing_the_text_side_imports_no_torch(module: str) -> None:
    code = f"import sys, {module}; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
