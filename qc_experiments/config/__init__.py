"""What a user may set: the schema, its composition, the overrides as they are typed."""
