"""The paper's data sets: facts about them, how to fetch them, and how to read the form they are published in."""
