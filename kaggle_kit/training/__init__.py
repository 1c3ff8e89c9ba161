"""Floor 2: executing a step plan."""
