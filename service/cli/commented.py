"""A document as YAML in which comments say what its fields mean."""

from collections.abc import Iterator

import yaml
from pydantic import BaseModel


def commented(document: BaseModel) -> str:
    """Reads as the same document."""
    return "\n".join(_lines(document, indent=""))


def _lines(document: BaseModel, *, indent: str) -> Iterator[str]:
    for name, field in type(document).model_fields.items():
        value = getattr(document, name)
        comment = f"  # {' '.join(field.description.split())}" if field.description else ""
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:{comment}"
            yield from _lines(value, indent=f"{indent}  ")
        else:
            plain = document.model_dump(mode="json", include={name})
            flow = None if isinstance(value, tuple) else False  # all in one line
            yield f"{indent}{yaml.safe_dump(plain, default_flow_style=flow, width=1000).rstrip()}{comment}"
