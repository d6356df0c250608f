"""What is written down: frozen pydantic records. Import from the module that owns the record."""
