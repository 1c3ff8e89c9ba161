"""Floor 4: the command line, and what wires the floors together."""
