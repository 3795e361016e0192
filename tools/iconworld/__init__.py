"""The pictures of the default study and of its pre-training, drawn by the project."""
