"""Events that happened since the histories were prepared, kept in SQLite or PostgreSQL."""

__all__: list[str] = []
