"""Vectors: arguments and expected values of each function, their encoding in JSON, and the versions of both."""
