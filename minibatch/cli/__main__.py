"""``python -m minibatch.cli``: the ``minibatch`` command."""

from minibatch.cli import main

if __name__ == '__main__':
    main()
