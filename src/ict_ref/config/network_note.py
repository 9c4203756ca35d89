"""The note on a network of the user's own, as run folders and checkpoints keep it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ict_ref.utils.command_line import expect
from ict_ref.utils.json_file import checked, entry


@dataclass(frozen=True)
class NetworkNote:
    """The name of a network that is not built from a configuration, and a checksum of its tensors' names and shapes."""

    name: str | None
    """`module:callable` that builds the network. It is never imported unless the user names it again. None: unknown."""
    sha256: str
    """SHA-256 of the names and shapes of its tensors."""

    @property
    def how_to_name(self) -> str:
        """Return advice on how to use a model with this network."""
        option = f"--network {self.name or 'my_module:build'}"
        return f"Give {option} to sample, evaluate, search or edit, or network= to Run.load."


def network_note(stored: Mapping[str, Any] | None) -> NetworkNote | None:
    """Return the note that a file stores; None for a network that is built from a configuration.

    Raises:
        ValueError: An entry is missing or has another type. The message names it.
    """
    if stored is None:
        return None
    given = checked(stored, Mapping[str, Any], "own_network")
    return NetworkNote(entry(given, "name", str | None, "own_network."), entry(given, "sha256", str, "own_network."))


def refuse_another_network(
    there: NetworkNote | None, here: NetworkNote | None, place: object, advice: str = ""
) -> None:
    """Reject a network other than that of a run or file; another name for the same tensors is allowed.

    `advice` replaces that for a missing network.

    Raises:
        ValueError: One of both networks is built from a configuration and the other is not, or the checksums differ.
    """
    if there is None:
        got = "a network of the user's own"
        expect(here is None, "--network", f"nothing for {place}, whose configuration builds its network", got)
        return
    named = f"module:callable, because {place} has a network of the user's own"
    expect(here is not None, "--network", named, "nothing", advice or there.how_to_name)
    if here is not None and here.sha256 != there.sha256:
        tensors = f"tensors with the names and shapes of {place} (SHA-256 {there.sha256[:16]}...)"
        got = f"others (SHA-256 {here.sha256[:16]}...) from {here.name or 'the given module'}"
        expect(False, "--network", tensors, got, "Give the network of the run, or choose another folder.")
