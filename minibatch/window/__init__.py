"""The strategies that cut messages into windows: one small file each, without I/O."""

from minibatch.window.base import Batch, Decision, View, WindowEmitter
from minibatch.window.count import CountWindow
from minibatch.window.fixed import FixedTimeWindow
from minibatch.window.relaxed import RelaxedTimeWindow

__all__ = ['Batch', 'CountWindow', 'Decision', 'FixedTimeWindow', 'RelaxedTimeWindow', 'View', 'WindowEmitter']
