"""Floor 1: backbones, adapters and heads."""

import logging

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # its import warns about optional CPU kernels
