"""Floor 3: run folders to figures, tables and reports. No torch here."""
