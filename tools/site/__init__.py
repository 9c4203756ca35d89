"""The documentation site: pages copied and generated, built by Sphinx, and opened in a headless browser."""
