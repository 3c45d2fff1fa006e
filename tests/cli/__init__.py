"""The ``minibatch`` command: each of its commands as a process, on a real MongoDB."""
