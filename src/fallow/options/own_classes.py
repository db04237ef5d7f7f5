"""Import the user's own classes, ``package.module:Class``, and check their type before calling them.

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
from .own_errors import ENDINGS, exit_error, known_error
from .train_options import LIBRARIES

CLASS_COUNTS = ("num_classes", "n_classes", "num_labels")
"""Parameters that are filled with the number of classes if the user gives none of them."""
_OTHERS = ("hf", *LIBRARIES)
"""``hf:NAME`` names something on Hugging Face, ``timm:NAME`` a network of a library."""
_FROM_A_RUN = "Nothing is imported from a run's folder."


def is_import_path(name: str) -> bool:
    """Return whether ``name`` has the form ``package.module:Class``."""
    module, colon, attribute = name.partition(":")
    return (
        module not in _OTHERS
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
    """Return an instance of the class at ``package.module:Class``, from the working folder or installed.

    It is only called if it is a subclass of ``kind`` with all ``methods``, or a function that is annotated to
    return one.

    Args:
        path: as the user has named it in this session.
        arguments: of the class.
        kind: the required base class.
        methods: the required methods.
        classes: the number of classes, for a parameter of :data:`CLASS_COUNTS`; None if it is unknown.
        run: the folder of the run that is resumed; nothing is imported from there.

    Raises:
        InvalidValue: if it does not exist, has another type, or does not take the arguments.
    """
    maker = _attribute(_module(path, run), path)
    result = _result_type(maker)
    if result is None or not issubclass(result, kind) or not _has_methods(result, methods):
        rule, wanted = f"of the kind {kind.__name__}", f"subclass of {kind.__name__}"
        if kind is object:
            wanted = f"class with {' and '.join(methods)}"
            rule = f"a {wanted}"
        step = f"Name a {wanted}, or a function whose annotation says that it returns one."
        raise invalid(f"{path} must be {rule}. It was not called.", _described(maker), step)
    given = dict(arguments)
    if classes is not None and not any(name in given for name in CLASS_COUNTS):
        given |= dict.fromkeys(_class_counts(maker, result)[:1], classes)
    try:
        # Before the call, so that a TypeError inside of it is not taken for a wrong argument.
        inspect.signature(maker).bind(**given)
    except (TypeError, ValueError) as error:
        raise invalid(f"{path} must take the arguments it is given.", str(error)) from None
    try:
        instance = maker(**given)
    except FallowError:
        raise
    except ENDINGS as error:
        raise exit_error(path, error) from error
    except Exception as error:
        if (known := known_error(path, error)) is not None:
            raise known from error
        rule = f"{path} must be created without an error."
        raise invalid(rule, _line(error), "Check its arguments.") from error
    promised = result if kind is object else kind
    if not isinstance(instance, promised):
        raise invalid(f"{path} must return a {promised.__name__}.", type(instance).__name__)
    if kind is not object:
        _refuse_half_made(instance, kind, path)
    return instance


def _has_methods(kind: type, methods: tuple[str, ...]) -> bool:
    return all(callable(getattr(kind, name, None)) for name in methods)


def _refuse_half_made(instance: Any, kind: type, path: str) -> None:
    """Raise if an instance lacks an attribute that the constructor of ``kind`` sets."""
    missing = [name for name in vars(kind()) if not hasattr(instance, name)]
    if missing:
        step = "Call super().__init__() first in its __init__."
        raise invalid(f"{path} must be a fully initialised {kind.__name__}.", f"no {missing[0]}", step)


def _module(path: str, run: str | os.PathLike[str] | None) -> ModuleType:
    """Import the module part by part, each only if it does not lie in the folder of a run.

    Importing ``a.b`` runs ``a/__init__.py`` too.
    """
    name = path.partition(":")[0]
    here = working_folder()
    banned = here is None or run_around(here) is not None or (run is not None and is_inside(here, run))
    # The console script, unlike `python -m`, does not put the working folder on the path.
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
        step = "Run fallow in the folder of its module."
        if error.name is not None and error.name != name and not name.startswith(f"{error.name}."):
            # The module itself was found, but not one that it imports.
            step = "Install what it imports."
        elif banned:
            step = f"{_FROM_A_RUN} Run fallow in the folder of its module."
        raise invalid(f"{path} must be importable.", str(error), step) from None
    except ENDINGS as error:
        raise exit_error(path, error) from error
    except Exception as error:
        raise invalid(f"{path} must be importable.", _line(error), "Fix its module.") from error
    return module


def _refuse_run(path: str, module: str, run: str | os.PathLike[str] | None) -> None:
    """Raise if a module lies in the folder of a run; its parents are already imported."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):  # the import reports the error; a loaded module may have no spec
        return
    if spec is None:
        return
    # The origin of a built-in module is a word, not a place.
    places = [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.has_location else [])]
    for place in filter(None, places):
        if run_around(place) is not None or (run is not None and is_inside(place, run)):
            raise invalid(f"{path} must lie outside run folders.", place, f"{_FROM_A_RUN} Move its module.")


def _attribute(module: ModuleType, path: str) -> Any:
    name = path.partition(":")[2]
    try:
        return getattr(module, name)
    except AttributeError:
        found = f"no {name} there"
        raise invalid(f"{module.__name__} must define {name}.", found, "Check the spelling.") from None


def _result_type(maker: Any) -> type | None:
    """Return the class whose instances a call returns; None if that is unknown before the call."""
    if isinstance(maker, type):
        return maker
    if not isinstance(maker, FunctionType):  # an instance, a partial, a built-in function, a bound method
        return None
    inner = inspect.unwrap(maker)
    # Under `from __future__ import annotations` an annotation is a string that has to be evaluated.
    try:
        hint = get_type_hints(_Only(inner.__annotations__.get("return")), inner.__globals__).get("return")
    except Exception:  # an annotation may hold anything
        return None
    return hint if isinstance(hint, type) else None


class _Only:
    """An object with the annotation of a result alone: other annotations may name what does not exist."""

    def __init__(self, hint: Any) -> None:
        self.__annotations__ = {} if hint is None else {"return": hint}


def _class_counts(maker: Any, result: type) -> list[str]:
    """Return the parameters for the number of classes; behind ``**kwargs`` those of the result."""
    parameters = _parameters(maker)
    named = [name for name in CLASS_COUNTS if name in parameters]
    if named or maker is result or not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return named
    passed_on = _parameters(result)
    return [name for name in CLASS_COUNTS if name in passed_on]


def _parameters(maker: Any) -> Mapping[str, inspect.Parameter]:
    try:
        parameters = inspect.signature(maker).parameters
    except (TypeError, ValueError):
        return {}
    return {name: p for name, p in parameters.items() if p.kind is not p.POSITIONAL_ONLY}


def _described(value: Any) -> str:
    """Return what a value is, without calling its own methods, such as ``__repr__``."""
    if isinstance(value, type):
        return f"the class {value.__module__}.{value.__qualname__}"
    if isinstance(value, FunctionType):
        return f"the function {value.__qualname__}, whose annotation names no such class"
    return f"an object of the type {type(value).__module__}.{type(value).__qualname__}"


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def nearly_import_path(name: str) -> InvalidValue | None:
    """Return the error for a misspelt ``package.module:Class``, or None.

    >>> print(nearly_import_path("own:Net.Inner"))
    Your own class must be package.module:Class. Found own:Net.Inner. Name one at the top level of its module.
    >>> nearly_import_path("small-conv"), nearly_import_path("hf:owner/name"), nearly_import_path("C:/data")
    (None, None, None)
    """
    module, _, attribute = name.partition(":")
    dotted = all(part.isidentifier() for part in (*module.split("."), *attribute.split(".")))
    # The name of an existing file or folder may hold a colon.
    if module in _OTHERS or is_import_path(name) or not dotted or os.path.lexists(name):
        return None
    step = "Name one at the top level of its module."
    return invalid("Your own class must be package.module:Class.", name, step)
