"""The models: every call to a model goes through here; keys live here only."""
