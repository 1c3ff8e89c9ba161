"""Floor 1: from official corpus files to a step plan."""
