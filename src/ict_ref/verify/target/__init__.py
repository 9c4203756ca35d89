"""The implementation under test: a module, an object or a command, and how its functions are called safely."""
