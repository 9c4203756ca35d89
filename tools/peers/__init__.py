"""Audits of public code; `nox -s peers -- --checkouts DIR` runs them and writes docs/peers.md."""
