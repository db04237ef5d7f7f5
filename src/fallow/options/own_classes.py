"""Classes of the user's own, as ``package.module:Class``: found, held against a kind, and only then called.

Loads no torch by itself.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from types import FunctionType, ModuleType
from typing import Any, get_type_hints

from ..errors import FallowError, InvalidValue, invalid
from ..import_path import is_inside, run_around, working_folder
from .own_errors import ENDINGS, clearer, ended

CLASS_COUNTS = ("num_classes", "n_classes", "num_labels")
"""Parameters that are given the number of classes if the user names no value."""
_FROM_A_RUN = "Nothing is imported from a run's folder."


def is_import_path(name: str) -> bool:
    """Return whether ``name`` is of the form ``package.module:Class``."""
    module, colon, attribute = name.partition(":")
    return (
        module != "hf"
        and bool(colon)
        and attribute.isidentifier()
        and all(p.isidentifier() for p in module.split("."))
    )


def import_class(
    path: str,
    arguments: Mapping[str, Any],
    kind: type = object,
    *,
    methods: tuple[str, ...] = (),
    classes: int | None = None,
    run: str | os.PathLike[str] | None = None,
) -> Any:
    """Return an instance of the class at ``package.module:Class``, from here or installed.

    Nothing is called that is not known to be of the right kind: a subclass of ``kind`` with all ``methods``,
    or a function whose annotation says that it returns one.

    Args:
        path: as the user has named it in this session.
        arguments: of the class.
        kind: what it must be.
        methods: what it must have; without a ``kind`` they are all that is known of it.
        classes: how many there are, for a parameter of :data:`CLASS_COUNTS`; None if nobody knows.
        run: the folder of the run that goes on: nothing is imported from there.

    Raises:
        InvalidValue: if it is not there, is of another kind, or does not take the arguments.
    """
    found = _attribute(_module(path, run), path)
    made = _made_by(found)
    if made is None or not issubclass(made, kind) or _lacking(made, methods):
        rule, wanted = f"of the kind {kind.__name__}", f"subclass of {kind.__name__}"
        if kind is object:
            wanted = f"class with {' and '.join(methods)}"
            rule = f"a {wanted}"
        step = f"Name a {wanted}, or a function whose annotation says that it returns one."
        raise invalid(f"{path} must be {rule}. It was not called.", _told(found), step)
    given = dict(arguments)
    if classes is not None and not any(name in given for name in CLASS_COUNTS):
        given |= dict.fromkeys(_class_counts(found, made)[:1], classes)
    try:
        inspect.signature(found).bind(**given)
    except (TypeError, ValueError) as error:
        raise invalid(f"{path} must take the arguments it is given.", str(error)) from None
    try:
        instance = found(**given)
    except FallowError:
        raise
    except ENDINGS as error:
        raise ended(path, error) from error
    except Exception as error:
        if (known := clearer(path, error)) is not None:
            raise known from error
        said = f"{type(error).__name__}: {_line(error)}"
        raise invalid(f"{path} must be made without an error.", said, "Look at its arguments.") from error
    promised = made if kind is object else kind
    if not isinstance(instance, promised):
        raise invalid(f"{path} must give a {promised.__name__}.", type(instance).__name__)
    if kind is not object:
        _refuse_half_made(instance, kind, path)
    return instance


def _lacking(made: type, methods: tuple[str, ...]) -> list[str]:
    """Return which methods a class does not have."""
    return [name for name in methods if not callable(getattr(made, name, None))]


def _refuse_half_made(instance: Any, kind: type, path: str) -> None:
    """Raise for an instance that lacks what the constructor of its kind sets."""
    lacking = [name for name in vars(kind()) if not hasattr(instance, name)]
    if lacking:
        step = "Call super().__init__() first in its __init__."
        raise invalid(f"{path} must be a {kind.__name__} that was made whole.", f"no {lacking[0]}", step)


def _module(path: str, run: str | os.PathLike[str] | None) -> ModuleType:
    """Import the module part by part, each only if it does not lie in a run."""
    name = path.partition(":")[0]
    here = working_folder()
    banned = here is None or run_around(here) is not None or (run is not None and is_inside(here, run))
    if not banned and here is not None and here not in sys.path:
        sys.path.insert(0, here)
    parts = name.split(".")
    try:
        for end in range(1, len(parts) + 1):
            part = ".".join(parts[:end])
            _refuse_run(path, part, run)
            module = import_module(part)
    except FallowError:
        raise
    except ModuleNotFoundError as error:
        step = "Run fallow where its module lies."
        if error.name is not None and error.name != name and not name.startswith(f"{error.name}."):
            step = "Install what it imports."
        elif banned:
            step = f"{_FROM_A_RUN} Run fallow where its module lies."
        raise invalid(f"{path} must be importable.", str(error), step) from None
    except ENDINGS as error:
        raise ended(path, error) from error
    except Exception as error:
        said = f"{type(error).__name__}: {_line(error)}"
        raise invalid(f"{path} must be importable.", said, "Mend its module.") from error
    return module


def _refuse_run(path: str, module: str, run: str | os.PathLike[str] | None) -> None:
    """Raise for a module that lies in the folder of a run; its parents are imported already."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):  # importing it says why; one that is loaded may have no spec
        return
    if spec is None:
        return
    places = [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.has_location else [])]
    for place in filter(None, places):
        if run_around(place) is not None or (run is not None and is_inside(place, run)):
            raise invalid(f"{path} must lie outside of runs.", place, f"{_FROM_A_RUN} Move its module.")


def _attribute(module: ModuleType, path: str) -> Any:
    name = path.partition(":")[2]
    try:
        return getattr(module, name)
    except AttributeError:
        found = f"no {name} there"
        raise invalid(f"{module.__name__} must define {name}.", found, "Check the spelling.") from None


def _made_by(found: Any) -> type | None:
    """Return the class whose instances a call gives; None if that is not known before the call."""
    if isinstance(found, type):
        return found
    if not isinstance(found, FunctionType):  # an instance, a partial, a built-in function, a bound method
        return None
    inner = inspect.unwrap(found)
    try:
        hint = get_type_hints(_Only(inner.__annotations__.get("return")), inner.__globals__).get("return")
    except Exception:  # an annotation may hold anything
        return None
    return hint if isinstance(hint, type) else None


class _Only:
    """An object with the annotation of a function's result alone: others may name what is not there."""

    def __init__(self, hint: Any) -> None:
        self.__annotations__ = {} if hint is None else {"return": hint}


def _class_counts(found: Any, made: type) -> list[str]:
    """Return which parameters take the number of classes; behind ``**kwargs`` those of the class made."""
    parameters = _parameters(found)
    named = [name for name in CLASS_COUNTS if name in parameters]
    if named or found is made or not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return named
    behind = _parameters(made)
    return [name for name in CLASS_COUNTS if name in behind]


def _parameters(found: Any) -> Mapping[str, inspect.Parameter]:
    try:
        parameters = inspect.signature(found).parameters
    except (TypeError, ValueError):
        return {}
    return {name: one for name, one in parameters.items() if one.kind is not one.POSITIONAL_ONLY}


def _told(found: Any) -> str:
    """Return what something is, without asking it."""
    if isinstance(found, type):
        return f"the class {found.__module__}.{found.__qualname__}"
    if isinstance(found, FunctionType):
        return f"the function {found.__qualname__}, whose annotation names no such class"
    return f"an object of the type {type(found).__module__}.{type(found).__qualname__}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def nearly_import_path(name: str) -> InvalidValue | None:
    """Return the error for a name that was to be ``package.module:Class``, but is not quite; else None.

    >>> print(nearly_import_path("own:Net.Inner"))
    A class of your own must be package.module:Class. Found own:Net.Inner. Name one at the top of its module.
    >>> nearly_import_path("small-conv"), nearly_import_path("hf:owner/name"), nearly_import_path("C:/data")
    (None, None, None)
    """
    module, _, attribute = name.partition(":")
    dotted = all(part.isidentifier() for part in (*module.split("."), *attribute.split(".")))
    if module == "hf" or is_import_path(name) or not dotted or os.path.lexists(name):
        return None
    step = "Name one at the top of its module."
    return invalid("A class of your own must be package.module:Class.", name, step)
