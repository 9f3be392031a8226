"""Judges that need no guard model: any chat model that is asked a question, here or at an endpoint, and keywords."""

from lrm_align.judging.question import QUESTIONS, Question, read

__all__ = ["QUESTIONS", "Question", "read"]
