"""Run a patch around, or after, the import of the one module that needs it.

A patch costs nothing until its module is imported, and it lasts no longer, and reaches no further, than that module.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

Around = Callable[[], AbstractContextManager[None]]
After = Callable[[ModuleType], None]


class PatchingFinder(MetaPathFinder):
    """Finds the modules that need a patch, and applies it when they are executed.

    Owner of the two tables of patches. They are filled while :mod:`model_chat.compat` is imported and only read afterwards,
    so that no lock is needed beyond Python's own import lock.
    """

    def __init__(self) -> None:
        self._around: dict[str, list[Around]] = {}
        self._after: dict[str, list[After]] = {}

    def around(self, *modules: str) -> Callable[[Around], Around]:
        """Decorate a context manager function to be entered while each of ``modules`` is executed."""

        def register(patch: Around) -> Around:
            for module in modules:
                self._around.setdefault(module, []).append(patch)
            return patch

        return register

    def after(self, module: str) -> Callable[[After], After]:
        """Decorate a function to be called with ``module`` once that has been executed."""

        def register(patch: After) -> After:
            self._after.setdefault(module, []).append(patch)
            return patch

        return register

    def patched_modules(self) -> Iterator[str]:
        """Names of the modules that a patch waits for."""
        yield from sorted(self._around.keys() | self._after.keys())

    def install(self) -> None:
        """Put this finder first on ``sys.meta_path``; a second call changes nothing.

        Modules that were imported before are patched at once, as far as an already executed module can be.
        """
        if self in sys.meta_path:
            return
        sys.meta_path.insert(0, self)
        for name, patches in self._after.items():
            if name in sys.modules:
                for patch in patches:
                    patch(sys.modules[name])

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the ordinary spec of a module that needs a patch, with its execution wrapped; else None."""
        if fullname not in self._around and fullname not in self._after:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def patched_execute(module: ModuleType) -> None:
            with ExitStack() as patches:
                for around in self._around.get(fullname, []):
                    patches.enter_context(around())
                execute(module)
            for after in self._after.get(fullname, []):
                after(module)

        # On the instance: importlib asks the spec's loader object, and nobody else uses this one.
        spec.loader.exec_module = patched_execute  # type: ignore[method-assign]  # the wrapping is the point
        return spec


FINDER = PatchingFinder()
