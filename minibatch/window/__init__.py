"""The strategies that cut messages into windows: one small file each, without I/O."""

from minibatch.window.base import Batch, Decision, View, WindowEmitter
from minibatch.window.count import CountWindow
from minibatch.window.fixed import FixedTimeWindow
from minibatch.window.hopping import HoppingWindow
from minibatch.window.joining import JoiningWindow
from minibatch.window.relaxed import RelaxedTimeWindow
from minibatch.window.session import SessionWindow
from minibatch.window.sliding import SlidingWindow

__all__ = ['Batch', 'CountWindow', 'Decision', 'FixedTimeWindow', 'HoppingWindow', 'JoiningWindow', 'RelaxedTimeWindow',
           'SessionWindow', 'SlidingWindow', 'View', 'WindowEmitter']
