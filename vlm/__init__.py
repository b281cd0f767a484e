"""RSUniVLM: the network, its texts and its checkpoints. Importing this package imports no torch."""
