"""Named parts. A registry never guesses: a duplicate name and an unknown name are both errors that say what exists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, TypeVar

T = TypeVar("T")


class Registry:
    """Maps a name, or the source of a `source:name` id, to whatever builds the part.

    A bare id (`"unet"`) is looked up whole. An id with a colon (`"timm:resnet18"`) is looked up by its source
    (`"timm"`), and the rest is handed to the builder as `name`.

    Installed packages can add parts without being imported first: an entry point in the group
    `reclmis.<kind>` (for example `reclmis.visual_backbone`) is loaded when its name is first asked for.
    """

    def __init__(self, kind: str, builtins: str | None = None) -> None:
        """
        Args:
            kind: what it holds, for messages and entry points.
            builtins: the module that registers this package's own parts. It is imported when a part is first looked up or
                added, so that a name may be asked for before anything heavy is needed.
        """
        self.kind = kind
        self._parts: dict[str, Any] = {}
        self._builtins = builtins

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that adds a part under `name`.

        Raises:
            ValueError: `name` is taken by another part, is empty, or holds a colon (colons separate source and name).
        """
        if not name or ":" in name:
            raise ValueError(f"A {self.kind} needs a non-empty name without a colon, got {name!r}.")

        def add(part: T) -> T:
            if not _origin(part).startswith(f"{__package__}."):
                self._load_builtins()
            present = self._parts.get(name)
            if present is not None and present is not part:
                raise ValueError(
                    f"The {self.kind} {name!r} is registered already, by {_origin(present)}. Choose another name."
                )
            self._parts[name] = part
            return part

        return add

    def get(self, part_id: str) -> Any:
        """The part registered for `part_id` (`"name"` or `"source:name"`).

        Raises:
            ValueError: nothing has that name; the message lists what exists.
        """
        name = part_id.partition(":")[0]
        self._load_builtins()
        if name not in self._parts:
            self._load_entry_point(name)
        if name not in self._parts:
            raise ValueError(f"Unknown {self.kind} {part_id!r}. Registered: {', '.join(self) or 'none'}.")
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        self._load_builtins()
        return iter(sorted({*self._parts, *(point.name for point in self._entry_points())}))

    def __contains__(self, part_id: str) -> bool:
        return part_id.partition(":")[0] in set(self)

    def _load_builtins(self) -> None:
        builtins, self._builtins = self._builtins, None
        if builtins is not None:
            import_module(builtins)

    def _entry_points(self):
        return entry_points(group=f"reclmis.{self.kind.replace(' ', '_')}")

    def _load_entry_point(self, name: str) -> None:
        for point in self._entry_points():
            if point.name == name:
                part = point.load()
                # The module may have registered itself through the decorator while it was loading.
                if name not in self._parts:
                    self.register(name)(part)


def _origin(part: Any) -> str:
    return f"{getattr(part, '__module__', '?')}.{getattr(part, '__qualname__', repr(part))}"


visual_backbones = Registry("visual backbone", f"{__package__}.vision")
text_encoders = Registry("text encoder", f"{__package__}.text")
data_sources = Registry("data source", f"{__package__}.data")

register_visual_backbone = visual_backbones.register
register_text_encoder = text_encoders.register
register_data_source = data_sources.register
