"""Synthetic clips and pictures with questions and true answers.

Every generator takes a random.Random and gives a Scene: the same seed draws the same scene. The kinds:
clips.draw (moving shapes), pictures.draw (still shapes), documents.draw (printed lines), charts.draw (bars).
"""
from .scene import Scene, Question, TASKS, Task, draw, seed_of  # noqa: F401
