"""Small byte-level tokenizers for tests of the text side."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = (
    "[SEG] Please segment the water in this image.",
    "[VG] Where is the windmill? [10, 20, 30, 40], [50, 60, 70, 80], [5, 0, 100, 99] none none none",
    "[CLS] Choose the best category describe the image from: airport, dense residential, beach.",
    "others*12\nothers*2, water*3, others*7\nwater*12\nbuilding*4, others*8",
)


def merging_tokenizer(run_labels: Iterable[str] = ("water", "building"), grid: int = 12) -> PreTrainedTokenizerFast:
    """Byte-level BPE in which whole runs such as "others*12\\n" and "water*3, " are single tokens."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>"]
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(list(TEXTS) * 3, trainer)
    core.add_tokens(
        [
            AddedToken(f"{label}*{count}{end}", normalized=False)
            for label in ("others", *run_labels)
            for count in range(1, grid + 1)
            for end in (", ", "\n", "")
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<image>"],
        clean_up_tokenization_spaces=False,
    )
