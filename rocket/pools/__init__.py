"""The thread pool, and the policies that size it."""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
from typing import Any, Callable, Union

from rocket.errors import ConfigError
from rocket.pools.adaptive import AdaptivePolicy
from rocket.pools.fixed import FixedPolicy
from rocket.pools.load import LoadPolicy
from rocket.pools.policy import Readings, ScalingPolicy
from rocket.pools.queue import QueuePolicy
from rocket.pools.stall import StallPolicy

__all__ = [
    "POLICIES",
    "AdaptivePolicy",
    "FixedPolicy",
    "LoadPolicy",
    "QueuePolicy",
    "Readings",
    "ScalingPolicy",
    "StallPolicy",
    "load",
]

POLICIES: dict[str, type[ScalingPolicy]] = {
    "fixed": FixedPolicy,
    "queue": QueuePolicy,
    "load": LoadPolicy,
    "stall": StallPolicy,
    "adaptive": AdaptivePolicy,
}


def load(scaling: Union[str, ScalingPolicy, Callable[[], ScalingPolicy]]) -> ScalingPolicy:
    """Return the policy that *scaling* means.

    It is a policy (anything with `target`), a callable that makes one, a name from `POLICIES`, or a
    dotted path "package.module:name"; a string may carry arguments: "fixed:8", "queue:age=0.02".
    Raises ConfigError.
    """
    if not isinstance(scaling, str):
        if inspect.isclass(scaling) or not hasattr(scaling, "target"):
            if not callable(scaling):
                raise ConfigError(f"scaling: {scaling!r} is no policy, and no name of one")
            return _checked(_call(scaling, repr(scaling), ""), repr(scaling))
        return _checked(scaling, repr(scaling))
    name, _, arguments = scaling.partition(":")
    if name in POLICIES:
        return _checked(_call(POLICIES[name], scaling, arguments), scaling)
    attribute, _, rest = arguments.partition(":")
    if "." not in name and not attribute.isidentifier():
        near = difflib.get_close_matches(name, POLICIES, 1)
        hint = f": did you mean {near[0]!r}?" if near else f": there are {', '.join(POLICIES)}"
        raise ConfigError(f"scaling: unknown policy {name!r}{hint} (or a dotted path, package.module:name)")
    try:
        found = getattr(importlib.import_module(name), attribute)
    except Exception as exc:  # also what the module itself raises
        raise ConfigError(f"scaling: cannot load {scaling!r}: {exc}") from exc
    if not inspect.isclass(found) and hasattr(found, "target"):
        return _checked(found, scaling)
    return _checked(_call(found, scaling, rest), scaling)


def _call(make: Any, text: str, arguments: str) -> Any:
    """Call *make* with "8,age=0.5" as (8, age=0.5)."""
    positional: list[float] = []
    named: dict[str, float] = {}
    for argument in filter(None, arguments.split(",")):
        key, equals, value = argument.rpartition("=")
        try:
            number = int(value) if value.strip().lstrip("+-").isdigit() else float(value)
            if not math.isfinite(number):
                raise ValueError
        except ValueError:
            raise ConfigError(f"scaling: {value!r} in {text!r} is not a number") from None
        if equals:
            named[key.strip()] = number
        else:
            positional.append(number)
    try:
        return make(*positional, **named)
    except ConfigError:
        raise
    except Exception as exc:
        hint = f" (it takes {takes})" if isinstance(exc, TypeError) and (takes := _parameters(make)) else ""
        raise ConfigError(f"scaling: {text!r}: {exc}{hint}") from exc


def _parameters(make: Any) -> str:
    try:
        return ", ".join(inspect.signature(make).parameters)
    except (TypeError, ValueError):
        return ""  # written in C, or nothing that can be called


def _checked(policy: Any, text: str) -> ScalingPolicy:
    """Let an object through that has a `target`; it need not inherit from ScalingPolicy."""
    if not callable(getattr(policy, "target", None)):
        raise ConfigError(f"scaling: {text} has no method target(readings)")
    return policy  # type: ignore[no-any-return]  # duck-typed on purpose
