"""``completion``: what a shell needs to complete commands, options and the names of streams."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

HOW = {
    'bash': 'minibatch completion bash > ~/.local/share/bash-completion/completions/minibatch',
    'zsh': 'minibatch completion zsh > "${fpath[1]}/_minibatch"',
    'fish': 'minibatch completion fish > ~/.config/fish/completions/minibatch.fish',
}


@click.command(epilog='For good: ' + '; '.join(HOW.values()))
@click.argument('shell', type=click.Choice(list(HOW)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that makes SHELL complete commands, options and names of streams.

    Try it in bash with: source <(minibatch completion bash)
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, 'minibatch', '_MINIBATCH_COMPLETE').source())
