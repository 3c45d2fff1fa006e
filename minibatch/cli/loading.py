"""Finding the consumers that ``run`` is to run: a file or a module is loaded, and what it defines is collected."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from minibatch.api import Defined, collecting
from minibatch.app import App
from minibatch.app.running import Worker
from minibatch.crew import Member
from minibatch.errors import MinibatchError, OptionError, did_you_mean
from minibatch.operators import Pipeline
from minibatch.window import WindowEmitter


class NotLoaded(MinibatchError):
    """The user's file raised an error when it was loaded; nothing was started."""


def split(target: str) -> tuple[str, str | None]:
    """The file or module, and the name in it.

    >>> split('app.py:work'), split('shop.orders'), split('/srv/app.py')
    (('app.py', 'work'), ('shop.orders', None), ('/srv/app.py', None))
    """
    where, colon, name = target.rpartition(':')
    if not colon or '/' in name or name.endswith('.py'):
        return target, None
    return where, name or None


def file_of(target: str) -> Path | None:
    """The file that a target names, if it names a file."""
    where, _ = split(target)
    return Path(where).resolve() if where.endswith('.py') or '/' in where else None


def members(target: str, url: str | None, workers: int | None) -> list[Member]:
    """The consumers that a target names.

    :param target: ``app.py:consumer``, ``package.module:consumer``, or either without the name, for all there are
    :param url: given to functions that define consumers and take one
    :param workers: instead of what the consumers say themselves
    :raises minibatch.errors.OptionError: there is no such file, or no such consumer in it
    :raises NotLoaded: it raised an error
    """
    where, name = split(target)
    with collecting() as found:
        module = _load(where)
    things = {each: thing for each, thing in vars(module).items() if isinstance(thing, (App, Pipeline, WindowEmitter))}
    if name is None:
        apps = [thing for thing in things.values() if isinstance(thing, App) and thing.agents]
        chosen = [*found, *apps]
        if not chosen:
            names = [*things, *_makers(module)]
            raise OptionError(f'{where} defines no consumer where it is loaded: no @mb.streaming function and no app'
                              + (f'; name one of {", ".join(names)}: {where}:{names[0]}' if names else ''))
        return [member for each in chosen for member in _members(each, workers)]
    defined = [each for each in found if each.name == name]
    if defined:
        return [member for each in defined for member in _members(each, workers)]
    thing = getattr(module, name, None)
    if isinstance(thing, (App, Pipeline, WindowEmitter)):
        return _members(thing, workers, name)
    if thing is None or not callable(thing):
        known = sorted({each.name for each in found} | set(things) | set(_makers(module)))
        raise OptionError(f'{where} has no consumer {name!r}{did_you_mean(name, known)}'
                          + (f' (it has {", ".join(known)})' if known else ''))
    return _made_by(thing, f'{where}:{name}', url, workers)


def _members(thing: Any, workers: int | None, name: str = '') -> list[Member]:
    if isinstance(thing, App):
        return Worker(thing).members
    if isinstance(thing, WindowEmitter):
        return [Member(name or thing.stream_name, lambda: thing)]
    one: Defined = thing.defined() if isinstance(thing, Pipeline) else thing
    emitters = one.make(**({'workers': workers} if workers else {}))
    return [Member(f'{name or one.name} ({emitter.stream_name})' if len(emitters) > 1 else name or one.name,
                   partial(_given, emitter), one.source if n == 0 else None) for n, emitter in enumerate(emitters)]


def _given(emitter: WindowEmitter) -> WindowEmitter:
    return emitter


def _made_by(function: Any, shown: str, url: str | None, workers: int | None) -> list[Member]:
    """The consumers that a function defines, as those that are given to ``StreamingApp.start_streaming`` do."""
    try:
        takes = set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        takes = set()
    with collecting() as found:
        try:
            made = function(**({'url': url} if 'url' in takes else {}))
        except MinibatchError:
            raise
        except Exception as error:
            raise NotLoaded(_told(f'{shown}()', error)) from error
    emitters = made if isinstance(made, (list, tuple)) else [made]
    chosen = [*found, *(each for each in emitters if isinstance(each, (WindowEmitter, Pipeline)))]
    if not chosen:
        raise OptionError(f'{shown} is no consumer, and defines none: decorate it with @mb.streaming(...)')
    return [member for each in chosen for member in _members(each, workers)]


def _makers(module: ModuleType) -> Iterator[str]:
    """Functions of the module that take a ``url``, as those do that define a consumer."""
    for name, thing in vars(module).items():
        if inspect.isfunction(thing) and thing.__module__ == module.__name__ and 'url' in thing.__code__.co_varnames[
                :thing.__code__.co_argcount]:
            yield name


def _load(where: str) -> ModuleType:
    """Import a module, or a file as the module that Python would take it for, in worker processes too."""
    path = file_of(where)
    name = where
    if path is not None:
        if not path.is_file():
            raise OptionError(f'there is no file {where}')
        name, top = path.stem, path.parent
        while (top / '__init__.py').is_file():
            name, top = f'{top.name}.{name}', top.parent
    else:
        top = Path.cwd()
    if str(top) not in sys.path:
        sys.path.insert(0, str(top))
    try:
        module = importlib.import_module(name)
    except MinibatchError:
        raise
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f'{error.name}.')):
            raise OptionError(f'there is no module {name!r}, looked for from {top}') from None
        raise NotLoaded(_told(where, error)) from error
    except Exception as error:
        raise NotLoaded(_told(where, error)) from error
    except SystemExit as error:
        raise NotLoaded(f'{where} ended the process while it was loaded (exit code {error.code}); what only its '
                        "command does belongs below if __name__ == '__main__'") from error
    if path is not None and Path(str(module.__file__)).resolve() != path:
        raise OptionError(f'{where} cannot be loaded as module {name!r}, since there is another one of that name '
                          f'({module.__file__}); rename the file')
    return module


def _told(where: str, error: Exception) -> str:
    """What was raised, and where: the frames of the user's own code."""
    frames = [each for each in traceback.extract_tb(error.__traceback__)
              if '/minibatch/' not in each.filename and 'importlib' not in each.filename]
    lines = ''.join(traceback.format_list(frames)).rstrip()
    last = ''.join(traceback.format_exception_only(error)).rstrip()
    return f'{where} cannot be loaded, and nothing was started:\n{lines}\n{last}' if lines else (
        f'{where} cannot be loaded, and nothing was started: {last}')
