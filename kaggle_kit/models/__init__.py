"""Floor 1: backbones, adapters and heads."""
