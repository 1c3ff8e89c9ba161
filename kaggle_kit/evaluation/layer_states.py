"""What a backbone with some adapters makes of given tokens, layer by layer.

states = layer_states(predictor, ["shared"], encoded, items.places)        # (layers + 1, n, ends * hidden)
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from kaggle_kit.batches.batch import make_batch
from kaggle_kit.batches.encoded import EncodedTask
from kaggle_kit.evaluation.predict import Predictor, by_length
from kaggle_kit.heads.arrays import before
from kaggle_kit.models.packing import PackedLayout


@torch.inference_mode()
def layer_states(
    predictor: Predictor, adapters: Sequence[str], encoded: EncodedTask, places: np.ndarray
) -> np.ndarray:
    """Return the mean states of the places' tokens: (n, ends, 3) -> (layers + 1, n, ends * hidden).

    A place is a row of the token file, a first and a last token. Layer 0 are the embeddings. Without
    adapters it is the frozen base that reads. The rows may be those of a task that the model was not trained
    on, but no questions with candidates.
    """
    model, device = predictor.model.eval(), predictor.device
    wanted = defaultdict(list)
    for number, (row, first, last) in enumerate(places.reshape(-1, 3).tolist()):
        wanted[row].append((number, first, last))
    states: np.ndarray = np.empty(0, np.float32)
    for planned in by_length(encoded, predictor.token_budget):
        rows = tuple(row for row in planned.rows if row in wanted)
        if not rows:
            continue
        batch = make_batch(encoded, replace(planned, rows=rows)).to(device)
        layout = PackedLayout.of(batch.lengths, causal=model.causal, device=device)
        float16 = torch.autocast(device, torch.float16, enabled=predictor.float16 and device != "cpu")
        with model.lora.using(*adapters), float16:
            read = model.reader.layers(batch, layout)  # (layers + 1, tokens, hidden)
        if not states.size:
            states = np.empty((len(read), places.size // 3, read.shape[-1]), np.float32)
        for row, start in zip(rows, before(batch.lengths).tolist(), strict=True):
            for number, first, last in wanted[row]:
                states[:, number] = read[:, start + first : start + last + 1].float().mean(1).cpu().numpy()
    return states.reshape(len(states), len(places), -1)
