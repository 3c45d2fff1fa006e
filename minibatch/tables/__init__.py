"""The parts of :mod:`minibatch.table`: values that are changed in place, windowed tables, changelogs."""
