"""What people look at: progress, tables, and where a value comes from."""
