"""The audit of a consistency model f(x, sigma) as it is: its coefficients, its boundary, its labels."""
