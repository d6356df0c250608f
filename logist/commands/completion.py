"""`logist completion SHELL`."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish", "powershell")

_HOW = {
    "bash": 'eval "$(logist completion bash)"  in ~/.bashrc',
    "zsh": 'eval "$(logist completion zsh)"  in ~/.zshrc',
    "fish": "logist completion fish > ~/.config/fish/completions/logist.fish",
    "powershell": "logist completion powershell | Out-String | Invoke-Expression  in $PROFILE",
}


@click.command(epilog="\b\nTo switch it on:\n" + "\n".join(f"  {line}" for line in _HOW.values()))
@click.argument("shell", type=click.Choice(SHELLS), help="The shell that runs the script.")
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL."""
    from click.shell_completion import ShellComplete, get_completion_class

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"this version of click has no completion for {shell}")
    # The class's own source() of bash starts a bash to ask for its version: 4.4 is ten years old.
    script = ShellComplete.source(found(ctx.find_root().command, {}, "logist", "_LOGIST_COMPLETE"))
    click.echo(script)
