"""Doors: the ways in. Only a door knows JSON-RPC; no door imports another."""
