"""Floor 2: predictions and official scores."""
