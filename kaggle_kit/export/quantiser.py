"""A program: it quantises one folder of weights with gptqmodel, and imports nothing of this project.

`quantise.py` starts it in a process of its own, for an error in one of the library's threads ends it.
The job is JSON on the standard input, so that calibration texts, which may be restricted, touch no disk.
"""

import json
import sys

import torch
from gptqmodel import BACKEND, GPTQModel, QuantizeConfig
from gptqmodel.quantization import FORMAT, METHOD


def main() -> None:
    """Quantise `source` into `out`: 4 bits, by `method`, `group` inputs a scale, calibrated on `rows`."""
    job = json.load(sys.stdin)
    how, backend = {}, BACKEND.AUTO
    if job["method"] == "awq":
        how = {"quant_method": METHOD.AWQ, "format": FORMAT.GEMM}
        backend = BACKEND.AUTO if torch.cuda.is_available() else BACKEND.AWQ_TORCH  # AUTO knows no CPU here
    settings = QuantizeConfig(bits=4, group_size=job["group"], offload_to_disk=False, **how)
    dtype = getattr(torch, job["dtype"])
    # eager: a mask of None, as texts that are read both ways have, then hides nothing
    model = GPTQModel.load(job["source"], settings, dtype=dtype, attn_implementation="eager")
    rows = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in job["rows"]]
    model.quantize(rows, batch_size=1, calibration_data_min_length=1, backend=backend)
    model.save(job["out"])


if __name__ == "__main__":
    main()
