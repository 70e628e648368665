"""The schemas beside this file, from the CustomResourceDefinitions of their projects: `python shrink.py crd.yaml`.

Descriptions are left out, and what embeds whole Kubernetes types (templates of pods, Services), which is validated as
what it is. What the definition does not name is refused, as `kubectl --validate=strict` does.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

_EMBEDDED = ("template", "headService")


def shrunk(schema: Any) -> Any:
    if isinstance(schema, list):
        return [shrunk(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: shrunk(value) for key, value in schema.items() if key != "description" or not isinstance(value, str)}
    kept = {key: value for key, value in kept.items() if not key.startswith("x-kubernetes-")}
    properties = kept.get("properties")
    if isinstance(properties, dict) and "additionalProperties" not in kept:
        for name in _EMBEDDED:
            if name in properties:
                properties[name] = {"type": "object"}
        kept["additionalProperties"] = False
    return kept


def main() -> None:
    definition = yaml.safe_load(Path(sys.argv[1]).read_text())
    (version,) = (one for one in definition["spec"]["versions"] if one["name"] == "v1")
    schema = shrunk(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    del schema["properties"]["status"]
    sys.stdout.write(json.dumps(schema, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
