"""The tools as commands: `rs-tools segment-class scene.tif building --out mask.tif` prints the finding as JSON.

Only JSON goes to standard output; progress, warnings and errors go to standard error. Exit codes: 0 done, 1 the tool
could not answer, 2 the command was not understood, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rs_tools import agents
from rs_tools import model as models
from rs_tools.errors import InvalidInput, RSToolsError
from rs_tools.raster import open_scene
from rs_tools.results import Finding, Masked
from rs_tools.tools import TOOLS

EPILOG = """\
Images are GeoTIFF, PNG, JPEG, JPEG 2000 or WebP files. The answer is JSON on standard output, so it can be piped:

  rs-tools describe-scene scene.tif | jq -r .description
  rs-tools segment-class scene.tif building --out mask.tif --overlay look.png

`rs-tools COMMAND --help` shows examples of a command; `rs-tools tools` lists what each one does.
The model is chosen with --model or the variable RS_TOOLS_MODEL: "embedded" (the default, small, comes with the
package), "published" (RSUniVLM, downloaded), or a folder with a checkpoint.
Exit codes: 0 done, 1 the tool could not answer (the reason is on standard error), 2 the command was not understood.
"""

PICTURES = (".png", ".jpg", ".jpeg", ".webp")

KINDS = {"string": str, "number": float, "integer": int}


def parser() -> argparse.ArgumentParser:
    """The command line, built from the signatures of the tools."""
    root = argparse.ArgumentParser(
        prog="rs-tools",
        description="Ask a remote sensing vision-language model about satellite and aerial images.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for tool in TOOLS:
        text = agents.description(tool)
        command = commands.add_parser(
            tool.__name__.replace("_", "-"),
            help=first_sentence(text).replace("%", "%%"),
            description=textwrap.fill(text, 100),
            epilog=examples(tool),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(tool=tool)
        add_arguments(command, tool)
        output = command.add_argument_group("output and model")
        kinds = ", ".join(agents.result_type(tool).suffixes)
        output.add_argument("--out", type=Path, metavar="FILE", help=f"save the result; what is written: {kinds}")
        output.add_argument("--overlay", type=Path, metavar="FILE", help="save a picture of the result over the image")
        models.add_options(output)
    listing = commands.add_parser("tools", help="List the tools and what each one does.")
    listing.add_argument("--json", action="store_true", help="print names, descriptions and schemas as JSON")
    listing.set_defaults(tool=None)
    return root


def add_arguments(command: argparse.ArgumentParser, tool: agents.Tool) -> None:
    """What an agent may say, as arguments: required ones and lists by position, the others as options."""
    schema = agents.schema(tool)
    required = schema.get("required", [])
    for name, one in schema["properties"].items():
        item = one["items"] if one["type"] == "array" else one
        settings: dict[str, Any] = {"help": one.get("description", "").replace("%", "%%"), "default": argparse.SUPPRESS}
        if one["type"] == "boolean":
            settings["action"] = argparse.BooleanOptionalAction
        else:
            settings |= {"type": KINDS[item["type"]], "choices": item.get("enum")}
        if one["type"] == "array":
            fixed = one.get("minItems") if one.get("minItems") == one.get("maxItems") else None
            settings["nargs"] = fixed or ("+" if name in required else "*")
        if name in required or one["type"] == "array":
            command.add_argument(name, metavar=name.upper(), **settings)
        else:
            if one.get("default") is not None:
                settings["help"] += f" (default: {one['default']})"
            command.add_argument("--" + name.replace("_", "-"), dest=name, **settings)


def first_sentence(text: str) -> str:
    """The first sentence of a docstring, on one line; a full stop inside "e.g. building" ends nothing."""
    return re.split(r"(?<=\.) (?=[A-Z])", " ".join(text.split()))[0]


EXAMPLES = {
    "before": ("before.tif",),
    "after": ("after.tif",),
    "image": ("scene.tif",),
    "class_name": ("building",),
    "query": ("ship next to the pier",),
    "question": ("Is there a river?",),
    "classes": ("forest", "river", "parking lot"),
    "box": ("10", "20", "200", "220"),
}
"""What each kind of argument looks like in an example; an argument that is not here is shown by its name."""


def examples(tool: agents.Tool) -> str:
    """How to call a tool: plainly, with its options, and with its result saved."""
    command = ["rs-tools", tool.__name__.replace("_", "-")]
    schema = agents.schema(tool)
    options: list[str] = []
    for name, one in schema["properties"].items():
        if name in schema.get("required", []) or one["type"] == "array":
            command += EXAMPLES.get(name, (name.upper(),))
        else:
            options += ["--" + name.replace("_", "-"), str(one.get("enum", [one.get("default")])[-1])]
    lines = [command, *([[*command, *options]] if options else []), [*command, "--overlay", "look.png"]]
    if issubclass(agents.result_type(tool), Masked):
        lines.append([*command, "--out", "mask.tif"])
    return "examples:\n" + "\n".join(f"  {shlex.join(line)}" for line in lines)


class Bar:
    """A progress bar on standard error, drawn only when a person watches."""

    def __init__(self) -> None:
        self.watched = sys.stderr.isatty()

    def __call__(self, done: int, total: int, message: str) -> None:
        """Redraw; a call fits the `progress` of every tool."""
        if self.watched:
            filled = round(30 * done / total) if total else 0
            sys.stderr.write(f"\r[{'#' * filled:<30}] {done}/{total} {message[:40]:<40}")
            sys.stderr.flush()

    def end(self) -> None:
        """Wipe the bar."""
        if self.watched:
            sys.stderr.write("\r" + " " * 90 + "\r")
            sys.stderr.flush()


def run(options: argparse.Namespace) -> Finding:
    """Call the tool that the command line names.

    What can be seen to be wrong without the model is refused before it is loaded. Raises pydantic's ValidationError for
    arguments that do not fit, RSToolsError where the tool cannot answer.
    """
    tool: agents.Tool = options.tool
    given = {name: getattr(options, name) for name in agents.said(tool) if hasattr(options, name)}
    checked = agents.arguments(tool).model_validate(given)
    for target, suffixes in ((options.out, agents.result_type(tool).suffixes), (options.overlay, PICTURES)):
        if target is not None and target.suffix.lower() not in suffixes:
            raise InvalidInput(f"{target} cannot be written by this command: end it in {', '.join(suffixes)}.")
        if target is not None and not target.parent.is_dir():
            raise InvalidInput(f"The folder {target.parent} does not exist: create it first, or save elsewhere.")
    images = agents.image_names(tool)
    bar = Bar()
    with contextlib.redirect_stdout(sys.stderr):  # libraries that print must not spoil the JSON
        try:
            said = {name: getattr(checked, name) for name in type(checked).model_fields}
            scenes = {name: open_scene(said[name]) for name in images}
            model = models.load_model(options.model, device=options.device, views=options.views)
            result: Finding = tool(**said | scenes, model=model, progress=bar)
        finally:
            bar.end()
    return result


def tell(text: str) -> None:
    """Print, unless the reader, such as `head`, has seen enough."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def keep(result: Finding, options: argparse.Namespace) -> None:
    """Save what the command line asks to be saved, and say the warnings."""
    for warning in result.warnings:
        print(f"rs-tools: warning: {warning}", file=sys.stderr)
    for target in (options.out, options.overlay):
        if target is not None:
            result.save(target)


def listing(*, as_json: bool) -> str:
    """The tools and what each one does, for people or as JSON with descriptions and schemas."""
    if as_json:
        facts = [
            {"name": one.__name__, "description": agents.description(one), "schema": agents.schema(one)}
            for one in TOOLS
        ]
        return json.dumps(facts, indent=2)
    return "\n".join(f"{one.__name__.replace('_', '-'):18}{first_sentence(agents.description(one))}" for one in TOOLS)


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; the return value is the exit code."""
    options = parser().parse_args(words)
    try:
        if options.tool is None:
            tell(listing(as_json=options.json))
            return 0
        result = run(options)
        tell(result.model_dump_json(indent=2))
        keep(result, options)
    except ValidationError as error:
        print(f"rs-tools {options.command}: {agents.readable(error)}", file=sys.stderr)
        return 2
    except RSToolsError as error:
        print(f"rs-tools {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"rs-tools {options.command}: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
