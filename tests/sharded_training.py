"""`training.train` with its weights sharded by FSDP, on CPUs: `torchrun tests/sharded_training.py --stage 2 ...`.

Accelerate shards on accelerators alone, so it is told that the processes have some; all else is as on a cluster.
"""

from __future__ import annotations

import os
import sys

from accelerate import DistributedType, PartialState

from training.train import main

if __name__ == "__main__":
    os.environ |= {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_TRANSFORMER_CLS_TO_WRAP": "GranularityLayer,SiglipEncoderLayer",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
    }
    PartialState(cpu=True)
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    sys.exit(main())
