"""Imports point only downwards, and looking at the tools costs no torch."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LAYERS = [
    {"errors"},
    {"geometry"},
    {"description", "raster", "tiling"},
    {"report", "fetch", "question"},
    {"results"},
    {"model", "testing"},
    {"tools"},
    {"agents", "batch"},
    {"cli", "langchain"},
]
"""The modules of rs_tools from the ground up: each may import only what stands on a lower line."""

ALLOWED = {"server": {"rs_tools"}, "rs_tools": {"vlm"}, "vlm": set(), "training": {"rs_tools", "vlm"}}
"""Which of the others each part may import."""


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at its top or anywhere inside, as dotted names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}, line {node.lineno}: relative imports hide where an arrow points"
            module = node.module or ""
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def sources() -> list[tuple[str, Path]]:
    files = [("server", ROOT / "server.py")] if (ROOT / "server.py").is_file() else []
    return files + [
        (part, path) for part in ("rs_tools", "vlm", "training") for path in sorted((ROOT / part).rglob("*.py"))
    ]


@pytest.mark.parametrize(
    ("part", "path"), sources(), ids=lambda value: str(value) if isinstance(value, str) else value.stem
)
def test_each_part_imports_only_the_parts_below_it(part: str, path: Path) -> None:
    others = {name.split(".")[0] for name in imports(path)} & (ALLOWED.keys() - {part})
    assert others <= ALLOWED[part]


@pytest.mark.parametrize("path", sorted((ROOT / "rs_tools").glob("*.py")), ids=lambda path: path.stem)
def test_arrows_inside_rs_tools_point_downwards(path: Path) -> None:
    if path.stem == "__init__":
        return
    heights = {name: height for height, names in enumerate(LAYERS) for name in names}
    assert path.stem in heights, f"give {path.stem} its place in LAYERS"
    for name in imports(path):
        module = name.split(".")
        if module[0] == "rs_tools" and len(module) > 1:
            assert module[1] in heights, f"import {module[1]} from the module that says it, not from the package"
            assert heights[module[1]] < heights[path.stem], f"{path.stem} imports {module[1]}"


@pytest.mark.parametrize(("given", "heard"), [(None, "10000"), ("300", "300")])
def test_threads_soon_wait_asleep_unless_the_user_says_otherwise(given: str | None, heard: str) -> None:
    code = "import os, sys, rs_tools; print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    environment |= {} if given is None else {"GOMP_SPINCOUNT": given}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.split() == [heard, "False"]


@pytest.mark.parametrize(
    "module", ["rs_tools", "rs_tools.tools", "rs_tools.testing", "vlm", "vlm.prompts", "vlm.text_mask"]
)
def test_importing_takes_no_torch_no_transformers_and_no_gdal(module: str) -> None:
    code = (
        f"import sys, {module}; print(*({{'torch', 'transformers', 'rasterio', 'httpx', 'mcp'}} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_importing_the_package_is_quick() -> None:
    code = "import time; start = time.process_time(); import rs_tools; print(time.process_time() - start)"
    fastest = min(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout)
        for _ in range(3)
    )
    assert fastest < 1.0


def test_every_public_name_is_there() -> None:
    import rs_tools

    assert all(hasattr(rs_tools, name) for name in rs_tools.__all__)
    assert rs_tools.__all__ == sorted(
        rs_tools.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name)
    )
