"""The language of models: statements, handlers, scopes, addresses, and the traces of executions."""
