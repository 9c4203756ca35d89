"""The checks of functions: vectors, laws and the trace. Each check yields a `Result`."""
