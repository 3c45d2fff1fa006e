"""``python -m minibatch.demo [seconds]``: the demo without the command line."""

import sys

from minibatch.demo import run

if __name__ == '__main__':
    sys.exit(run(float(sys.argv[1]) if len(sys.argv) > 1 else None))
