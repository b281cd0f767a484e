"""MCP server: the remote sensing tools for a desktop assistant, over stdio or over HTTP on this machine.

    rs-tools-server --root ~/images

It answers `initialize` without loading the network; weights are read at the first call (or in the background, with
`--preload`). One worker thread owns the network, calls wait in line, and a call that outlasts the patience of desktop
assistants becomes a job that `get_job` collects. Images are read only inside the `--root` folders.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, TextIO

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp.server.stdio import stdio_server
from mcp.types import CallToolResult, ImageContent, TextContent, ToolAnnotations
from pydantic import BaseModel, Field, create_model

from rs_tools import agents, tools
from rs_tools import model as models
from rs_tools.errors import Cancelled, InvalidInput, RSToolsError
from rs_tools.model import VisionModel
from rs_tools.raster import open_scene
from rs_tools.report import picture
from rs_tools.results import Masked, Tiled

PATIENCE = 45.0
"""Seconds a call is waited for; desktop assistants give up on a call after about 60."""

WAITING = 8
"""Calls that may run or wait at once."""

KEPT = 3600.0
"""Seconds for which the result of a job is kept."""

VIEW_SIDE = 768
"""Longest side in pixels of an image that is shown to an assistant."""


@dataclass
class Job:
    """One call of a tool: what it has reached, how to stop it, and its result once there is one."""

    tool: str
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    stop: threading.Event = field(default_factory=threading.Event)
    result: Future[CallToolResult] = field(default_factory=Future)
    listener: Callable[[int, int, str], None] | None = None
    reached: tuple[int, int, str] = (-1, 0, "waiting for its turn")
    ended: float | None = None

    def progress(self, done: int, total: int, message: str) -> None:
        """Note how far the call is, and tell whoever waits; never backwards, as the protocol demands."""
        if done > self.reached[0]:
            self.reached = (done, total, message)
            if (listener := self.listener) is not None:
                listener(done, total, message)


class Desk:
    """One worker thread that owns the network, the calls in line for it, and the results not yet collected.

    load: gives the network; called in the worker thread at the first call, and cheap after that.
    patience: seconds a call is waited for before it becomes a job; waiting: calls let in at once.
    """

    def __init__(self, load: Callable[[], VisionModel], *, patience: float = PATIENCE, waiting: int = WAITING) -> None:
        self.load = load
        self.patience = patience
        self.waiting = waiting
        self.jobs: dict[str, Job] = {}
        self.closing = threading.Event()
        self.worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rs-tools")

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        for job in self.jobs.values():
            job.stop.set()
        self.worker.shutdown(wait=False, cancel_futures=True)

    def preload(self, after: float = 1.0) -> None:
        """Load the network in the background, once the handshake has had `after` seconds to itself."""
        self.worker.submit(lambda: None if self.closing.wait(after) else self.load())

    def accept(self, tool: str, work: Callable[[Job, VisionModel], CallToolResult]) -> Job:
        """Put a call in line. Raises ToolError when the line is full."""
        now = time.monotonic()
        for one in list(self.jobs.values()):
            if one.ended is not None and (one.stop.is_set() or now - one.ended > KEPT):
                del self.jobs[one.id]
        unfinished = sum(one.ended is None for one in self.jobs.values())
        if unfinished >= self.waiting:
            raise ToolError(
                f"The server is busy: {unfinished} calls are running or waiting, and no more are let in. "
                "Wait for one of them to finish, then call again."
            )
        job = Job(tool)

        def run() -> CallToolResult:
            if job.stop.is_set():
                raise Cancelled("The call was stopped before it began: call the tool again if it is still wanted.")
            job.progress(0, 0, "preparing the model")
            return work(job, self.load())

        def end(_: object) -> None:
            job.ended = time.monotonic()

        job.result = self.worker.submit(run)
        job.result.add_done_callback(end)
        self.jobs[job.id] = job
        return job

    async def wait(self, job: Job, context: Context[Any, Any]) -> CallToolResult:
        """The result of `job`, passing its progress on; ToolError with its id if patience ends first."""
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        underway: list[Future[None]] = []

        def wake(_: object) -> None:
            with suppress(RuntimeError):  # the loop has closed: nobody waits any more
                loop.call_soon_threadsafe(over.set)

        def tell(done: int, total: int, message: str) -> None:
            report = context.report_progress(done, total or None, message)
            try:
                underway.append(asyncio.run_coroutine_threadsafe(report, loop))
            except RuntimeError:  # the loop has closed: nobody listens any more
                report.close()

        job.listener = tell
        job.result.add_done_callback(wake)
        try:
            await asyncio.wait_for(over.wait(), self.patience)
        except TimeoutError:
            done, total, message = job.reached
            raise ToolError(
                f"{job.tool} is still at work ({message}{f', {done} of {total}' if total else ''}). Nothing is lost: "
                f'call get_job with job_id "{job.id}" to wait for the result, or with stop=true to give it up.'
            ) from None
        finally:
            job.listener = None
        if waiting := [asyncio.wrap_future(one) for one in underway if not one.done()]:
            await asyncio.wait(waiting, timeout=2)  # progress should not come after the answer
        if job.result.cancelled():
            raise ToolError(f"{job.tool} was stopped before it began: call it again if it is still wanted.")
        try:
            return job.result.result()
        except RSToolsError as error:
            raise ToolError(str(error)) from error

    async def serve(self, job: Job, context: Context[Any, Any]) -> CallToolResult:
        """Wait for a call that this request began: it is forgotten once answered, and stopped if the client cancels."""
        try:
            return await self.wait(job, context)
        except asyncio.CancelledError:
            self.give_up(job)
            raise
        finally:
            if job.ended is not None:
                self.jobs.pop(job.id, None)

    def give_up(self, job: Job) -> None:
        """Stop a call: at once if it still waits, else at the next place where the tool looks."""
        job.stop.set()
        job.result.cancel()


class Server(MCPServer[Any]):
    """An MCPServer whose stdio wire is a stream of its own, so that nothing which is printed can reach it."""

    wire: TextIO

    async def run_stdio_async(self) -> None:
        """Serve over standard input and `wire`."""
        async with stdio_server(stdout=anyio.wrap_file(self.wire)) as (reader, writer):
            options = self._lowlevel_server.create_initialization_options()
            await self._lowlevel_server.run(reader, writer, options)


def private_wire() -> TextIO:
    """Standard output as a private stream; whatever prints from now on, in any language, goes to standard error."""
    wire = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return wire


class Listed(BaseModel):
    """One image file that may be read."""

    path: str = Field(description="Path to pass to the other tools")
    kilobytes: int = Field(description="Size of the file, in units of 1000 bytes")


class Listing(BaseModel):
    """Image files inside the folders that may be read."""

    folders: list[str] = Field(description="The folders that may be read")
    total: int = Field(description="How many images there are in all")
    offset: int = Field(description="How many were passed over before the first one listed")
    images: list[Listed] = Field(description="The images, in order of name")
    truncated: bool = Field(description="True when there are more: call again with a larger offset")


def text_of(listing: Listing) -> str:
    """A listing in words: the same facts as its JSON."""
    shown = f"{listing.offset + 1} to {listing.offset + len(listing.images)}" if listing.images else "none"
    lines = [
        f"{listing.total} images in {', '.join(listing.folders)}; shown: {shown}, offset {listing.offset}.",
        *(f"{one.path} ({one.kilobytes} kB)" for one in listing.images),
        *(["There are more: call again with a larger offset."] if listing.truncated else []),
    ]
    return "\n".join(lines)


def published(tool: agents.Tool, desk: Desk, roots: Sequence[Path], out: Path | None) -> Tool:
    """One of the eight functions as an MCP tool: same arguments, same result, its images fenced in `roots`.

    out: folder where results with a place in the image are saved too, as overlay, mask and GeoJSON; their paths stand
    in the field `saved`.
    """
    kind: type[BaseModel] = agents.result_type(tool)
    bases: tuple[type[Any], ...] = (agents.arguments(tool), ArgModelBase)
    saves = out is not None and issubclass(kind, Tiled)
    if saves:
        saved = Annotated[list[str], Field(description="Files that were saved: overlay, mask, map features")]
        kind = create_model(kind.__name__, __base__=kind, saved=(saved, ...))

    def work(fenced: dict[str, Any], job: Job, network: VisionModel) -> CallToolResult:
        result = tool(**fenced, model=network, progress=job.progress, cancel=job.stop)
        text, facts = result.to_text(), result.model_dump(mode="json")
        if saves and out is not None:
            facts["saved"] = save(result, out / f"{tool.__name__}-{job.id}")
            text += "\nsaved: " + ", ".join(facts["saved"])
        return CallToolResult(content=[TextContent(text=text)], structured_content=facts)

    async def call(context: Context[Any, Any], **given: Any) -> CallToolResult:
        try:
            fenced = agents.fenced(tool, given, roots)
        except RSToolsError as error:
            raise ToolError(str(error)) from error
        return await desk.serve(desk.accept(tool.__name__, partial(work, fenced)), context)

    return Tool(
        fn=call,
        name=tool.__name__,
        title=agents.title(tool),
        description=agents.description(tool),
        parameters=agents.schema(tool),
        fn_metadata=FuncMetadata(
            arg_model=create_model(tool.__name__, __base__=bases),
            output_model=kind,
        ),
        is_async=True,
        context_kwarg="context",
        annotations=ToolAnnotations(read_only_hint=not saves, destructive_hint=False, open_world_hint=False),
    )


def save(result: Tiled, stem: Path) -> list[str]:
    """Write what the result can draw and map beside `stem`: overlay always, mask if it has one, GeoJSON with a CRS."""
    suffixes = [".png"]
    if isinstance(result, Masked):
        suffixes.append(".tif")
    if result.image.crs is not None:
        suffixes.append(".geojson")
    return [str(result.save(stem.with_suffix(suffix))) for suffix in suffixes]


def build(desk: Desk, roots: Sequence[Path], out: Path | None = None) -> Server:
    """The server: the eight tools, `list_images`, `view_image`, `get_job`, and a prompt for change questions."""
    readable = (*roots, out) if out is not None else tuple(roots)
    try:
        release = version("rs-tools")
    except PackageNotFoundError:  # run from a checkout
        release = "0"
    server = Server(
        "rs-tools",
        title="RS Tools",
        version=release,
        instructions=(
            "Tools that look at satellite and aerial images with a remote sensing vision-language model. "
            f"Images are read only from: {agents.names(roots)}; list_images shows what is there, and a relative "
            "path is looked for in each of these folders. Pixel coordinates run right and down from the top-left "
            "corner; boxes are left, top, right, bottom. Numbers come from masks and boxes, words from the model: "
            "where they disagree, say so. A call that takes long answers with a job id: collect it with get_job."
            + (f" Overlays, masks and GeoJSON are saved in {out}; view_image shows an overlay." if out else "")
        ),
        tools=[published(one, desk, readable, out) for one in tools.TOOLS],
        subscriptions=False,
        log_level="WARNING",
    )
    looks = ToolAnnotations(read_only_hint=True, destructive_hint=False, open_world_hint=False)

    @server.tool(title="List images", annotations=looks)
    def list_images(
        limit: Annotated[int, Field(description="Most images to list", ge=1, le=500)] = 50,
        offset: Annotated[int, Field(description="How many to pass over first", ge=0)] = 0,
    ) -> Annotated[CallToolResult, Listing]:
        """List the image files that the other tools may read, with the paths to pass to them."""
        found = list(agents.images_under(roots))
        images = []
        for root, file in found[offset : offset + limit]:
            short = file.relative_to(root).as_posix()
            unmistakable = agents.admit(short, roots) == file.resolve()
            size = max(1, round(file.stat().st_size / 1000))
            images.append(Listed(path=short if unmistakable else str(file), kilobytes=size))
        listing = Listing(
            folders=[str(root) for root in roots],
            total=len(found),
            offset=offset,
            images=images,
            truncated=offset + len(images) < len(found),
        )
        return CallToolResult(
            content=[TextContent(text=text_of(listing))], structured_content=listing.model_dump(mode="json")
        )

    @server.tool(title="View image", annotations=looks, structured_output=False)
    def view_image(
        image: Annotated[str, Field(description="Path of an image, or of an overlay that another tool saved")],
    ) -> list[TextContent | ImageContent]:
        """Show an image as a small picture (at most 768 pixels), to look at it yourself or to check a saved overlay. Its pixels are reduced: take coordinates from the other tools, not from this picture."""  # noqa: E501
        try:
            scene = open_scene(agents.admit(image, readable))
            shown = picture(scene)
        except RSToolsError as error:
            raise ToolError(str(error)) from error
        shown.thumbnail((VIEW_SIDE, VIEW_SIDE))
        buffer = io.BytesIO()
        shown.convert("RGB").save(buffer, "JPEG", quality=85)
        size = f"{scene.grid.width} x {scene.grid.height} pixels, shown as {shown.width} x {shown.height}"
        data = base64.b64encode(buffer.getvalue()).decode()
        return [
            TextContent(text=f"{scene.name}: {size}."),
            ImageContent(data=data, mime_type="image/jpeg"),
        ]

    @server.tool(title="Get job", annotations=looks)
    async def get_job(
        context: Context[Any, Any],
        job_id: Annotated[str, Field(description="The id that a long call answered with", min_length=1, max_length=64)],
        stop: Annotated[bool, Field(description="True to give the job up instead of waiting for it")] = False,
    ) -> CallToolResult:
        """Wait for the result of a call that took too long and answered with a job id, or give that call up. The result is the same that the call would have returned; it is kept for an hour."""  # noqa: E501
        job = desk.jobs.get(job_id)
        if job is None:
            raise ToolError(f"There is no job '{job_id}': results are kept for an hour. Call the tool again.")
        if stop:
            desk.give_up(job)
            return CallToolResult(content=[TextContent(text=f"{job.tool} was given up.")])
        return await desk.wait(job, context)

    @server.prompt(title="Detect change step by step")
    def detect_change_step_by_step(
        before: Annotated[str, Field(description="Path of the earlier image")],
        after: Annotated[str, Field(description="Path of the later image of the same place")],
        class_name: Annotated[str, Field(description="What to look for, singular")] = "building",
    ) -> str:
        """Investigate what changed between two images of the same place, one tool at a time, with evidence."""
        return agents.change_steps(before, after, class_name)

    return server


def parser() -> argparse.ArgumentParser:
    """The options of the server."""
    options = argparse.ArgumentParser(
        prog="rs-tools-server", description=(__doc__ or ""), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--root",
        action="append",
        metavar="FOLDER",
        help="a folder that images may be read from; repeat for more (default: RS_TOOLS_ROOT, else the current folder)",
    )
    options.add_argument(
        "--out", metavar="FOLDER", help="save overlays, masks and GeoJSON here (default: save nothing)"
    )
    options.add_argument("--http", type=int, metavar="PORT", help="serve http://127.0.0.1:PORT/mcp instead of stdio")
    models.add_options(options)
    options.add_argument("--preload", action="store_true", help="load the model in the background at start")
    options.add_argument(
        "--patience",
        type=float,
        default=PATIENCE,
        metavar="SECONDS",
        help=f"how long a call is waited for before it becomes a job for get_job (default: {PATIENCE:g})",
    )
    options.add_argument(
        "--waiting",
        type=int,
        default=WAITING,
        metavar="CALLS",
        help=f"how many calls may run or wait at once (default: {WAITING})",
    )
    return options


def chosen_roots(named: Sequence[str] | None) -> tuple[Path, ...]:
    """The folders that may be read: those named, else RS_TOOLS_ROOT, else the current folder.

    Raises InvalidInput where one is no folder, and where the current folder, unnamed, is the whole disk or the home.
    """
    listed = [one for one in os.environ.get("RS_TOOLS_ROOT", "").split(os.pathsep) if one]
    if named or listed:
        return agents.open_roots(named or listed)
    (here,) = agents.open_roots(["."])
    if here == Path(here.anchor) or here == Path.home().resolve():
        raise InvalidInput(f"no --root is given, and the current folder is {here}: name the folder of your images")
    return (here,)


def main(words: Sequence[str] | None = None) -> None:
    """Serve until the client hangs up."""
    options = parser().parse_args(words)
    wire = private_wire()
    try:
        roots = chosen_roots(options.root)
        out = None if options.out is None else agents.open_roots([options.out])[0]
    except InvalidInput as error:
        parser().error(str(error))
    load = partial(models.load_model, options.model, device=options.device, views=options.views)
    with (
        suppress(KeyboardInterrupt),
        wire,
        Desk(load, patience=options.patience, waiting=options.waiting) as desk,
    ):
        server = build(desk, roots, out)
        server.wire = wire
        if options.preload:
            desk.preload()
        if options.http is not None:
            server.run("streamable-http", host="127.0.0.1", port=options.http)
        else:
            server.run("stdio")


if __name__ == "__main__":
    main()
