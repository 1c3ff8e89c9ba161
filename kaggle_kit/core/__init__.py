"""Floor 0: what every other floor shares. No torch here."""
