"""Runs a study: DVC's stages side by side, on one machine or on several, each notebook by papermill."""
