"""What runs, fetches, draws and measures."""
