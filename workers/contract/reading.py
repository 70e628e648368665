"""Reading documents that people wrote: JSON or YAML."""

import re
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which also takes `1e-3` for a number, as YAML 1.2 and everybody else does.

    Of a key that is there twice it does not take the last one.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value in lines:
                raise ValueError(f"{key.value} is there twice, in line {lines[key.value]} and in line {line}")
            lines[str(key.value)] = line
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = dict(yaml.SafeLoader.yaml_implicit_resolvers)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_document(text: str | bytes) -> Any:
    """Parse JSON or YAML (of which JSON is a part).

    Raises:
        ValueError: it is neither, with the place of the first error; or says something twice.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a subclass of the safe loader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"neither JSON nor YAML: {' '.join(str(error).split())}") from None
