"""rlm_server: the engine behind rlm, a Recursive Language Model at home in Emacs."""

__version__ = "0.1.0"
