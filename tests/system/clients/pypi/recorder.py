"""Notes every public method, property and parameter of the PyPI client that is used.

    record()       before the first connection: wraps all of them, found by introspection
    unused()       those not used since, as `api.Api.list_devices` and `api.Api.list_devices(take)`

A parameter counts as used when it got another value than its default.
"""

import functools
import importlib
import inspect
import pkgutil

import devicehive

_known: set[str] = set()
_used: set[str] = set()


def record():
    for module in pkgutil.walk_packages(devicehive.__path__, "devicehive."):
        for kind in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(kind) and kind.__module__ == module.name:
                _wrap(kind, module.name.removeprefix("devicehive."))


def unused():
    return sorted(_known - _used)


def _wrap(kind, module):
    for name, member in list(vars(kind).items()):
        if name.startswith("_"):
            continue
        full = f"{module}.{kind.__name__}.{name}"
        if isinstance(member, property):
            setattr(kind, name, property(_noting(member.fget, full)))
        elif isinstance(member, staticmethod):
            setattr(kind, name, staticmethod(_noting(member.__func__, full)))
        elif inspect.isfunction(member):
            setattr(kind, name, _noting(member, full))


def _noting(function, full):
    signature = inspect.signature(function)
    named = {p.name: p for p in signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"}
    own = {full, *(f"{full}({name})" for name in named)}
    _known.update(own)

    @functools.wraps(function)
    def noting(*args, **kwargs):
        if own <= _used:
            return function(*args, **kwargs)
        _used.add(full)
        given = signature.bind(*args, **kwargs).arguments
        for name, parameter in named.items():
            if name in given and (parameter.default is parameter.empty or given[name] != parameter.default):
                _used.add(f"{full}({name})")
        return function(*args, **kwargs)

    return noting
