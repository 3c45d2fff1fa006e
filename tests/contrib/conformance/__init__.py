"""One suite for every source and one for every sink; a bridge takes part by an adapter (see :mod:`.adapters`)."""
