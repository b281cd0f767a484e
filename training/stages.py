"""What trains in each stage, as data."""

from __future__ import annotations

from dataclasses import dataclass, field

from vlm.prompts import Task


@dataclass(frozen=True)
class Stage:
    """One run over the mixture.

    trains: prefixes of parameter names that move; everything else is frozen ("" is everything).
    datasets: how often each set is drawn (relative); tasks: how often each task is drawn among those a record can
    serve. dense: weight of the vision warm-up's losses, kept during the text stages so that the tower stays exact.
    peers: where not 0, the caption to be learned of a picture is the sentence that says best what people say of so many
    pictures most like it (`training.consensus`); else any that is said of it.
    muon: whether Muon (https://kellerjordan.github.io/posts/muon) moves the matrices inside the network, and AdamW only
    the rest.
    """

    name: str
    trains: tuple[str, ...]
    rate: float
    batch: int
    datasets: dict[str, float] = field(default_factory=dict)
    tasks: dict[Task, float] = field(default_factory=dict)
    experts: int = 1
    turns: int = 8
    dense: float = 0.0
    peers: int = 0
    warm_up: float = 0.03
    weight_decay: float = 0.0
    muon: bool = False


SETS = {
    "aid_rsicd": 0.20,
    "ucmerced": 0.11,
    "ucm_boxes": 0.05,
    "aerial_airport": 0.08,
    "airbus_aircraft": 0.06,
    "aerial_cars": 0.08,
    "neon_trees": 0.07,
    "hrsc_sample": 0.02,
    "dubai_seg": 0.15,
    "roads_cil": 0.13,
    "airbus_change": 0.09,
    "change_pairs": 0.06,
    "collage_scene": 0.10,
    "collage_pair": 0.07,
    "synthetic_scene": 0.12,
    "synthetic_pair": 0.06,
}

# A third is generated: what the tower does not see there, no expert finds, and those scenes never end.
SEEING = {**SETS, "synthetic_scene": 0.45, "synthetic_pair": 0.22}

# Captions and questions are most of what the image expert has to learn, and the tower rests. With fewer pictures of UC
# Merced, it forgets the sentences of that set.
SPEAKING = {**SETS, "aid_rsicd": 2.00, "ucmerced": 1.20}

# Numbers, areas and comparisons are asked of what has boxes and masks, so these come more often than in SPEAKING.
ANSWERING = {**SETS, "aid_rsicd": 0.90, "ucmerced": 0.90}

# What has masks; a third is generated.
DRAWING = {
    "dubai_seg": 0.30,
    "roads_cil": 0.15,
    "airbus_change": 0.12,
    "change_pairs": 0.15,
    "collage_pair": 0.12,
    "synthetic_scene": 0.08,
    "synthetic_pair": 0.30,
}

# What has boxes; nearly half is generated.
FINDING = {
    "aerial_airport": 0.12,
    "airbus_aircraft": 0.10,
    "aerial_cars": 0.12,
    "neon_trees": 0.12,
    "hrsc_sample": 0.04,
    "ucm_boxes": 0.08,
    "collage_scene": 0.07,
    "synthetic_scene": 0.55,
}

TASK_WEIGHTS = {
    Task.CLASSIFY: 1.0,
    Task.CAPTION: 1.0,
    Task.QUESTION: 0.7,
    Task.GROUND: 2.5,
    Task.DESCRIBE_REGION: 0.5,
    Task.SEGMENT: 2.5,
    Task.DESCRIBE_CHANGE: 0.7,
    Task.SEGMENT_CHANGE: 2.0,
}

DECODER = ("model.projector.", "model.language_model.", "model.lm_head.")

STAGES = {
    # The tower alone, with throw-away heads: stands in for SigLIP's pre-training.
    "warmup": Stage("warmup", ("",), 1e-3, 48, SEEING, weight_decay=0.05, warm_up=0.02, muon=True),
    # The decoder learns to say what the tower sees, while the tower rests: 1.7 times as many samples for the time.
    "align": Stage("align", DECODER, 8e-4, 16, SETS, TASK_WEIGHTS, weight_decay=0.02, muon=True),
    # Paper, section 3.3: dense feed-forward layers, everything trains, all tasks.
    "1": Stage("1", ("",), 8e-4, 32, SETS, TASK_WEIGHTS, dense=0.5, weight_decay=0.02, muon=True),
    # Paper, section 3.3: every feed-forward layer copied three times; only the experts train.
    "2": Stage("2", ("model.language_model.layers.*.mlp.",), 4e-4, 32, SPEAKING, TASK_WEIGHTS, experts=3, muon=True),
    # The image expert learns to say what people would, and not what each of them once said.
    "speak": Stage(
        "speak",
        ("model.language_model.layers.*.mlp.0.",),
        3e-4,
        24,
        ANSWERING,
        {Task.CLASSIFY: 0.5, Task.CAPTION: 2.0, Task.QUESTION: 2.0, Task.DESCRIBE_CHANGE: 0.5},
        experts=3,
        peers=32,
        muon=True,
    ),
    # The pixel expert learns to draw: masks and change masks alone.
    "draw": Stage(
        "draw",
        ("model.language_model.layers.*.mlp.2.",),
        4e-4,
        16,
        DRAWING,
        {Task.SEGMENT: 1.0, Task.SEGMENT_CHANGE: 1.0},
        experts=3,
        muon=True,
    ),
    # The region expert, and what of the reader only boxes need, learn to find.
    "find": Stage(
        "find",
        (
            "model.language_model.layers.*.mlp.1.",
            "model.language_model.layers.*.reader.middles.",
            "model.language_model.layers.*.reader.edges.",
        ),
        4e-4,
        16,
        FINDING,
        {Task.GROUND: 1.0, Task.DESCRIBE_REGION: 0.1},
        experts=3,
        muon=True,
    ),
    # Your own data, from any start; see training/datasets/own.py.
    "own": Stage("own", ("",), 2e-4, 16, {"own": 0.8, "synthetic_scene": 0.15, "synthetic_pair": 0.05}, TASK_WEIGHTS),
}
