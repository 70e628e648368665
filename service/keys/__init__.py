"""Projects, the keys that open them, and the record of who changed what; all of it for admins."""
