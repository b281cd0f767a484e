"""RS Tools: RSUniVLM, a vision-language model for satellite and aerial images, as eight typed tools.

The first call loads the model, for instance:
    ground_object("harbor.tif", "ship").save("ships.geojson")
"""

from rs_tools.errors import (
    Cancelled,
    GridMismatch,
    InvalidInput,
    NotAllowed,
    RasterError,
    RSToolsError,
    TooLarge,
    UnreadableAnswer,
)
from rs_tools.geometry import Box, Grid, Window
from rs_tools.model import VisionModel, load_model
from rs_tools.raster import ImageInput, Scene, View, open_pair, open_scene
from rs_tools.results import (
    AnsweredQuestion,
    ChangeDescription,
    ChangeDetection,
    Finding,
    FoundBox,
    Grounding,
    ImageInfo,
    MaskPolygon,
    RegionDescription,
    SceneClass,
    SceneDescription,
    Segmentation,
    Step,
)
from rs_tools.tools import (
    GENERAL_CLASSES,
    TOOLS,
    answer_question,
    classify_scene,
    describe_changes,
    describe_region,
    describe_scene,
    detect_changes,
    ground_object,
    segment_class,
)
from vlm.prompts import Answer, Query, Task

__all__ = [
    "GENERAL_CLASSES",
    "TOOLS",
    "Answer",
    "AnsweredQuestion",
    "Box",
    "Cancelled",
    "ChangeDescription",
    "ChangeDetection",
    "Finding",
    "FoundBox",
    "Grid",
    "GridMismatch",
    "Grounding",
    "ImageInfo",
    "ImageInput",
    "InvalidInput",
    "MaskPolygon",
    "NotAllowed",
    "Query",
    "RSToolsError",
    "RasterError",
    "RegionDescription",
    "Scene",
    "SceneClass",
    "SceneDescription",
    "Segmentation",
    "Step",
    "Task",
    "TooLarge",
    "UnreadableAnswer",
    "View",
    "VisionModel",
    "Window",
    "answer_question",
    "classify_scene",
    "describe_changes",
    "describe_region",
    "describe_scene",
    "detect_changes",
    "ground_object",
    "load_model",
    "open_pair",
    "open_scene",
    "segment_class",
]
