"""The paper's table, by the published protocol."""
