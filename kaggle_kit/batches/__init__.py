"""From samples to micro-batches: encoding, the plan of every optimiser step, sampling, placebo labels."""
