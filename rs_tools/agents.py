"""What the doors for agents share: what may be said to a tool, which files it may touch, how a change is investigated.

The MCP server, the LangChain tools and the command line are all built from these functions and from `tools.TOOLS`; they
know no tool by name. A tool's positional-or-keyword parameters are what an agent may say.
"""

from __future__ import annotations

import inspect
import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from rs_tools.errors import InvalidInput, NotAllowed
from rs_tools.raster import ImageInput
from rs_tools.results import Finding

Tool = Callable[..., Any]

IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".webp")

CHANGE_STEPS = """\
Find out what changed between two images of the same place, one step at a time, and show the evidence.

before: {before}
after: {after}
what to look for: {class_name}

1. Call describe_scene on each image: know what kind of place it is before you compare.
2. Call describe_changes with before and after: what changed, in words.
3. Call segment_class on each image with class_name "{class_name}": how much of it there was, and how much there is.
4. Call detect_changes with before, after and class_name "{class_name}": where it appeared or vanished, and how much.
5. Where a change matters, call describe_region on the later image with the box of that change.
6. Compare the answers. Take numbers only from masks (steps 3 and 4), words only from descriptions (steps 1, 2 and 5).
   If they disagree, say so and say which you trust less; do not smooth it over.
7. Answer in this order: the conclusion in one sentence; where and how much, with units; the evidence, step by step;
   what remains uncertain.

If a tool reports that the images do not cover the same ground, stop and tell the user which images were given.
"""


class Arguments(BaseModel):
    """What an agent says in one call; unknown names are refused, and the JSON schema is flat."""

    @staticmethod
    def _tidy(schema: dict[str, Any]) -> None:
        schema.pop("title", None)
        schema.pop("description", None)
        for described in schema.get("properties", {}).values():
            described.pop("title", None)
            described.pop("examples", None)

    model_config = ConfigDict(extra="forbid", json_schema_extra=_tidy)


def said(tool: Tool) -> dict[str, inspect.Parameter]:
    """The parameters of `tool` that an agent fills, by name: all but the keyword-only ones, annotations evaluated."""
    parameters = inspect.signature(tool, eval_str=True).parameters
    return {name: one for name, one in parameters.items() if one.kind is not inspect.Parameter.KEYWORD_ONLY}


def image_names(tool: Tool) -> tuple[str, ...]:
    """The names of the parameters that take an image; an agent gives each as the path of a file."""
    return tuple(name for name, one in said(tool).items() if _bare(one.annotation) == _bare(ImageInput))


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


@cache
def arguments(tool: Tool) -> type[Arguments]:
    """The pydantic model of what an agent may say to `tool`; images become strings (paths)."""
    images = image_names(tool)
    fields: dict[str, Any] = {}
    for name, one in said(tool).items():
        kind = Annotated[(str, *get_args(one.annotation)[1:])] if name in images else one.annotation
        fields[name] = (kind, ... if one.default is inspect.Parameter.empty else one.default)
    return create_model(tool.__name__, __base__=Arguments, **fields)


def schema(tool: Tool) -> dict[str, Any]:
    """The JSON schema of what an agent may say to `tool`: an object with flat properties."""
    return arguments(tool).model_json_schema()


def result_type(tool: Tool) -> type[Finding]:
    """The pydantic model that `tool` returns."""
    returned: type[Finding] = inspect.signature(tool, eval_str=True).return_annotation
    return returned


def description(tool: Tool) -> str:
    """What an agent is told about `tool`: its docstring."""
    return inspect.getdoc(tool) or ""


def title(tool: Tool) -> str:
    """The name of `tool` for people: `Segment class`."""
    return tool.__name__.replace("_", " ").capitalize()


def readable(error: ValidationError) -> str:
    """Wrong arguments in one line each, for an agent: `class_name: Field required`."""
    lines = [
        f"{'.'.join(map(str, one['loc'])) or 'arguments'}: {one['msg']}" for one in error.errors(include_url=False)
    ]
    return "These arguments do not fit; correct them and call again.\n" + "\n".join(lines)


def change_steps(before: str, after: str, class_name: str) -> str:
    """The step-by-step instructions that walk an assistant through a change, for two image paths and a class name."""
    return CHANGE_STEPS.format(before=before, after=after, class_name=class_name)


def names(roots: Sequence[Path]) -> str:
    """The folders of a fence, as an error or an instruction lists them."""
    return ", ".join(str(root) for root in roots)


def open_roots(folders: Sequence[str | os.PathLike[str]]) -> tuple[Path, ...]:
    """The folders of a fence, "~" expanded and symlinks resolved. Raises InvalidInput where one is not a folder."""
    roots = tuple(Path(os.path.expanduser(folder)).resolve() for folder in folders)
    for root in roots:
        if not root.is_dir():
            raise InvalidInput(f"{root} is not a folder: name a folder that exists")
    return roots


def admit(path: str, roots: Sequence[Path]) -> Path:
    """The real file behind `path`, if it lies inside one of `roots` (resolved folders) after all links are followed.

    A relative path is tried in each root in turn; "~" is the home. Raises NotAllowed for anything outside, whether or
    not it exists, and for what is not a regular file; InvalidInput when nothing is there.
    """
    shown = repr(path if len(path) <= 200 else f"...{path[-200:]}")
    where = f"Images are read only from: {names(roots)}. Give a path inside, relative or absolute."
    if not path.strip() or "\0" in path:
        raise NotAllowed(f"{shown} is not a path of a file. {where}")
    inside = False
    full = os.path.expanduser(path)
    for form in dict.fromkeys((full, unicodedata.normalize("NFC", full), unicodedata.normalize("NFD", full))):
        for candidate in (Path(form),) if Path(form).is_absolute() else tuple(root / form for root in roots):
            real = _resolve(candidate)
            if real is None or not any(real.is_relative_to(root) for root in roots):
                continue
            inside = True
            if real.is_file():
                return real
            if real.exists():
                raise NotAllowed(f"{shown} is not a regular file. {where}")
    if inside:
        raise InvalidInput(f"There is no file {shown}. {where}")
    raise NotAllowed(f"{shown} is outside the folders that may be read. {where}")


def _resolve(candidate: Path) -> Path | None:
    try:
        real = candidate.resolve()
        real.exists()  # raises for a name that is too long, which resolving forgives
        return real
    except (OSError, RuntimeError, ValueError):  # or a loop of links, or characters no name can have
        return None


def images_under(roots: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Every readable image file under the roots as (root, file), in order of name.

    Hidden names are passed over, and so are names with control or invisible characters: they could pose as orders.
    """
    for root in roots:
        for folder, subfolders, files in os.walk(root):
            subfolders[:] = sorted(name for name in subfolders if name.isprintable() and not name.startswith("."))
            for name in sorted(files):
                file = Path(folder, name)
                if file.suffix.lower() in IMAGE_SUFFIXES and name.isprintable() and not name.startswith("."):
                    real = _resolve(file)
                    if real is not None and real.is_file() and any(real.is_relative_to(one) for one in roots):
                        yield root, file


def fenced(tool: Tool, given: Mapping[str, Any], roots: Sequence[Path] | None) -> dict[str, Any]:
    """The arguments of a call with every image path replaced by the real file inside `roots`; no fence when None."""
    if roots is None:
        return dict(given)
    images = image_names(tool)
    return {name: admit(value, roots) if name in images else value for name, value in given.items()}
