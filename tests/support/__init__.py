"""What the tests share: servers to break, processes to kill, a proxy to cut, and an oracle that counts."""
