"""Hydra's view of the project: every component is a config made from its signature, every recipe a config at the asked scale."""

from contextvars import ContextVar

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from runner.config import recipes, registry
from runner.config.places import CONF
from runner.config.schema import schema
from runner.config.settings import SECTIONS

SCALE: ContextVar[str] = ContextVar("scale", default="mini")
CHOSEN: ContextVar[dict] = ContextVar("chosen", default={})  # noqa: B039 - never changed in place

COMPLETING: ContextVar[bool] = ContextVar("completing", default=False)  # names are listed with their folders then, which Hydra's glob(*) does not look into


class _Source(ConfigSource):
    """A config source over a dict: group -> names of its options."""

    def groups(self) -> dict[str, list[str]]:
        raise NotImplementedError

    def content(self, group: str, name: str) -> tuple[dict, str | None]:
        """The config of an option and its package."""
        raise NotImplementedError

    def available(self) -> bool:
        return True

    def load_config(self, config_path: str) -> ConfigResult:
        path = config_path.removesuffix(".yaml")
        if not self.is_config(path):
            raise ConfigLoadError(f"no config {path}")
        config, package = self.content(*self._split(path))
        return ConfigResult(provider=self.provider, path=f"{self.scheme()}://", config=OmegaConf.create(config), header={"package": package})

    def _split(self, path: str) -> tuple[str, str]:
        group = next((g for g in sorted(self.groups(), key=len, reverse=True) if path.startswith(f"{g}/")), "")
        return group, path.removeprefix(f"{group}/")

    def is_group(self, config_path: str) -> bool:
        path = config_path.strip("/")
        inside = any(n.startswith(f"{path.partition('/')[2]}/") for n in self.groups().get(path.partition("/")[0], ()))
        return path == "" or path in self.groups() or any(g.startswith(f"{path}/") for g in self.groups()) or ("/" in path and inside)

    def is_config(self, config_path: str) -> bool:
        group, name = self._split(config_path.removesuffix(".yaml").strip("/"))
        return name in self.groups().get(group, ())

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        path = config_path.strip("/")
        below = [*self.groups(), *(f"{g}/{n}" for g, names in self.groups().items() for n in names)]
        rest = [b.removeprefix(f"{path}/") if path else b for b in below if not path or b.startswith(f"{path}/")]
        configs = {f"{g}/{n}" for g, names in self.groups().items() for n in names}
        full = lambda leaf: f"{path}/{leaf}" if path else leaf
        found = set(rest) if COMPLETING.get() else {r.split("/")[0] for r in rest}
        if results_filter == ObjectType.CONFIG:
            found = {f for f in found if full(f) in configs}
        if results_filter == ObjectType.GROUP:
            found = {f for f in found if self.is_group(full(f)) and full(f) not in configs}
        return sorted(found)


class ComponentSource(_Source):
    """`components://`: group `loss` has an option `gce` because there is a file components/loss/gce.py."""

    @staticmethod
    def scheme() -> str:
        return "components"

    def groups(self):
        found = {group: list(registry.options(group)) for group in registry.GROUPS}
        found |= {f"{group}/also": list(registry.options(group)) for group in registry.EXTENDABLE}
        return {**found, "settings": list(SECTIONS)}

    def content(self, group, name):
        if group == "settings":
            return SECTIONS[name].defaults(), "_global_" if name == "run" else name
        base = group.removesuffix("/also")
        package = f"{base}.{name}" if group != base or registry.GROUPS[base] else None
        defaults = {k: list(v) if isinstance(v, tuple) else v for k, v in schema(base, name).defaults().items()}
        return {"name": name, **defaults}, package


class RecipeSource(_Source):
    """`recipes://`: group `recipe` is the folder `recipes/`, read at the scale that is asked for."""

    @staticmethod
    def scheme() -> str:
        return "recipes"

    def groups(self):
        return {"recipe": list(recipes.names())}

    def content(self, group, name):
        return recipes.at_scale(name, SCALE.get(), CHOSEN.get()), "_global_"


class SearchPath(SearchPathPlugin):
    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for provider, path in (("conf", f"file://{CONF}"), ("components", "components://all"), ("recipes", "recipes://all")):
            search_path.append(provider, path)
        for folder in registry.folders()[1:]:
            search_path.append("user", f"file://{folder}")


def register() -> None:
    """Make Hydra know the sources. Idempotent."""
    for plugin in (ComponentSource, RecipeSource, SearchPath):
        Plugins.instance().register(plugin)
