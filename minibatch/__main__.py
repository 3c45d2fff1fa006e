"""``python -m minibatch``: the ``minibatch`` command."""

from minibatch.cli import main

main()
