"""The LangChain tools: LangChain's own standard tests, errors an agent can read, and a whole agent run."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import BaseTool, ToolException
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests
from PIL import Image

from rs_tools import agents
from rs_tools.langchain import (
    PROGRESS_EVENT,
    RemoteSensingTool,
    RemoteSensingToolkit,
    change_detection_prompt,
    tools,
)
from rs_tools.results import ChangeDetection, Grounding, Segmentation
from rs_tools.testing import ScriptedModel
from rs_tools.tools import TOOLS
from vlm.prompts import Answer, Query, Task


def answer(query: Query) -> str:
    if query.task in (Task.SEGMENT, Task.SEGMENT_CHANGE):
        return "\n".join([f"{query.text}*1, others*3"] * 4)
    if query.task is Task.CLASSIFY:
        return query.labels[0]
    return {
        Task.GROUND: "[10, 20, 50, 60]",
        Task.CAPTION: "A residential area with bare ground.",
        Task.QUESTION: "Yes",
        Task.DESCRIBE_CHANGE: "Several houses were built along the road.",
        Task.DESCRIBE_REGION: "a new house",
    }[query.task]


def model() -> ScriptedModel:
    return ScriptedModel(answer, tile_size=64, confidence=0.5)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("langchain") / "images"
    root.mkdir()
    for number, name in enumerate(("before.png", "after.png", "scene.png")):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(root / name)
    Image.fromarray(np.zeros((600, 600, 3), np.uint8) + 90).save(root / "large.png")
    Image.fromarray(pixels).save(root.parent / "secret.png")
    return root


EXAMPLES: dict[str, dict[str, Any]] = {
    "ground_object": {"image": "scene.png", "query": "ship"},
    "segment_class": {"image": "scene.png", "class_name": "water"},
    "describe_changes": {"before": "before.png", "after": "after.png"},
    "detect_changes": {"before": "before.png", "after": "after.png", "class_name": "building", "reasoning": "direct"},
    "classify_scene": {"image": "scene.png"},
    "describe_scene": {"image": "scene.png"},
    "answer_question": {"image": "scene.png", "question": "Is there a river?"},
    "describe_region": {"image": "scene.png", "box": [1, 2, 30, 40]},
}


class Example:
    """What LangChain's standard tests need to know of one tool."""

    function: agents.Tool

    @pytest.fixture(autouse=True)
    def place(self, folder: Path) -> None:
        self.root = folder

    @property
    def tool_constructor(self) -> type[BaseTool]:
        return RemoteSensingTool

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        return {"function": type(self).function, "model": model(), "roots": [self.root]}

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return EXAMPLES[type(self).function.__name__]


for _tool in TOOLS:
    for _suite in (ToolsUnitTests, ToolsIntegrationTests):
        _name = f"Test{agents.title(_tool).title().replace(' ', '')}{_suite.__name__}"
        _facts = {"function": staticmethod(_tool), "__module__": __name__}
        globals()[_name] = type(_name, (Example, _suite), _facts)
del ToolsUnitTests, ToolsIntegrationTests, _suite  # the suites themselves are no tests


def by_name(folder: Path, with_model: ScriptedModel | None = None) -> dict[str, BaseTool]:
    return {one.name: one for one in tools(with_model or model(), roots=[folder])}


def call(name: str, said: dict[str, Any], number: str = "1") -> dict[str, Any]:
    return {"name": name, "args": said, "id": number, "type": "tool_call"}


def test_the_words_go_to_the_chat_model_and_the_numbers_to_the_program(folder: Path) -> None:
    message = by_name(folder)["segment_class"].invoke(call("segment_class", EXAMPLES["segment_class"]))
    assert message.status == "success"
    assert isinstance(message.artifact, Segmentation)
    assert message.content == message.artifact.to_text()
    assert message.artifact.fraction == 0.25
    assert message.artifact.mask.shape == (64, 64)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"image": "../secret.png", "query": "ship"}, "outside the folders"),
        ({"image": "absent.png", "query": "ship"}, "There is no file"),
        ({"image": "scene.png", "query": ""}, "query: "),
        ({"image": "scene.png"}, "query: Field required"),
        ({"image": "scene.png", "query": "ship", "colour": "red"}, "colour: Extra inputs"),
        ({"image": "scene.png", "query": "<|im_end|>"}, "marker of the prompt"),
    ],
)
async def test_a_mistake_comes_back_to_the_agent_as_words_it_can_act_on(
    folder: Path, said: dict[str, Any], complaint: str
) -> None:
    tool = by_name(folder)["ground_object"]
    for message in (tool.invoke(call("ground_object", said)), await tool.ainvoke(call("ground_object", said))):
        assert message.status == "error"
        assert complaint in message.content
        assert "https://errors.pydantic.dev" not in message.content


def test_an_answer_of_the_model_that_cannot_be_read_is_an_error_the_agent_hears_of(folder: Path) -> None:
    tool = by_name(folder, ScriptedModel({Task.SEGMENT: "sorry, no idea"}))["segment_class"]
    message = tool.invoke(call("segment_class", EXAMPLES["segment_class"]))
    assert message.status == "error"
    assert "can be read" in message.content


def test_a_crash_is_no_answer_and_reaches_the_program(folder: Path) -> None:
    def crash(query: Query) -> str:
        raise RuntimeError("out of memory")

    tool = by_name(folder, ScriptedModel(crash))["describe_scene"]
    with pytest.raises(RuntimeError, match="out of memory"):
        tool.invoke(call("describe_scene", EXAMPLES["describe_scene"]))


def test_errors_are_raised_when_the_program_prefers_that(folder: Path) -> None:
    tool = RemoteSensingTool(TOOLS[0], model=model(), roots=[folder], handle_tool_error=False)
    with pytest.raises(ToolException, match="There is no file"):
        tool.invoke({"image": "absent.png", "query": "ship"})


def test_one_word_is_enough_for_a_tool_that_takes_one(folder: Path) -> None:
    assert "residential" in by_name(folder)["describe_scene"].invoke("scene.png")


def test_without_roots_any_path_that_the_program_s_agent_names_is_read(folder: Path) -> None:
    tool = RemoteSensingToolkit(model=model()).get_tools()[5]
    assert "residential" in tool.invoke({"image": str(folder / "scene.png")})


async def test_a_cancelled_task_stops_the_tool_at_its_next_look(folder: Path) -> None:
    begun = threading.Event()

    class Slow(ScriptedModel):
        def ask(self, queries: Sequence[Query]) -> list[Answer]:
            begun.set()
            time.sleep(0.2)
            return super().ask(queries)

    slow = Slow(answer, tile_size=16)  # some hundred groups
    tool = by_name(folder, slow)["segment_class"]
    task = asyncio.create_task(tool.ainvoke({"image": "large.png", "class_name": "water"}))
    await asyncio.to_thread(begun.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.4)
    asked = len(slow.queries)
    await asyncio.sleep(0.4)
    assert len(slow.queries) == asked


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_progress_arrives_as_custom_events(folder: Path, asynchronous: bool) -> None:
    heard: list[tuple[str, Any]] = []

    class Listener(BaseCallbackHandler):
        def on_custom_event(self, name: str, data: Any, **_: Any) -> None:
            heard.append((name, data))

    tool = by_name(folder)["segment_class"]
    said = {"image": "large.png", "class_name": "water"}
    if asynchronous:
        await tool.ainvoke(said, {"callbacks": [Listener()]})
    else:
        tool.invoke(said, {"callbacks": [Listener()]})
    assert len(heard) > 3
    assert {name for name, _ in heard} == {PROGRESS_EVENT}
    assert heard[-1][1]["tool"] == "segment_class"
    assert heard[-1][1]["done"] == heard[-1][1]["total"]


async def test_tools_of_one_kit_take_turns_at_the_model(folder: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    class Watched(ScriptedModel):
        def ask(self, queries: Sequence[Query]) -> list[Answer]:
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()
            return super().ask(queries)

    kit = by_name(folder, Watched(answer))
    await asyncio.gather(*(kit[name].ainvoke(said) for name, said in EXAMPLES.items()))
    assert max(most) == 1


class ScriptedChat(GenericFakeChatModel):
    """A chat model that says what it was told to say, and accepts tools."""

    bound: list[str] = []

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> ScriptedChat:
        self.bound.extend(one.name for one in tools)
        return self


def script(folder: Path) -> Iterator[AIMessage]:
    pair = {"before": "before.png", "after": "after.png"}
    yield AIMessage("First, the places.", tool_calls=[
        call("describe_scene", {"image": "before.png"}, "a"),
        call("describe_scene", {"image": "after.png"}, "b"),
    ])  # fmt: skip
    yield AIMessage("Now in words.", tool_calls=[call("describe_changes", pair, "c")])
    yield AIMessage("And measured.", tool_calls=[call("detect_changes", pair | {"class_name": "building"}, "d")])
    yield AIMessage("What is outside?", tool_calls=[call("describe_scene", {"image": "../secret.png"}, "e")])
    yield AIMessage("There.", tool_calls=[call("ground_object", {"image": "after.png", "query": "house"}, "f")])
    yield AIMessage("Yes: houses were built, and the mask covers a quarter of the image.")


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_agent_answers_a_change_question_through_a_chain_of_tools(folder: Path, asynchronous: bool) -> None:
    chat = ScriptedChat(messages=script(folder))
    agent = create_agent(chat, tools(model(), roots=[folder]))
    question = change_detection_prompt().invoke(
        {"before": "before.png", "after": "after.png", "class_name": "building"}
    )
    said = {"messages": question.to_messages()}
    state = await agent.ainvoke(said) if asynchronous else agent.invoke(said)
    assert set(chat.bound) == {tool.__name__ for tool in TOOLS}
    heard = {one.tool_call_id: one for one in state["messages"] if isinstance(one, ToolMessage)}
    assert list(heard) == ["a", "b", "c", "d", "e", "f"]
    assert "residential area" in heard["a"].text
    assert "houses were built" in heard["c"].text
    change = heard["d"].artifact
    assert isinstance(change, ChangeDetection)
    assert change.changed
    assert change.fraction == 0.25
    assert [step.name for step in change.steps][:3] == ["caption", "class before", "class after"]
    assert all(step.answer.split()[0] in heard["d"].text for step in change.steps)
    assert heard["e"].status == "error"
    assert "outside the folders" in heard["e"].text
    assert isinstance(heard["f"].artifact, Grounding)
    assert heard["f"].artifact.boxes[0].left == 6.4
    assert [one.status for one in heard.values()].count("error") == 1
    assert state["messages"][-1].text.startswith("Yes: houses were built")


def test_the_change_prompt_is_the_text_that_the_server_gives_too() -> None:
    said = {"before": "a{1}.tif", "after": "b.tif", "class_name": "ship"}
    (message,) = change_detection_prompt().invoke(said).to_messages()
    assert message.content == agents.change_steps("a{1}.tif", "b.tif", "ship")


def test_the_module_needs_no_mcp_and_the_core_needs_no_langchain() -> None:
    check = "import sys, {}; print(sorted(name for name in ('mcp', 'langchain_core', 'torch') if name in sys.modules))"
    for module, expected in (("rs_tools.langchain", "['langchain_core']"), ("rs_tools, rs_tools.agents", "[]")):
        words = [sys.executable, "-c", check.format(module)]
        done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
        assert done.stdout.strip() == expected
