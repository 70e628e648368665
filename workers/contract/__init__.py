"""What the two halves agree on: job documents, the records workers leave behind, and where they lie in the store.

Pydantic, PyYAML and the standard library only, so that a client can use it without torch, ray or a web framework.
"""
