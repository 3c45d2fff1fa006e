"""The tests of minibatch: real MongoDB servers, real processes, real faults."""
