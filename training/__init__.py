"""Training of RSUniVLM: data sets and synthetic scenes to samples, stages, scores. Not needed to use the tools."""
