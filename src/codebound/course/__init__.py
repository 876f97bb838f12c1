"""Exercises of the course: a reader's own answers, tried, with hints on what is wrong."""

from codebound.course.exercise import Result, Task, check

__all__ = ["Result", "Task", "check"]
