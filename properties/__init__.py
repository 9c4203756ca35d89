"""Laws: what every formula must satisfy, tried on examples that Hypothesis draws."""
