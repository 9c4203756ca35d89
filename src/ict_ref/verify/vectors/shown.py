"""Values of vectors as text for reports."""

import re

import torch

from ict_ref.verify.vectors.load import Json
from ict_ref.verify.vectors.values import decoded


def short(value: Json, digits: int = 6) -> str:
    """Return a value for a report: numbers with this many digits, and only the beginning of a long array."""
    if isinstance(value, dict) and "tensor" in value:
        complex_numbers = "complex" in str(value["dtype"])
        parts = [] if complex_numbers else torch.as_tensor(decoded(value)).flatten().tolist()
        text = str(value["tensor"]) if len(parts) <= 6 else f"{str(parts[:6])[:-1]}, ...]"
        return _rounded(text.replace("'", ""), digits)
    return _rounded(str(value["float"] if isinstance(value, dict) and "float" in value else value), digits)


def _rounded(text: str, digits: int) -> str:
    return re.sub(r"-?\d+\.\d{6,}(?:e[-+]?\d+)?", lambda match: f"{float(match[0]):.{digits}g}", text)
