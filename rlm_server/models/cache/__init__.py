"""Answers that are kept: exact ones for every call, and similar ones for whole questions."""
