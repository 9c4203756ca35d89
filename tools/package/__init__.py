"""Checks of what is released: the two builds, their contents, and the commands of an installed wheel."""
