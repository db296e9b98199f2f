"""The engine: from a question and a corpus to an answer, through code the root model writes."""
