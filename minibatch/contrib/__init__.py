"""Sources, sinks and apps: everything that stands between minibatch and the world outside.

Each module needs its own optional packages and says so (:class:`minibatch.errors.MissingExtra`) when they are
missing; importing this package needs none. The contract that all of them keep is in
:mod:`minibatch.contrib.base`.
"""
