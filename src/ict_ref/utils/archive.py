"""One kind of error for damaged archives, arrays and pickles."""

import contextlib
import gzip
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path


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
        raise ValueError(f"{path} is truncated or damaged: {error}") from None
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RuntimeError, struct.error) as error:
        raise ValueError(f"{path} cannot be used: {error}") from None
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path} cannot be used: {error}") from None
    except OSError as error:
        if error.filename is None:
            raise ValueError(f"{path} cannot be read: {error}") from None
        raise
