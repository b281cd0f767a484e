"""What an agent may say to each tool, held against a snapshot.

After a wanted change of a signature: `UPDATE_SCHEMAS=1 pytest tests/test_schemas.py`, then read the difference in git.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.utils.function_calling import convert_to_openai_tool
from mcp import Client

import server
from rs_tools import agents
from rs_tools.langchain import tools as langchain_tools
from rs_tools.testing import ScriptedModel
from rs_tools.tools import TOOLS

SNAPSHOTS = Path(__file__).parent / "schemas"


def inside(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from inside(part)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
def test_the_schema_of_a_tool_changes_only_on_purpose(tool: agents.Tool) -> None:
    facts = {"name": tool.__name__, "description": agents.description(tool), "inputSchema": agents.schema(tool)}
    snapshot = SNAPSHOTS / f"{tool.__name__}.json"
    if os.environ.get("UPDATE_SCHEMAS"):
        snapshot.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    assert json.loads(snapshot.read_text(encoding="utf-8")) == facts, "wanted? UPDATE_SCHEMAS=1 pytest " + __file__


def test_there_is_a_snapshot_for_each_tool_and_no_other() -> None:
    assert {path.stem for path in SNAPSHOTS.glob("*.json")} == {tool.__name__ for tool in TOOLS}


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
def test_schemas_are_flat_so_that_every_client_understands_them(tool: agents.Tool) -> None:
    schema = agents.schema(tool)
    for part in inside(schema):
        assert not {"anyOf", "oneOf", "allOf", "$ref", "$defs"} & part.keys()
        assert isinstance(part.get("type", ""), str | dict)
    assert schema["additionalProperties"] is False
    assert all(one["description"] for one in schema["properties"].values())


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
def test_the_program_s_own_parameters_never_reach_an_agent(tool: agents.Tool) -> None:
    parameters = inspect.signature(tool).parameters.values()
    keyword_only = {one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY}
    assert keyword_only == {"model", "progress", "cancel"}
    assert not keyword_only & agents.schema(tool)["properties"].keys()
    assert agents.image_names(tool)


async def test_mcp_and_langchain_publish_the_same_schemas_and_descriptions(tmp_path: Path) -> None:
    with server.Desk(lambda: ScriptedModel({})) as desk:
        async with Client(server.build(desk, [tmp_path])) as client:
            published = {one.name: one for one in (await client.list_tools()).tools}
    for tool, for_agents in zip(TOOLS, langchain_tools(), strict=True):
        over_mcp = published[tool.__name__]
        assert over_mcp.input_schema == agents.schema(tool)
        assert over_mcp.description == for_agents.description == agents.description(tool)
        assert for_agents.args_schema is agents.arguments(tool)
        as_function = convert_to_openai_tool(for_agents)["function"]
        assert as_function["name"] == tool.__name__
        assert as_function["parameters"]["properties"] == agents.schema(tool)["properties"]
        assert as_function["parameters"]["required"] == agents.schema(tool)["required"]


async def test_the_extra_tools_of_the_server_have_flat_schemas_and_short_names_too(tmp_path: Path) -> None:
    with server.Desk(lambda: ScriptedModel({})) as desk:
        async with Client(server.build(desk, [tmp_path])) as client:
            published = (await client.list_tools()).tools
    assert [one.name for one in published[:8]] == [tool.__name__ for tool in TOOLS]
    assert {one.name for one in published[8:]} == {"list_images", "view_image", "get_job"}
    for one in published:
        assert re.fullmatch(r"[a-z_]{1,24}", one.name)
        assert one.title
        assert one.description
        assert one.annotations is not None
        assert not any({"anyOf", "oneOf", "$ref"} & part.keys() for part in inside(one.input_schema))


def test_the_change_prompt_names_only_tools_that_exist() -> None:
    named = set(re.findall(r"\b(?:describe|segment|detect|ground|classify|answer)_[a-z]+", agents.CHANGE_STEPS))
    assert named <= {tool.__name__ for tool in TOOLS}
    assert len(named) >= 4
