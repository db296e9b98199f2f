"""Starts ``rlm-server``: as a program of its own, or as ``python -m rlm_server``."""

from rlm_server.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
