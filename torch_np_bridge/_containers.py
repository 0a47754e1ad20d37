"""How a container is taken apart and made again: by its items and its attributes, without its constructor.

A constructor may want other arguments, refuse arrays, or compute. What an object is lies in the items of the built-in
type that it extends, in its ``__dict__`` and in its ``__slots__``; all three come back, so that nothing is lost.
Nothing here keeps a reference to the object itself.
"""

from __future__ import annotations

import collections
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import optree

Entries: TypeAlias = tuple[Any, ...]


class Attribute(NamedTuple):
    """The entry of a child that is an attribute; any other entry is a key or an index."""

    name: str


class Step(optree.PyTreeEntry):
    """One step of a path through a container of ours."""

    __slots__ = ()

    def codify(self, /, node: str = "") -> str:
        if isinstance(self.entry, Attribute):
            return f"{node}.{self.entry.name}"
        return node if self.entry is None else f"{node}[{self.entry!r}]"


class Shape(NamedTuple):
    """All of a container but its children."""

    items: int
    keys: Entries
    detail: Any  # the maxlen of a deque, the default_factory of a defaultdict
    attributes: tuple[str, ...]
    slots: tuple[Any, ...]  # the descriptors of those that are set
    shared: frozenset[str]  # attributes that are the item of the same name, as Hugging Face's outputs have them
    is_own_dict: bool  # attributes and items are one dict: self.__dict__ = self


class Container(NamedTuple):
    """The two directions of one class."""

    take: Callable[[Any], tuple[list[Any], Any, Entries]]
    make: Callable[[Any, Iterable[Any]], Any]


# The more special ones first: each has something beside the items of its own base.
_BASES: tuple[type[Any], ...] = (
    collections.OrderedDict,
    collections.defaultdict,
    dict,
    list,
    tuple,
    collections.deque,
    object,
)


def base_of(cls: type) -> type[Any]:
    """The built-in container that ``cls`` extends, or ``object``."""
    return next(base for base in _BASES if issubclass(cls, base))


def can_be_made(cls: type) -> bool:
    """Whether an empty ``cls`` can be had from :func:`base_of`: classes written in C have a state of their own."""
    if hasattr(cls, "__del__"):
        return True  # a trial would run it on an object that nobody has made
    base: Any = base_of(cls)
    try:
        base.__new__(cls)
    except TypeError:
        return False
    return True


def container(cls: Any) -> Container:
    """Instances of ``cls`` by the items of its built-in base, if it has one, and by their attributes."""
    base: Any = base_of(cls)
    is_dict, has_dict = issubclass(base, dict), cls.__dictoffset__ != 0
    descriptors = _slots(cls)
    names = tuple(map(Attribute, getattr(cls, "_fields", ()))) if base is tuple else ()

    def take(obj: Any) -> tuple[list[Any], Shape, Entries]:
        keys: Entries = ()
        detail = None
        if is_dict:
            pairs = list(base.items(obj))  # at once: another thread may take one away meanwhile
            keys = entries = tuple(key for key, _ in pairs)
            children = [value for _, value in pairs]
            if base is collections.defaultdict:
                detail = _default_factory.__get__(obj)
        else:
            children = [] if base is object else list(base.__iter__(obj))
            entries = names if len(names) == len(children) else tuple(range(len(children)))
            if base is collections.deque:
                detail = _maxlen.__get__(obj)
        items = len(children)
        attributes = object.__getattribute__(obj, "__dict__") if has_dict else {}
        is_own_dict = attributes is obj
        attributes = {} if is_own_dict else dict(attributes)  # a copy: another thread may set one meanwhile
        slots = [slot for slot in descriptors if _is_set(slot, obj)]
        shared = frozenset(name for name, value in attributes.items() if is_dict and _is_item(obj, name, value))
        named = [(Attribute(name), value) for name, value in attributes.items() if name not in shared]
        named += [(Attribute(slot.__name__), slot.__get__(obj)) for slot in slots]
        children += [value for _, value in named]
        shape = Shape(items, keys, detail, tuple(attributes), tuple(slots), shared, is_own_dict)
        return children, shape, (*entries, *(entry for entry, _ in named))

    def make(shape: Shape, children: Iterable[Any]) -> Any:
        values = list(children)
        items, rest = values[: shape.items], iter(values[shape.items :])
        obj = base.__new__(cls, items) if base is tuple else base.__new__(cls)
        if is_dict:
            if base is collections.defaultdict:
                _default_factory.__set__(obj, shape.detail)
            for key, value in zip(shape.keys, items, strict=True):
                base.__setitem__(obj, key, value)
        elif base is list:
            list.extend(obj, items)
        elif base is collections.deque:
            collections.deque.__init__(obj, items, shape.detail)
        # Not by setattr: a class may guard its attributes, and frozen dataclasses do.
        if shape.is_own_dict:
            object.__setattr__(obj, "__dict__", obj)
        elif shape.attributes:
            attributes = object.__getattribute__(obj, "__dict__")
            for name in shape.attributes:
                attributes[name] = dict.__getitem__(obj, name) if name in shape.shared else next(rest)
        for slot in shape.slots:
            slot.__set__(obj, next(rest))
        return obj

    return Container(take, make)


def mapping_by_constructor(cls: Any) -> Container:
    """A Mapping written in C, which may be made from a dict."""

    def take(obj: Any) -> tuple[list[Any], Entries, Entries]:
        keys = tuple(obj)
        return [obj[key] for key in keys], keys, keys

    def make(keys: Entries, children: Iterable[Any]) -> Any:
        return cls(dict(zip(keys, children, strict=True)))

    return Container(take, make)


def comes_back(made: Container, obj: Mapping[Any, Any]) -> bool:
    """Whether a Mapping that is made again, with the values that it has, is the same."""
    children, keys, _ = made.take(obj)
    try:
        again = made.make(keys, children)
        return type(again) is type(obj) and tuple(again) == keys and all(again[key] is obj[key] for key in keys)
    except Exception:
        return False


_default_factory: Any = vars(collections.defaultdict)["default_factory"]
_maxlen: Any = vars(collections.deque)["maxlen"]


def _is_item(obj: Any, key: str, value: Any) -> bool:
    return dict.__contains__(obj, key) and dict.__getitem__(obj, key) is value


def _slots(cls: type) -> list[Any]:
    """The descriptors of what ``cls`` and its bases have in ``__slots__``, which run no code of the class."""
    members = [vars(base).values() for base in cls.__mro__ if "__slots__" in vars(base)]
    return [member for group in members for member in group if isinstance(member, types.MemberDescriptorType)]


def _is_set(slot: Any, obj: Any) -> bool:
    try:
        slot.__get__(obj)
    except AttributeError:
        return False
    return True
