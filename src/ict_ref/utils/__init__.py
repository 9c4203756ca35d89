"""Helpers without consistency models: random streams, atomic files, signals, command lines, charts."""
