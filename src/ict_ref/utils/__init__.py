"""Helpers that know nothing of consistency models: random streams, atomic files, signals, command lines, charts."""
