"""Every query of the engine, one verb for each transition; nothing else reads or writes its collections."""

from __future__ import annotations

from minibatch.order import Claim, Order
from minibatch.store.closing import Closing
from minibatch.store.dead import Dead
from minibatch.store.flows import Flows, Lookups
from minibatch.store.looking import Looking
from minibatch.store.panes import Panes
from minibatch.store.record import Record
from minibatch.store.sources import Sources
from minibatch.store.tables import Verdict

__all__ = ['Claim', 'Order', 'Record', 'Store', 'Verdict']


class Store(Sources, Panes, Dead, Looking, Flows, Lookups, Closing):
    """The engine's database, by verbs.

    :param connection: from :func:`minibatch.connection.connect`; missing collections and indexes are created

    >>> import minibatch.connection
    >>> store = Store(minibatch.connection.connect())
    >>> store.count_free('no-such-stream')
    0
    """
