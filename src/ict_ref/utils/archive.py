"""One kind of error for damaged archives, arrays and pickles."""

import contextlib
import gzip
import lzma
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from tokenize import TokenError

from ict_ref.utils.lfs import explained


@contextlib.contextmanager
def refuse_damaged(path: Path | str) -> Iterator[None]:
    """Convert each error that a damaged archive, array or pickle can cause into one ValueError with the file's name.

    Errors of the operating system are not converted.

    Raises:
        ValueError: the block met damaged content.
    """
    try:
        yield
    except (gzip.BadGzipFile, zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, MemoryError) as error:
        raise ValueError(f"{path} is truncated or damaged: {explained(path, error)}") from None
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RuntimeError, struct.error) as error:
        raise ValueError(f"{path} cannot be used: {explained(path, error)}") from None
    except (pickle.UnpicklingError, SyntaxError, TokenError, lzma.LZMAError) as error:
        raise ValueError(f"{path} cannot be used: {explained(path, error)}") from None
    except OSError as error:
        if error.filename is None:
            raise ValueError(f"{path} cannot be read: {explained(path, error)}") from None
        raise
