"""Reading documents that people wrote: JSON or YAML."""

import re
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which also takes `1e-3` for a number, as YAML 1.2 and everybody else does."""


_Loader.yaml_implicit_resolvers = dict(yaml.SafeLoader.yaml_implicit_resolvers)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_document(text: str | bytes) -> Any:
    """Parse JSON or YAML (of which JSON is a part).

    Raises:
        ValueError: it is neither, with the place of the first error.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a subclass of the safe loader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"neither JSON nor YAML: {' '.join(str(error).split())}") from None
