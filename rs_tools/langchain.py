"""The remote sensing tools for LangChain agents: `create_agent(chat_model, tools(roots=["images"]))`.

The content of a tool's message is the whole finding in words; its artifact is the pydantic result with every number.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForToolRun, CallbackManagerForToolRun, dispatch_custom_event
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import BaseTool, BaseToolkit, ToolException
from pydantic import BaseModel, Field, PrivateAttr

from rs_tools import agents
from rs_tools.errors import RSToolsError
from rs_tools.tools import TOOLS

PROGRESS_EVENT = "rs_tools_progress"
"""Name of the custom event that reports progress: {"tool", "done", "total", "message"}."""


class RemoteSensingTool(BaseTool):
    """One of the functions in `rs_tools.tools.TOOLS` as a LangChain tool.

    function: the tool. model: a VisionModel; None loads the default one at the first call. roots: the only folders that
    images are read from; None reads any path that the agent names. Tools given the same `turn` never run at once.
    """

    function: Callable[..., Any] = Field(exclude=True)
    model: Any = Field(default=None, exclude=True)
    roots: tuple[Path, ...] | None = None
    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"

    _turn: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        model: Any = None,
        roots: Sequence[str | os.PathLike[str]] | None = None,
        turn: threading.Lock | None = None,
        **options: Any,
    ) -> None:
        said = {
            "name": function.__name__,
            "description": agents.description(function),
            "args_schema": agents.arguments(function),
            "handle_tool_error": True,
            "handle_validation_error": agents.readable,
        }
        fence = None if roots is None else agents.open_roots(roots)
        super().__init__(function=function, model=model, roots=fence, **said | options)
        if turn is not None:
            self._turn = turn

    def _run(
        self, *words: str, run_manager: CallbackManagerForToolRun | None = None, **said: Any
    ) -> tuple[str, BaseModel]:
        return self._answer(self._named(words, said), threading.Event(), tells=run_manager is not None)

    async def _arun(
        self, *words: str, run_manager: AsyncCallbackManagerForToolRun | None = None, **said: Any
    ) -> tuple[str, BaseModel]:
        cancel = threading.Event()
        try:
            return await asyncio.to_thread(
                self._answer, self._named(words, said), cancel, tells=run_manager is not None
            )
        finally:
            cancel.set()  # when the awaiting task is cancelled, the thread stops at the next place where the tool looks

    def _named(self, words: tuple[str, ...], said: dict[str, Any]) -> dict[str, Any]:
        return dict(zip(agents.said(self.function), words, strict=False)) | said

    def _answer(self, said: dict[str, Any], cancel: threading.Event, *, tells: bool) -> tuple[str, BaseModel]:
        def progress(done: int, total: int, message: str) -> None:
            if tells:
                reached = {"tool": self.name, "done": done, "total": total, "message": message}
                dispatch_custom_event(PROGRESS_EVENT, reached)

        try:
            fenced = agents.fenced(self.function, said, self.roots)
            with self._turn:
                result = self.function(**fenced, model=self.model, progress=progress, cancel=cancel)
        except RSToolsError as error:
            raise ToolException(str(error)) from error
        return result.to_text(), result


class RemoteSensingToolkit(BaseToolkit):
    """All the tools around one model and one fence; they take turns at the model."""

    model: Any = Field(default=None, exclude=True)
    roots: list[Path] | None = None

    def get_tools(self) -> list[BaseTool]:
        """The eight tools, in the order of `rs_tools.tools.TOOLS`."""
        turn = threading.Lock()
        return [RemoteSensingTool(one, model=self.model, roots=self.roots, turn=turn) for one in TOOLS]


def tools(model: Any = None, roots: Sequence[str | os.PathLike[str]] | None = None) -> list[BaseTool]:
    """The eight tools for an agent: `model` answers (None: the default), images are read only inside `roots`."""
    folders = None if roots is None else [Path(root) for root in roots]
    return RemoteSensingToolkit(model=model, roots=folders).get_tools()


def change_detection_prompt() -> ChatPromptTemplate:
    """The step-by-step prompt for a change question, of variables before, after (image paths) and class_name."""
    return ChatPromptTemplate.from_messages([("human", agents.CHANGE_STEPS)])
