"""Scripts by which a shell completes a program's commands and their options."""

from collections.abc import Mapping, Sequence
from typing import Literal

BASH = """\
_{function}() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" words="{commands}"
    if (( COMP_CWORD > 1 )); then
        case "${{COMP_WORDS[1]//-/_}}" in
{cases}
            *) words="" ;;
        esac
    fi
    [[ $COMP_CWORD -gt 1 && $word != -* ]] || COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _{function} {program}
"""


def script(shell: Literal["bash", "zsh", "fish"], program: str, commands: Mapping[str, Sequence[str]]) -> str:
    """Return the script for a program's commands, each with its options; other words are completed as files."""
    if shell == "fish":
        return _fish(program, commands)
    cases = "\n".join(
        f'            {name}) words="{" ".join(options)} --help" ;;' for name, options in commands.items()
    )
    names = " ".join(name.replace("_", "-") for name in commands)
    function = program.replace("-", "_")
    bash = BASH.format(function=function, program=program, commands=names, cases=cases)
    return bash if shell == "bash" else f"autoload -U +X bashcompinit && bashcompinit\n{bash}"


def _fish(program: str, commands: Mapping[str, Sequence[str]]) -> str:
    names = " ".join(name.replace("_", "-") for name in commands)
    lines = [f"complete -c {program} -n __fish_use_subcommand -a '{names}'"]
    for name, options in commands.items():
        here = f"complete -c {program} -n '__fish_seen_subcommand_from {name.replace('_', '-')}'"
        lines += [f"{here} -l '{option.removeprefix('--')}'" for option in (*options, "--help")]
    return "\n".join([*lines, ""])
