"""Names for objects: how "adam", {"class_name": "Adam", ...} and Adam() come to mean the same.

Each family keeps one explicit list of its classes. Nothing is ever imported because a string or a
file names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

__all__ = ["Registry", "snake_case"]

T = TypeVar("T")


def snake_case(name: str) -> str:
    """A class's name as users write it in a string: LeakyReLU -> leaky_re_lu, as Keras has it."""
    name = re.sub(r"\W", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


class Registry(Generic[T]):
    """The classes of one family, found by name.

    Args:
        family: what an object of it is called in messages, as "optimizer".
        base: the class they derive from.
        classes: the classes.
        aliases: further names, as {"mse": MeanSquaredError}.
    """

    def __init__(
        self,
        family: str,
        base: type[T],
        classes: Iterable[type[T]],
        aliases: Mapping[str, type[T]] | None = None,
    ) -> None:
        self.family = family
        self.base = base
        self.classes: dict[str, type[T]] = {}
        for item in classes:
            self.classes[item.__name__] = item
        self.names = {snake_case(name): item for name, item in self.classes.items()}
        for alias, item in (aliases or {}).items():
            (self.names if alias.islower() else self.classes)[alias] = item

    def find(self, name: str, custom: Mapping[str, Any] | None = None) -> type[T]:
        """The class of a name, CamelCase or snake_case.

        Raises:
            ValueError: if there is none.
        """
        found = (custom or {}).get(name) or self.classes.get(name) or self.names.get(name.lower())
        if found is None:  # "rmsprop", "globalaveragepooling2d"
            found = {key.lower(): item for key, item in self.classes.items()}.get(name.lower())
        if found is None:
            known = ", ".join(sorted(self.names))
            raise ValueError(
                f"[{self.family}] unknown {self.family} {name!r}; known are {known}. "
                "A class of your own is given as an object, or in custom_objects"
            )
        return found

    def get(self, identifier: Any, custom: Mapping[str, Any] | None = None) -> T:
        """The object that an argument means: a name, a config, a class or the object itself.

        Raises:
            ValueError: if it is none of these.
        """
        if isinstance(identifier, self.base):
            return identifier
        if isinstance(identifier, str):
            return self.find(identifier, custom)()
        if isinstance(identifier, Mapping) and "class_name" in identifier:
            made: Any = self.find(identifier["class_name"], custom)
            return made.from_config(dict(identifier.get("config", {})))
        if isinstance(identifier, type) and issubclass(identifier, self.base):
            return identifier()
        raise ValueError(
            f"[{self.family}] expected a name, a config (a dict with class_name and config) or an "
            f"object of {self.base.__name__}; received {identifier!r}"
        )

    def serialize(self, item: Any) -> dict[str, Any] | None:
        """{"class_name", "config"} of an object, None for None; `get` makes it again."""
        if item is None:
            return None
        return {"class_name": type(item).__name__, "config": item.get_config()}
