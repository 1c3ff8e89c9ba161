"""One run from its configuration to its manifest: what every page does before and after its own question."""
