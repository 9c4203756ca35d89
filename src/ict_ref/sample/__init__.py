"""Images from a trained model: `python -m ict_ref.sample`.

`images` makes them, `parts` keeps what is made when it is stopped, `make` shares it out among processes.
"""
