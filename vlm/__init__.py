"""RSUniVLM: the network, its texts and its checkpoints. Importing this package imports no torch."""

import os

# GNU's OpenMP lets threads that wait for one another spin for milliseconds, which keeps the processor from the one they
# wait for wherever anything else is at work: a tenth of a millisecond will do. Not heard once torch is there.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
