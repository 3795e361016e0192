"""What the course and notebook 11 need besides the study: exercises, diagrams, the explorer; sounds and a listener."""
